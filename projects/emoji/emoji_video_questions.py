"""Questions about clips of animated emoji, with answers that are known for certain.

They are known from OpenMoji's groups, as those about drawings are, or because the clip was made
so. Every text that can be answered with yes is answered with no just as often, in every part; of
two clips that are made of each other, such as one that rises and one that sinks, both are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from emoji_chance import mixed, number, pick, thinned
from emoji_clips import Clip
from emoji_kinds import divide, kind
from emoji_questions import SEEN, TRAIN, UNSEEN, Shares, Unit, another, once, question_records
from emoji_records import Record

MOVES = "does it move?"
COUNT = "how many emoji are shown?"
CHANGES = (
    ("does it rise or sink?", {"rising": "rises", "sinking": "sinks"}),
    ("does it grow or shrink?", {"growing": "grows", "shrinking": "shrinks"}),
)
"""Questions about clips of which one is the other's way back, with the answer for each."""
ORDERED = ("an animal", "a vehicle", "a person", "a smiley", "a hand")
"""Kinds of which it is asked what comes first."""
OPEN = ("what", "group", "sort")
"""Types of questions of which one text has many answers."""


@dataclass(frozen=True)
class Amounts:
    """How many of all possible questions there are in a part, by type."""

    drawn: Shares
    """Of those that can be asked of drawings, too."""
    made: float
    """Of those about clips that are made, 0 to 1."""


AMOUNTS = {
    "train": Amounts(TRAIN, 0.5),
    "val_seen": Amounts(SEEN, 0.5),
    "val_unseen": Amounts(UNSEEN, 1.0),
    "test_seen": Amounts(SEEN.times(2), 1.0),
    "test_unseen": Amounts(UNSEEN, 1.0),
}


def part_questions(rows: Sequence[Record], part: str, moving: Collection[str]) -> list[Record]:
    """The questions of one part.

    Args:
        rows: The plain clips of the part.
        moving: Files of plain clips that move enough for anyone to see it.
    """
    amounts = AMOUNTS[part]
    units = [
        *_motion_units(row for row in rows if row["image"] in moving),
        *_change_units(rows),
        *_pair_units(rows),
    ]
    kept = thinned(units, amounts.made, key=lambda unit: (unit[0]["image"], unit[0]["question"]))
    found = [
        *question_records(rows, amounts.drawn),
        *once(kept, lambda record: (record["image"], record["question"])),
    ]
    return [
        {
            "video": record["image"],
            "question": record["question"],
            "answer": record["answer"],
            "question_type": record["question_type"],
            "question_id": f"{part}_{index}",
        }
        for index, record in enumerate(found)
    ]


def answer_numbers(records: Iterable[Record]) -> dict[str, int]:
    """The class of each answer that training gives."""
    answers = sorted({record["answer"] for record in records})
    return {answer: index for index, answer in enumerate(answers)}


def with_known_answers(records: Sequence[Record], known: Collection[str]) -> list[Record]:
    """The questions whose answers are classes.

    A text that may be answered in one of two ways goes with both, or not at all.
    """
    unknown = {r["question"] for r in records if r["answer"] not in known}
    return [
        record
        for record in records
        if record["answer"] in known
        and (record["question_type"] in OPEN or record["question"] not in unknown)
    ]


def blind_accuracy(train: Sequence[Record], records: Sequence[Record]) -> float:
    """The share of questions, 0 to 1, that is answered right without a look at the video.

    The guess is training's most frequent answer to the same text, or else to its type.
    """
    answers: dict[str, Counter[str]] = {}
    for record in train:
        for key in (record["question"], record["question_type"]):
            answers.setdefault(key, Counter())[record["answer"]] += 1
    right = 0
    for record in records:
        told = answers.get(record["question"]) or answers.get(record["question_type"]) or Counter()
        best = min(told, key=lambda answer: (-told[answer], answer), default=None)
        right += best == record["answer"]
    return right / max(1, len(records))


def _motion_units(rows: Iterable[Record]) -> Iterator[Unit]:
    for row in rows:
        yield [
            _record(row["image"], MOVES, "yes", "motion"),
            _record(_made("still", row), MOVES, "no", "motion"),
        ]


def _change_units(rows: Iterable[Record]) -> Iterator[Unit]:
    """What differs in nothing but the order of the frames; each clip changes in one of two ways."""
    for row in rows:
        question, changes = pick(CHANGES, "change", row["image"])
        yield [
            _record(_made(what, row), question, answer, "change")
            for what, answer in changes.items()
        ]


def _pair_units(rows: Sequence[Record]) -> Iterator[Unit]:
    """Which of two things comes first, by kind and, of concepts that train, by name.

    Each of the two is of one kind and clearly not of the other's.
    """
    shown, absent = {}, {}
    for phrase in ORDERED:
        shown[phrase], others = divide(rows, kind(phrase))
        absent[phrase] = {row["image"] for row in others}
    for phrase in ORDERED:
        for row in shown[phrase]:
            for second_phrase in mixed(ORDERED, str, row["image"]):
                clear = [r for r in shown[second_phrase] if r["image"] in absent[phrase]]
                if row["image"] not in absent[second_phrase] or not clear:
                    continue
                second = another(row, clear, tag="then")
                if second is not None:
                    yield from _about_pair((row, phrase), (second, second_phrase))
                    break


def _about_pair(one: tuple[Record, str], other: tuple[Record, str]) -> Iterator[Unit]:
    """Questions about two clips shown in either order, each given with its kind."""
    (row, phrase), (second, second_phrase) = one, other
    files = [_made("then", row, second), _made("then", second, row)]
    swap = number("first", row["image"]) % 2
    yield _which_first(files, (phrase, second_phrase), "order", swap)
    if row["seen"]:
        yield _which_first(files, (row["name"], second["name"]), "order_name", swap)
    yield [
        _record(row["image"], COUNT, "one", "count"),
        _record(files[0], COUNT, "two", "count"),
    ]


def _which_first(files: Sequence[str], things: tuple[str, str], asks: str, swap: int) -> Unit:
    """The question of which of two things comes first; ``files[i]`` begins with ``things[i]``."""
    named = things[::-1] if swap else things
    question = f"which comes first, {named[0]} or {named[1]}?"
    return [_record(f, question, thing, asks) for f, thing in zip(files, things, strict=True)]


def _made(what: str, *rows: Record) -> str:
    half = Clip.at(rows[0]["image"]).half
    return Clip(what, half, tuple(row["concept"] for row in rows)).path


def _record(file: str, question: str, answer: str, question_type: str) -> Record:
    return {
        "image": file,
        "question": question,
        "answer": answer,
        "question_type": question_type,
    }
