"""Annotation records of the emoji set, and which pictures belong to which split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoji_concepts import Concept
from emoji_drawings import write_atomic

VENDOR_SPLIT = {"openmoji": "val", "twemoji": "test"}  # every other vendor trains
SPLITS = ("train", "val", "test")

Record = dict[str, Any]


def split_of(concept: Concept, vendor: str) -> str | None:
    """The split of a picture; None where a held-out concept would leak into another split."""
    split = VENDOR_SPLIT.get(vendor, "train")
    return split if concept.split in ("train", split) else None


def record(concept: Concept, vendor: str, suffix: str = ".png") -> Record:
    """The annotation of one picture, in the caption format.

    A training picture is captioned with what it is called; its further references, and those of
    the held-out pictures, are what a caption may be compared with.
    """
    names, references = list(concept.names), list(concept.references)
    training = vendor not in VENDOR_SPLIT
    return {
        "image": f"{vendor}/{concept.key}{suffix}",
        "caption": names if training else references,
        **({"references": references} if training else {}),
        "image_id": f"{vendor}_{concept.key}",
        "concept": concept.key,
        "name": concept.name,
        "base": concept.base,
        "vendor": vendor,
        "group": concept.group,
        "subgroup": concept.subgroup,
        "seen": concept.split == "train",
    }


def split_records(
    drawn: Iterable[tuple[Concept, str]], suffix: str = ".png"
) -> dict[str, list[Record]]:
    """Records of ``(concept, vendor)`` pairs, by split."""
    splits: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for concept, vendor in drawn:
        split = split_of(concept, vendor)
        if split is not None:
            splits[split].append(record(concept, vendor, suffix))
    return splits


def write_annotations(splits: Mapping[str, Sequence[Record]], folder: Path) -> None:
    """Write one file per split."""
    for split, rows in splits.items():
        write_rows(rows, folder / f"{split}.json")


def write_rows(rows: Iterable[Any], path: Path) -> None:
    """Write a JSON list, one entry per line."""
    text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
    write_atomic(path, text.encode())
