"""The VQA challenge's accuracy: every number here can be worked out by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from lavis_clone.tasks.metrics.vqa import (
    answer_accuracy,
    direct_accuracy,
    normalize,
    score_answers,
    with_plain_words,
    without_marks,
)


class Truth(NamedTuple):
    answers: list[str]
    answer_type: str | None = None
    question_type: str | None = None


def people(**counts: int) -> list[str]:
    return [answer for answer, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("agree", "expected"),
    # Of ten, n agree. Without one of these n - 1 are left, without one of the others n.
    [
        (0, 0.0),
        (1, (1 * 0 + 9 * 1 / 3) / 10),
        (2, (2 * 1 / 3 + 8 * 2 / 3) / 10),
        (3, (3 * 2 / 3 + 7 * 1) / 10),
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_an_answer_is_as_right_as_people_agree(agree, expected):
    answers = people(cat=agree, dog=10 - agree)
    assert answer_accuracy("cat", answers) == pytest.approx(expected, abs=1e-12)


def test_with_few_people_nobody_can_be_wholly_right():
    assert answer_accuracy("cat", ["cat"]) == 0.0
    assert answer_accuracy("cat", ["cat", "cat"]) == pytest.approx(1 / 3)
    assert answer_accuracy("cat", ["cat"] * 4) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red/blue", "red blue"),  # inside: a space
        ("red /blue", "red blue"),  # beside a space: none
        ("red/ blue", "red blue"),
        ("a/b /c", "ab c"),  # beside a space once, without one everywhere
        ("a-b/c /d", "a bc d"),  # each mark by itself
        ("yes!", "yes "),  # the end of the text is no space
        ("{x}", " x "),
        ("it's", "it's"),  # apostrophes stay
        ("8:30", "8:30"),  # so do colons
        ("$5", "$5"),
        ("1,000 a/b-c", "1000 abc"),  # a number with a comma: no mark leaves a space
        ("1, 000", "1 000"),
        ("x,000", "x 000"),
        ("", ""),
    ],
)
def test_marks(text, expected):
    assert without_marks(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.", "3"),  # the slip in the challenge's pattern: periods after a digit go, too
        ("3.5", "3.5"),
        (".5", ".5"),
        ("v.5", "v.5"),
        ("st. john", "st john"),
        ("a.b", "ab"),
        ("3.x", "3x"),
        ("." * 32, ""),
        ("." * 33, "."),  # the other slip: a flag in the place of a count, 32
        ("x." * 40, "x" * 32 + "x." * 8),
    ],
)
def test_periods(text, expected):
    assert without_marks(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Two dogs", "2 dogs"),
        ("none", "0"),
        ("zero ten eleven", "0 10 eleven"),
        ("an  apple\ta day", "apple day"),
        ("a", ""),
        ("dont", "don't"),
        ("they'dve they'd've theyd've", "they'd've they'd've they'd've"),
        ("hes shes", "he's shes"),  # not in the table
        ("Im ive", "im ive"),  # in the table with a capital, which no text has any more
        ("somebody'd", "somebodyd"),  # the wrong way round in the table
        ("let's she's", "let's she's"),
        ("twas ow's'at 'ows'at", "'twas 'ow's'at 'ow's'at"),
        ("y'allll yall'd've", "y'all'll y'all'd've"),
    ],
)
def test_words(text, expected):
    assert with_plain_words(text) == expected


def test_an_answer_is_cleaned_whole():
    assert normalize(" The two\ncats,\tdont! ") == "2 cats don't"
    # The line break is a space before marks are looked at: the comma leaves none.
    assert normalize("cats,\ndogs") == "cats dogs"
    assert normalize("a.\n") == ""


def test_of_people_who_agree_nothing_is_cleaned():
    assert answer_accuracy("yes!", ["yes!"] * 10) == 0.0  # "yes" is not what they say
    assert answer_accuracy("yes", ["yes!"] * 10) == 0.0
    assert answer_accuracy("Yes", ["yes"] * 10) == 1.0


def test_of_people_who_differ_only_marks_are_cleaned():
    mixed = people(**{"st. john": 5, "the two": 4, "x": 1})
    assert answer_accuracy("st. john", mixed) == 1.0
    assert answer_accuracy("two", mixed) == 0.0  # "2" is not "the two"
    assert answer_accuracy("x", people(x=9, **{"x.": 1})) == 1.0  # ten after cleaning
    ten = people(x=2, y=7, **{"x.": 1})
    assert answer_accuracy("x", ten) == pytest.approx((3 * 2 / 3 + 7) / 10)


def test_scores_of_many_questions():
    truths = [
        Truth(people(yes=10), "yes/no", "is the"),
        Truth(people(no=10), "yes/no", "is this"),
        Truth(people(cat=2, dog=8), "other", "is the"),
        Truth(people(**{"2": 10})),
    ]
    scores = score_answers(["yes", "yes", "cat", "two"], truths)
    assert scores.overall == 65.0  # 1, 0, 0.6, 1
    assert scores.by_answer_type == {"yes/no": 50.0, "other": 60.0}
    assert scores.by_question_type == {"is the": 80.0, "is this": 0.0}


def test_two_decimals():
    truths = [Truth(people(yes=10), "a")] * 3
    scores = score_answers(["yes", "no", "no"], truths)
    assert scores.overall == 33.33 and scores.by_answer_type == {"a": 33.33}


def test_what_cannot_be_scored():
    with pytest.raises(ValueError, match="no answers to score"):
        score_answers([], [])
    with pytest.raises(ValueError, match="at least one answer"):
        score_answers(["x"], [Truth([])])
    with pytest.raises(ValueError, match="zip"):
        score_answers(["x"], [])


def test_direct_answers_are_compared_as_they_are():
    given = people(cat=2, Cat=1, dog=7)
    assert direct_accuracy("cat", given) == pytest.approx(2 / 3)
    assert direct_accuracy("Cat", given) == pytest.approx(1 / 3)
    assert direct_accuracy("dog", given) == 1.0
    assert direct_accuracy("the cat", given) == 0.0
