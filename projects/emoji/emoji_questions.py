"""Questions with short answers, made from what is known of each drawing.

Every text that is answered with yes is answered with no just as often, in every split: without the
picture there is nothing to be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from emoji_chance import mixed, number, pick, thinned
from emoji_kinds import GROUPS, KINDS, SORT_NEEDS, SORTS, divide, kind
from emoji_records import Record
from emoji_texts import letters, references

WHAT, GROUP = "what is this?", "which group does it belong to?"

ATTEMPTS = 20
"""Drawings that are looked at to find one that fits."""

Unit = list[Record]
"""Records that are kept or left out together."""


@dataclass(frozen=True)
class Shares:
    """How many of all possible questions there are, by type; 0 to 1."""

    what: float
    name: float
    kind: float
    group: float
    sort: float

    def times(self, factor: float) -> Shares:
        """Shares that are smaller by a factor."""
        return Shares(**{name: value * factor for name, value in vars(self).items()})


TRAIN = Shares(what=1, name=0.5, kind=1, group=0.5, sort=1)
SEEN = Shares(what=0.5, name=0.25, kind=0.5, group=0.25, sort=0.5)
UNSEEN = Shares(what=0, name=1, kind=1, group=1, sort=1)
"""What an unseen concept is called is not asked: the name is no answer of the list."""


def question_records(rows: Sequence[Record], shares: Shares) -> list[Record]:
    """The questions of one part of a split.

    Args:
        rows: Caption records, all of concepts that are seen or all of such that are not; other
            drawings for a no come from among them, too.
    """
    units: dict[str, Iterable[Unit]] = {
        "what": ([_record(row, WHAT, row["name"], "what")] for row in rows),
        "name": _name_units(rows),
        "kind": _kind_units(rows),
        "group": ([_record(row, GROUP, GROUPS[row["group"]], "group")] for row in rows),
        "sort": _sort_units(rows),
    }
    kept = [
        unit
        for name, all_units in units.items()
        for unit in thinned(all_units, getattr(shares, name), key=_key)
    ]
    found = once(kept, lambda record: (record["image"], record["question"]))
    return list(found)


def answer_list(records: Iterable[Record]) -> list[str]:
    """All answers that training gives, sorted."""
    return sorted({record["answer"] for record in records})


def once(units: Iterable[Unit], key: Callable[[Record], object]) -> Iterator[Record]:
    """The records of units of which none repeats a record before it."""
    met: set[object] = set()
    for unit in units:
        keys = {key(record) for record in unit}
        if len(keys) == len(unit) and not keys & met:
            met |= keys
            yield from unit


def another(row: Record, *pools: Sequence[Record], tag: str = "another") -> Record | None:
    """A drawing of the first pool that cannot be called what ``row``'s is.

    Returns:
        None, if none was found in some attempts.
    """
    for pool in pools:
        for attempt in range(ATTEMPTS):
            other = pick(pool, tag, row["image"], attempt)
            if not can_be_called(other, row):
                return other
    return None


def can_be_called(row: Record, other: Record) -> bool:
    """Whether someone might call what ``row`` shows by the name of what ``other`` shows.

    A dog's face is a dog: it is enough that one name holds all words of the other.
    """
    words, others = ({*re.findall(r"\w+", one["name"])} for one in (row, other))
    alike = row["base"] == other["base"] or words <= others or others <= words
    return alike or letters(other["name"]) in map(letters, references(row))


def grouped(rows: Iterable[Record], field: str) -> dict[str, list[Record]]:
    """The records by a field."""
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return groups


def _name_units(rows: Sequence[Record]) -> Iterator[Unit]:
    by_group = grouped(rows, "group")
    for row in rows:
        near = by_group[row["group"]] if number("near", row["image"]) % 2 else rows
        if (other := another(row, near, rows)) is not None:
            yield _yes_and_no(row, other, f"can this be called {row['name']}?", "name")


def _kind_units(rows: Sequence[Record]) -> Iterator[Unit]:
    for one in KINDS:
        question = f"is this {one.phrase}?"
        yes, no = (mixed(part, _image, one.phrase) for part in divide(rows, one))
        for row, other in zip(yes, no, strict=False):
            yield _yes_and_no(row, other, question, "kind")


def _sort_units(rows: Sequence[Record]) -> Iterator[Unit]:
    for question, answers in SORTS.items():
        for row in divide(rows, kind(SORT_NEEDS[question]))[0]:
            if row["subgroup"] in answers:
                yield [_record(row, question, answers[row["subgroup"]], "sort")]


def _yes_and_no(yes: Record, no: Record, question: str, question_type: str) -> Unit:
    return [
        _record(yes, question, "yes", question_type),
        _record(no, question, "no", question_type),
    ]


def _record(row: Record, question: str, answer: str, question_type: str) -> Record:
    return {
        "image": row["image"],
        "question": question,
        "answer": answer,
        "question_type": question_type,
    }


def _image(row: Record) -> str:
    return str(row["image"])


def _key(unit: Unit) -> str:
    return f"{unit[0]['image']} {unit[0]['question']}"
