"""Builds the emoji set: real drawings by eight vendors, with names and keywords.

Everything comes from packages, by pinned name (``PINS``); README.md says what is in them, how the
text is chosen and how the splits are made.

    python projects/emoji/build.py OUT                 the full set
    python projects/emoji/build.py OUT --sample DIR    and the sample that the library ships
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path

from emoji_concepts import BuildError, Concept, read_concepts
from emoji_drawings import VENDORS, Drawings, render
from emoji_packages import check_origin, install, require
from emoji_records import split_records, write_annotations
from emoji_sample import count_line, write_sample
from emoji_start import (
    fetch_text_weights,
    fetch_vision_weights,
    trim_vocabulary,
    write_vocabulary,
)
from emoji_tasks import FULL, write_tasks

logger = logging.getLogger("emoji")

PINS = {
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/noto-v1": "1.2.5",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/openmoji": "1.2.29",
    "@iconify-json/emojione": "1.2.3",
    "@iconify-json/emojione-v1": "1.2.3",
    "@iconify-json/fxemoji": "1.2.2",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "openmoji": "17.0.0",
    "cldr-annotations-full": "48.2.0",
    "emojilib": "4.0.3",
    "spdx-license-list": "6.12.0",  # the texts that the icon packages lack
}
NEEDED = {"resvg-py": "resvg_py", "pillow": "PIL", "tqdm": "tqdm"}  # package -> module
WORKERS = 2


def build(modules: Path, out: Path) -> list[tuple[Concept, str]]:
    """Write ``out/images`` and ``out/annotations``; pictures that exist are kept.

    Returns:
        What was drawn, as pairs of concept and vendor.

    Raises:
        BuildError: if a package is not as expected, or ``out`` was built from other packages.
    """
    from tqdm import tqdm

    check_origin(out, PINS)
    concepts = read_concepts(modules)
    drawn, jobs = [], []
    for vendor in VENDORS:
        drawings = Drawings(modules, vendor)
        for concept in concepts:
            svg = drawings.svg(concept)
            if svg is None:
                continue
            drawn.append((concept, vendor))
            path = out / "images" / vendor / f"{concept.key}.png"
            if not path.exists():
                jobs.append((svg, path))
    if jobs:
        with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
            done = pool.imap_unordered(render, jobs, chunksize=16)
            for _ in tqdm(done, total=len(jobs), unit="picture", desc="drawing"):
                pass
    splits = split_records(drawn)
    write_annotations(splits, out / "annotations")
    write_tasks(splits, out / "annotations", FULL)
    logger.info("%d drawings of %d concepts in %s", len(drawn), len(concepts), out)
    logger.info("%s", count_line(splits))
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build the emoji set from packages.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the full set")
    parser.add_argument("--sample", type=Path, metavar="DIR", help="write the shipped sample too")
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="where the packages are or go (OUT/packages)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        require(NEEDED)
        modules = install(options.packages or options.out / "packages", PINS)
        drawn = build(modules, options.out)
        fetch_vision_weights(options.out)
        fetch_text_weights(options.out)
        write_vocabulary(options.out)
        trim_vocabulary(options.out)
        if options.sample is not None:
            splits = write_sample(drawn, options.out / "images", modules, options.sample)
            logger.info("the sample in %s: %s", options.sample, count_line(splits))
    except BuildError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
