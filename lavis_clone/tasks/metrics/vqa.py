"""The accuracy of the VQA challenge: an answer is as right as the people who gave it are many.

Antol et al., "VQA: Visual Question Answering", ICCV 2015. The numbers are those of the challenge's
own evaluation code, which LAVIS uses as well, slips included (``without_marks``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lavis_clone.tasks.metrics.vqa_words import ARTICLES, CONTRACTIONS, MARKS, NUMBERS

ENOUGH = 3
"""So many people make an answer wholly right."""
DECIMALS = 2
"""Of all percentages."""

_MOST_PERIODS = int(re.UNICODE)  # a flag that got into the place of a count: 32
_PERIOD = re.compile(r"\.(?!\d)")
_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_BREAKS = str.maketrans("\n\t", "  ")
_TAKEN_OUT = str.maketrans("", "", MARKS)


class Truth(Protocol):
    """What people say about a question."""

    @property
    def answers(self) -> Sequence[str]: ...

    @property
    def answer_type(self) -> str | None: ...

    @property
    def question_type(self) -> str | None: ...


@dataclass(frozen=True)
class VqaScores:
    """Percentages with two decimals.

    Attributes:
        overall: Of all questions.
        by_answer_type: ``yes/no``, ``number`` and ``other``, in VQAv2.
        by_question_type: By the question's first words, in VQAv2.
    """

    overall: float
    by_answer_type: dict[str, float]
    by_question_type: dict[str, float]


def score_answers(answers: Sequence[str], truths: Sequence[Truth]) -> VqaScores:
    """Score one answer per question.

    Raises:
        ValueError: no questions, not as many truths as answers, or a truth without answers.
    """
    if not answers:
        raise ValueError("there are no answers to score")
    scored = [
        (answer_accuracy(answer, truth.answers), truth)
        for answer, truth in zip(answers, truths, strict=True)
    ]
    return VqaScores(
        _percent(accuracy for accuracy, _ in scored),
        _percent_by(scored, lambda truth: truth.answer_type),
        _percent_by(scored, lambda truth: truth.question_type),
    )


def answer_accuracy(answer: str, people: Sequence[str]) -> float:
    """How right an answer is, between 0 and 1: the mean over all ways to leave one person out.

    Those who are left count as wholly in favour when ``ENOUGH`` agree. The answer is normalized;
    of people's answers only the marks go, and only if they differ.

    Raises:
        ValueError: there is no answer to compare with.
    """
    if not people:
        raise ValueError("a question needs at least one answer to compare with")
    answer = normalize(answer)
    if len(set(people)) > 1:
        people = [without_marks(other) for other in people]
    agree = [other == answer for other in people]
    votes = sum(agree)
    return sum(min(1, (votes - own) / ENOUGH) for own in agree) / len(people)


def direct_accuracy(answer: str, people: Sequence[str]) -> float:
    """A-OKVQA's accuracy of an answer, between 0 and 1: all people count, nothing is normalized."""
    return min(1.0, list(people).count(answer) / ENOUGH)


def normalize(answer: str) -> str:
    """An answer in lower case without marks, articles and variants of spelling.

    >>> normalize("The two  dogs, dont they?")
    "2 dogs don't they"
    """
    return with_plain_words(without_marks(answer.translate(_BREAKS).strip()))


def without_marks(text: str) -> str:
    """Take out punctuation; a mark between two letters or digits leaves a space.

    Unless a number with a comma is anywhere in the text: then no mark leaves one. Of periods, which
    leave none either, the first 32 that no digit follows are taken out; those after a digit, too.

    >>> without_marks("red/blue"), without_marks("1,000 red/blue"), without_marks("3. 4.5")
    ('red blue', '1000 redblue', '3 4.5')
    """
    if _NUMBER_WITH_COMMA.search(text):
        text = text.translate(_TAKEN_OUT)
    else:
        spaces = {ord(m): "" if f" {m}" in text or f"{m} " in text else " " for m in MARKS}
        text = text.translate(spaces)
    return _PERIOD.sub("", text, count=_MOST_PERIODS)


def with_plain_words(text: str) -> str:
    """Write small numbers in digits, leave out articles, put apostrophes into contractions."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _percent(accuracies: Iterable[float]) -> float:
    values = list(accuracies)
    return round(100 * float(sum(values)) / len(values), DECIMALS)


def _percent_by(
    scored: Sequence[tuple[float, Truth]], kind: Callable[[Truth], str | None]
) -> dict[str, float]:
    """By the kind of question, in the order of appearance; those without a kind have no part."""
    groups: dict[str, list[float]] = {}
    for accuracy, truth in scored:
        if (name := kind(truth)) is not None:
            groups.setdefault(name, []).append(accuracy)
    return {name: _percent(values) for name, values in groups.items()}
