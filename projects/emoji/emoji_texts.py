"""Annotations for retrieval and for pre-training: pictures with what they are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from emoji_records import Record


def letters(text: str) -> str:
    """What phrases are compared by: ``"bus-stop"`` and ``"busstop"`` are one."""
    return re.sub(r"[^a-z0-9]", "", text)


def references(row: Record) -> list[str]:
    """All that a caption record's picture is called."""
    texts: list[str] = row["references" if "references" in row else "caption"]
    return texts


def phrases_of(row: Record, held_out: Collection[str]) -> list[str]:
    """The name of what a picture shows, then keywords that name nothing held out.

    Args:
        held_out: ``letters`` of the names of concepts that training must not meet.
    """
    keywords = (text for text in references(row) if text != row["name"])
    return [row["name"], *(text for text in keywords if letters(text) not in held_out)]


def names_held_out(splits: Mapping[str, Sequence[Record]]) -> set[str]:
    """``letters`` of the names of all unseen concepts."""
    return {letters(row["name"]) for rows in splits.values() for row in rows if not row["seen"]}


def retrieval_train(rows: Iterable[Record]) -> Iterator[Record]:
    """Every picture with its name. Pictures of a concept have one ``image_id``, the concept: the
    name of one is no wrong text of another."""
    for row in rows:
        yield {"image": row["image"], "caption": row["name"], "image_id": row["concept"]}


def retrieval_eval(rows: Iterable[Record]) -> Iterator[Record]:
    """One record per picture, with the name as its one text."""
    for row in rows:
        yield {
            "image": row["image"],
            "caption": [row["name"]],
            "image_id": row["concept"],
            "base": row["base"],
        }


def pairs(rows: Iterable[Record], held_out: Collection[str]) -> Iterator[Record]:
    """Every picture with each of its phrases."""
    for row in rows:
        for text in phrases_of(row, held_out):
            yield {"image": row["image"], "caption": text}
