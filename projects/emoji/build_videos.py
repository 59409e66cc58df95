"""Builds the animated emoji set: clips to find by name, and questions about them.

Everything comes from packages, by pinned name. The animations may be used by whoever builds the
set, and are not to be passed on: nothing of them is in this repository. README.md says what the
clips show, how they are split, and what is asked.

    python projects/emoji/build_videos.py OUT                    packs 3 and 1, 350 MB to fetch
    python projects/emoji/build_videos.py OUT --packs 3          the smaller set
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoji_concepts import BuildError, key_of, read_concepts
from emoji_packages import check_origin, install, require
from emoji_records import Record, write_rows

logger = logging.getLogger("emoji_videos")

TEXT_PINS = {"openmoji": "17.0.0", "cldr-annotations-full": "48.2.0", "emojilib": "4.0.3"}
PACKS = {number: {f"@lobehub/fluent-emoji-anim-{number}": "1.0.0"} for number in (1, 2, 3, 4)}
DEFAULT_PACKS = (3, 1)
NEEDED = {"pillow": "PIL", "av": "av", "numpy": "numpy", "tqdm": "tqdm"}  # package -> module
WORKERS = 2
LEAST_MOTION = 6.0
"""``emoji_clips.motion`` of a clip of which is asked whether it moves."""


def find_animations(packages: Path, packs: Iterable[int]) -> dict[str, Path]:
    """The animated WebP file of each key; what lacks is fetched, a pack at a time.

    Raises:
        BuildError: a package cannot be fetched, or holds what is no picture.
    """
    from emoji_clips import is_animated

    found: dict[str, Path] = {}
    for number in packs:
        (name,) = PACKS[number]
        logger.info("pack %d: %s", number, name)
        folder = install(packages / f"anim-{number}", PACKS[number]) / name / "assets"
        files = {key_of(path.stem): path for path in sorted(folder.glob("*.webp"))}
        if not files:
            raise BuildError(f"{folder} holds no WebP files")
        found |= {key: path for key, path in files.items() if is_animated(path)}
    return found


def build(packages: Path, out: Path, packs: Sequence[int], workers: int = WORKERS) -> None:
    """Write ``out/videos`` and ``out/annotations``; clips that exist are kept.

    Raises:
        BuildError: a package is not as expected, or ``out`` was built from others.
    """
    from emoji_videos import parts_of

    check_origin(out, TEXT_PINS | {n: v for pins in PACKS.values() for n, v in pins.items()})
    concepts = read_concepts(install(packages / "texts", TEXT_PINS))
    animations = find_animations(packages, packs)
    parts = parts_of(concepts, animations)
    _write_plain(parts, animations, out / "videos", workers)
    questions = ask(parts, out / "videos")
    _write_made(questions, out / "videos", workers)
    write_annotations(parts, questions, out / "annotations")


def ask(parts: Mapping[str, Sequence[Record]], videos: Path) -> dict[str, list[Record]]:
    """The questions of each part; the plain clips are there."""
    from emoji_clips import decoded, motion
    from emoji_video_questions import answer_numbers, part_questions, with_known_answers

    found = {}
    for part, rows in parts.items():
        files = [row["image"] for row in rows]
        moving = {file for file in files if motion(decoded(videos / file)) >= LEAST_MOTION}
        found[part] = part_questions(rows, part, moving)
    known = answer_numbers(found["train"])
    return {part: with_known_answers(records, known) for part, records in found.items()}


def write_annotations(
    parts: Mapping[str, Sequence[Record]], questions: Mapping[str, Sequence[Record]], folder: Path
) -> None:
    """Write ``retrieval_<part>.json``, ``qa_<part>.json`` and ``qa_ans2label.json``."""
    import json

    from emoji_drawings import write_atomic
    from emoji_video_questions import answer_numbers, blind_accuracy
    from emoji_videos import retrieval_records

    for part, rows in parts.items():
        write_rows(retrieval_records(rows, part), folder / f"retrieval_{part}.json")
        write_rows(questions[part], folder / f"qa_{part}.json")
        guess = blind_accuracy(questions["train"], questions[part])
        counts = (part, len(rows), len(questions[part]), 100 * guess)
        logger.info("%s: %d clips, %d questions (%.1f%% guessed without the video)", *counts)
    numbers = answer_numbers(questions["train"])
    write_atomic(folder / "qa_ans2label.json", json.dumps(numbers, indent=1).encode())
    logger.info("%d answers are classes", len(numbers))


def _write_plain(
    parts: Mapping[str, Sequence[Record]],
    animations: Mapping[str, Path],
    videos: Path,
    workers: int,
) -> None:
    from emoji_clips import Clip, keys_of, write_halves

    wanted = (Clip.at(row["image"]) for rows in parts.values() for row in rows)
    absent = [clip for clip in wanted if not (videos / clip.path).exists()]
    jobs = [(animations[key], videos, key, halves) for key, halves in keys_of(absent).items()]
    _work_off(write_halves, jobs, workers, "animations")


def _write_made(questions: Mapping[str, Sequence[Record]], videos: Path, workers: int) -> None:
    from emoji_clips import Clip, write_made

    files = sorted({record["video"] for records in questions.values() for record in records})
    jobs = [(Clip.at(file), videos) for file in files if not (videos / file).exists()]
    _work_off(write_made, jobs, workers, "made clips")


def _work_off(work: Callable[[Any], None], jobs: Sequence[Any], workers: int, label: str) -> None:
    from tqdm import tqdm

    if not jobs:
        return
    if workers == 1:
        for job in tqdm(jobs, unit="file", desc=label):
            work(job)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.imap_unordered(work, jobs, chunksize=4)
        for _ in tqdm(done, total=len(jobs), unit="file", desc=label):
            pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build the animated emoji set from packages.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        *("--packs", "-p"),
        type=int,
        nargs="+",
        choices=sorted(PACKS),
        default=DEFAULT_PACKS,
        help="which packages of animations (%(default)s); more can be added later",
    )
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="where the packages are or go (OUT/packages)"
    )
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes (%(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        require(NEEDED)
        packages = options.packages or options.out / "packages"
        build(packages, options.out, options.packs, options.workers)
    except BuildError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
