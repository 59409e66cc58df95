"""How captions are asked for and judged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lavis_clone.common.schema import read_run
from lavis_clone.tasks import setup_task
from lavis_clone.tasks.captioning import CaptionTask, row_id

REFERENCES = {
    "a": ["a red cat", "the cat is red"],
    "b": ["a blue dog", "the dog"],
    "c": ["A green bird!", "bird"],
}


class Shown:
    """A data set with captions, as the task sees it."""

    name, split = "shapes", "test"

    def __init__(self, references=REFERENCES, **fields):
        self._references = references
        self._fields = {"image": {i: f"{i}.png" for i in REFERENCES}, **fields}

    def references(self):
        return self._references

    def field_by_image(self, name):
        if name not in self._fields:
            raise ValueError(f"annotation 0 has no field {name!r}")
        return self._fields[name]


class Parrot:
    """Says what it was told to say, and remembers how it was asked."""

    def __init__(self, *captions):
        self.captions, self.asked = captions, None

    def generate_with_confidence(self, samples, **options):
        self.asked = options
        return SimpleNamespace(
            text=list(self.captions), confidence=torch.tensor([0.12345678] * len(self.captions))
        )


@pytest.fixture(autouse=True)
def _no_java(monkeypatch):
    monkeypatch.setenv("PATH", "")


def task(**options):
    block = {"task": "captioning", "batch_size_train": 1, "batch_size_eval": 1, "num_workers": 0}
    made = setup_task(read_run({**block, "evaluate": True, **options}))
    assert isinstance(made, CaptionTask)
    return made


def rows(*captions):
    return [{"image_id": i, "caption": c} for i, c in zip("abc", captions, strict=False)]


def test_options_of_the_run_reach_the_model():
    model = Parrot("a cat")
    task(num_beams=5, max_len=17, min_len=2).valid_step(model, {"image_id": ["a"]})
    assert model.asked == {"num_beams": 5, "max_length": 17, "min_length": 2}


def test_without_options_they_are_those_of_all_published_recipes():
    model = Parrot("a cat")
    task().valid_step(model, {"image_id": ["a"]})
    assert model.asked == {"num_beams": 3, "max_length": 20, "min_length": 5}


def test_a_row_for_each_image():
    found = task().valid_step(Parrot("a cat", "a dog"), {"image_id": ["noto_1f600", "000391895"]})
    assert found == [
        {"image_id": "noto_1f600", "caption": "a cat", "confidence": 0.123457},
        {"image_id": 391895, "caption": "a dog", "confidence": 0.123457},
    ]


def test_as_many_captions_as_images():
    with pytest.raises(ValueError, match="zip"):
        task().valid_step(Parrot("a cat"), {"image_id": ["a", "b"]})


@pytest.mark.parametrize(
    ("image_id", "expected"),
    [("0042", 42), (42, 42), ("x42", "x42"), ("", ""), ("4.2", "4.2"), ("-1", "-1"), ("٤", "٤")],
)
def test_ids_are_numbers_where_they_can_be(image_id, expected):
    found = row_id(image_id)
    assert found == expected and type(found) is type(expected)


def test_the_same_image_is_written_once_and_the_first_counts():
    repeated = rows("x", "y") + rows("z")
    assert task().unique(repeated) == rows("x", "y")


def test_perfect_captions_score_as_such():
    scores = task().score(rows("a red cat", "a blue dog", "a green bird"), Shown())
    assert scores["Bleu_1"] == pytest.approx(1.0)
    assert scores["ROUGE_L"] == pytest.approx(1.0)
    assert scores["exact_match"] == 1.0
    assert scores["agg_metrics"] == scores["CIDEr"] + scores["Bleu_4"]
    worse = task().score(rows("a red cat", "a red cat", "a red cat"), Shown())
    assert worse["agg_metrics"] < scores["agg_metrics"]
    assert worse["exact_match"] == pytest.approx(1 / 3)


def test_exact_match_minds_neither_case_nor_punctuation_but_words():
    scores = task().score(rows("A  RED cat.", "the dogs", "a green-bird"), Shown())
    assert scores["exact_match"] == pytest.approx(2 / 3)


def test_images_that_could_not_be_read_are_not_scored():
    scores = task().score(rows("a red cat"), Shown())
    assert scores["exact_match"] == 1.0


def test_ids_with_zeros_in_front_find_their_references():
    model = Parrot("a cat", "a dog")
    found = task().valid_step(model, {"image_id": ["007", "008"]})
    shown = Shown({"007": ["a cat"], "008": ["a cow"]}, kind={"007": "x", "008": "y"})
    scores = task(score_by="kind").score(found, shown)
    assert scores["exact_match"] == 0.5
    assert (scores["kind=x/exact_match"], scores["kind=y/exact_match"]) == (1.0, 0.0)


def test_groups_are_scored_apart():
    seen = {"a": True, "b": False, "c": False}
    made = task(score_by="seen")
    scores = made.score(rows("a red cat", "x", "a green bird"), Shown(seen=seen))
    assert scores["seen=True/exact_match"] == 1.0
    assert scores["seen=False/exact_match"] == 0.5
    alone = made.score(rows("a red cat"), Shown(seen=seen))
    assert alone["seen=True/Bleu_1"] == scores["seen=True/Bleu_1"]
    assert not any(name.startswith("seen=False") for name in alone)
    assert not any("METEOR" in name or "SPICE" in name for name in scores)


def test_without_report_metric_nothing_is_scored_or_needed():
    made = task(report_metric=False, score_by="absent")
    made.check_data(Shown({}))
    assert made.score(rows("a"), Shown({})) == {}


def test_data_without_references_are_refused_before_work():
    with pytest.raises(ValueError, match=r"^shapes/test: 2 pictures have no caption .* 'b'; run"):
        task().check_data(Shown({"a": ["a cat"]}))


def test_a_field_that_is_not_there_is_told_before_work():
    with pytest.raises(ValueError, match=r"^shapes/test: run.score_by: .* no field 'colour'"):
        task(score_by="colour").check_data(Shown())
    task(score_by="image").check_data(Shown())
