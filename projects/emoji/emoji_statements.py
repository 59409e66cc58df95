"""Sentences about two drawings, and texts that go with one drawing more or less.

Every sentence about two drawings is there once true and once false. Every text that goes with one
is there once for each class. So neither the text nor the drawing alone tells the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from emoji_chance import mixed, number, thinned
from emoji_kinds import KINDS, Kind, divide
from emoji_questions import Unit, another, grouped, once
from emoji_records import Record

CLASSES = ("different", "alike", "same")
"""Whether a text names what a drawing shows, something else of its subgroup, or something of
another group; in the order of their numbers."""
SIDES = ("left", "right")
SIDED = re.compile(r"\b(left|right)\b")
"""Names that no sentence may hold: training mirrors a pair, and changes these words with it."""


def statement_records(rows: Sequence[Record], share: float) -> list[Record]:
    """Sentences about two drawings, true and false, in equal parts.

    Args:
        rows: Caption records, all of concepts that are seen or all of such that are not.
        share: How many of all possible sentences, 0 to 1.
    """
    units = [*_name_units(rows), *_kind_units(rows)]
    kept = thinned(units, share, key=lambda unit: (unit[0]["sentence"], *unit[0]["images"]))
    return list(once(kept, lambda record: (record["sentence"], *record["images"])))


def class_records(rows: Sequence[Record], share: float) -> list[Record]:
    """Drawings with the name of something that is the same, alike or different, in equal parts.

    Args:
        rows: Caption records, all of concepts that are seen or all of such that are not; the
            other drawings come from among them, too.
        share: How many of all possible texts, 0 to 1.
    """
    by_subgroup = grouped(rows, "subgroup")
    groups = grouped(rows, "group")
    others = {group: [row for row in rows if row["group"] != group] for group in groups}
    units = []
    for row in rows:
        alike = another(row, by_subgroup[row["subgroup"]], tag="alike")
        different = another(row, others[row["group"]] or rows, tag="different")
        if alike is not None and different is not None and different["group"] != row["group"]:
            shown = {"different": different, "alike": alike, "same": row}
            units.append([_class(shown[label], row["name"], label) for label in CLASSES])
    kept = thinned(units, share, key=lambda unit: unit[-1]["image"])
    return list(once(kept, lambda record: (record["image"], record["sentence"])))


def _class(row: Record, sentence: str, label: str) -> Record:
    return {"image": row["image"], "sentence": sentence, "label": label}


def _name_units(rows: Sequence[Record]) -> Iterator[Unit]:
    """``the left picture shows tiger``, which is wrong when the two are changed, and the like."""
    by_group = grouped(rows, "group")
    for row in rows:
        choice = number("sentence", row["image"])
        side, form = choice % 2, choice // 2 % 3
        near = by_group[row["group"]] if choice // 6 % 2 else rows
        other, third = (another(row, near, rows, tag=tag) for tag in ("other", "third"))
        if other is None or third is None or third is other or SIDED.search(row["name"]):
            continue
        true = _ordered(row, other, side)
        if form == 0:
            sentence, false = "one of the pictures shows", _ordered(third, other, side)
        else:
            sentence, false = f"the {SIDES[side]} picture shows", true[::-1]
        yield _true_and_false(f"{sentence} {row['name']}", true, false)


def _kind_units(rows: Sequence[Record]) -> Iterator[Unit]:
    """``both pictures show an animal``, and others about kinds."""
    for one in KINDS:
        parts = divide(rows, one)
        yes, no = (mixed(part, lambda row: row["image"], "pair", one.phrase) for part in parts)
        if len(yes) < 2 or len(no) < 2:
            continue
        for index, row in enumerate(yes):
            second = yes[(index + 1) % len(yes)]
            wrong, other = (no[(2 * index + i) % len(no)] for i in (0, 1))
            yield _about_kind(one, row, second, (wrong, other))


def _about_kind(one: Kind, row: Record, second: Record, others: tuple[Record, Record]) -> Unit:
    """A sentence about a kind.

    Args:
        row, second: Two drawings of the kind.
        others: Two that are not.
    """
    wrong, other = others
    choice = number("kind", one.phrase, row["image"])
    side, form = choice % 2, choice // 2 % 4
    both, mixed_pair = _ordered(row, second, side), _ordered(row, wrong, side)
    if form == 0:
        return _true_and_false(f"both pictures show {one.phrase}", both, mixed_pair)
    if form == 1:
        sentence = f"neither picture shows {one.phrase}"
        return _true_and_false(sentence, (wrong, other), mixed_pair)
    if form == 2:
        sentence = f"at least one picture shows {one.phrase}"
        return _true_and_false(sentence, mixed_pair, (wrong, other))
    sentence = f"only the {SIDES[side]} picture shows {one.phrase}"
    false = both if choice // 8 % 2 else mixed_pair[::-1]
    return _true_and_false(sentence, mixed_pair, false)


def _ordered(row: Record, other: Record, side: int) -> tuple[Record, Record]:
    """The two, with ``row`` on the left (0) or on the right (1)."""
    return (other, row) if side else (row, other)


def _true_and_false(
    sentence: str,
    true: tuple[Record, Record],
    false: tuple[Record, Record],
) -> Unit:
    return [
        {
            "images": [row["image"] for row in pair],
            "sentence": sentence,
            "label": label,
        }
        for label, pair in (("True", true), ("False", false))
    ]
