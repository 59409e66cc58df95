"""Sentences about two pictures, and their mirror images."""

from __future__ import annotations

import pytest
import torch

from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.kinds.nlvr import NlvrDataset, NlvrEvalDataset, swap_sides
from tests.datasets.making import draw, own_file, red, small, write

RECORD = {"images": ["a.png", "b.png"], "sentence": "The left one is bright.", "label": "True"}


def made(cls, folder, *records, vis=None):
    draw(folder, "a.png", "b.png")
    return cls(vis, None, folder, write(folder, records=records))


def seen(sample):
    return red(sample["image0"]), red(sample["image1"]), sample["text_input"], sample["label"]


PLAIN = (10, 20, "The left one is bright.", 1)
MIRRORED = (20, 10, "The right one is bright.", 1)


def test_half_of_the_training_samples_are_mirrored(tmp_path):
    dataset = made(NlvrDataset, tmp_path, RECORD)
    torch.manual_seed(0)
    drawn = [seen(dataset[0]) for _ in range(200)]
    assert set(drawn) == {PLAIN, MIRRORED}
    assert 70 < drawn.count(MIRRORED) < 130
    torch.manual_seed(0)
    assert [seen(dataset[0]) for _ in range(200)] == drawn


def test_evaluation_never_mirrors(tmp_path):
    dataset = made(NlvrEvalDataset, tmp_path, RECORD)
    assert {seen(dataset[0]) for _ in range(50)} == {PLAIN}


@pytest.mark.parametrize(
    "sentence, expected",
    [
        ("left of the right", "right of the left"),
        ("Left, RIGHT", "Right, LEFT"),
        ("lEFT", "right"),
        ("bright leftovers", "bright leftovers"),
        ("", ""),
    ],
)
def test_swap_sides(sentence, expected):
    assert swap_sides(sentence) == expected


@pytest.mark.parametrize(
    "label, number",
    [("True", 1), ("False", 0), ("true", 1), (True, 1), (False, 0), (1, 1), (0, 0), ("0", 0)],
)
def test_labels(tmp_path, label, number):
    assert made(NlvrEvalDataset, tmp_path, {**RECORD, "label": label})[0]["label"] == number


def test_batches(tmp_path):
    other = {**RECORD, "label": "False"}
    dataset = made(NlvrEvalDataset, tmp_path, RECORD, other, vis=small())
    batch = dataset.collater([dataset[1], dataset[0]])
    assert set(batch) == {"image0", "image1", "text_input", "label", "instance_id"}
    assert batch["image0"].shape == batch["image1"].shape == (2, 3, 4, 4)
    assert batch["label"].equal(torch.tensor([0, 1])) and batch["instance_id"] == ["1", "0"]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"images": ["a.png"]}, "images must be two file names"),
        ({"images": "a.png"}, "images must be two file names"),
        ({"sentence": 3}, "sentence must be text, got 3"),
        ({"label": "maybe"}, "label must be True or False, got 'maybe'"),
        ({"label": 2}, "label must be True or False, got 2"),
        ({"label": None}, "has no 'label'"),
    ],
)
def test_bad_records_are_told(tmp_path, fields, message):
    with pytest.raises(AnnotationError, match=f"records.json, record 2: {message}"):
        made(NlvrEvalDataset, tmp_path, RECORD, {**RECORD, **fields})


def test_a_csv_file_has_a_column_for_each_picture(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    rows = "image0,image1,sentence,label\na.png,b.png,The left one is bright.,True\n"
    (tmp_path / "t.csv").write_text(rows)
    dataset = NlvrDataset(None, None, tmp_path, [tmp_path / "t.csv"])
    torch.manual_seed(0)
    assert {seen(dataset[0]) for _ in range(50)} == {PLAIN, MIRRORED}
    assert dataset.displ_item(0)["file"] == "a.png b.png"
    splits = load_dataset("own", own_file(tmp_path, "nlvr", rows))
    assert splits["val"][0]["image1"].shape == (3, 4, 4) and splits["val"][0]["label"] == 1


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, "has neither 'images' nor 'image0' and 'image1'"),
        (
            {"image0": "a.png"},
            r"images must be two file names, left and right, got \['a.png', None",
        ),
    ],
)
def test_pictures_that_are_not_two_are_told(tmp_path, fields, message):
    record = {"sentence": "x", "label": "True", **fields}
    with pytest.raises(AnnotationError, match=f"record 1: {message}"):
        made(NlvrEvalDataset, tmp_path, record)


def test_displ_item(tmp_path):
    shown = made(NlvrDataset, tmp_path, RECORD).displ_item(0)
    assert shown["file"] == "a.png b.png" and shown["sentence"] == RECORD["sentence"]


def test_the_kind_has_these_classes():
    assert dataset_classes("nlvr") == (NlvrDataset, NlvrEvalDataset)
