"""Pictures and their classes."""

from __future__ import annotations

import pytest
import torch

from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.builders.base import BaseDatasetBuilder
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.kinds.classification import ClassificationDataset, EntailmentDataset
from lavis_clone.processors.text import BlipCaptionProcessor
from tests.datasets.making import draw, own_file, red, small, write

NAMES = ["no", "maybe", "yes"]


def made(folder, *records, vis=None, names=None, cls=ClassificationDataset):
    draw(folder, "a.png", "b.png")
    files = write(folder, records=records)
    return cls(vis, BlipCaptionProcessor(), folder, files, class_names=names)


def test_labels_are_places_in_the_list_of_names(tmp_path):
    rows = [
        {"image": "a.png", "sentence": "One!", "label": "yes"},
        {"image": "b.png", "text": "Two!", "label": "no", "image_id": 7},
        {"image": "b.png", "label": 1},
    ]
    dataset = made(tmp_path, *rows, vis=small(), names=NAMES)
    assert dataset.classnames == NAMES
    batch = dataset.collater([dataset[i] for i in range(3)])
    assert set(batch) == {"image", "text_input", "label", "image_id", "instance_id"}
    assert batch["image"].shape == (3, 3, 4, 4)
    assert batch["label"].equal(torch.tensor([2, 0, 1]))
    assert batch["text_input"] == ["one", "two", ""]
    assert batch["image_id"] == ["a.png", "7", "b.png"]
    assert batch["instance_id"] == ["0", "1", "2"]


def test_numbers_need_no_names(tmp_path):
    dataset = made(tmp_path, {"image": "b.png", "label": 12}, {"image": "a.png", "label": "3"})
    assert [dataset[0]["label"], dataset[1]["label"]] == [12, 3] and dataset.classnames == []
    assert red(dataset[0]["image"]) == 20


def test_numerals_may_be_names(tmp_path):
    dataset = made(tmp_path, {"image": "a.png", "label": "1"}, names=["1", "0"])
    assert dataset[0]["label"] == 0


@pytest.mark.parametrize(
    "record, names, message",
    [
        ({"label": "yess"}, NAMES, "label 'yess' is no class; did you mean 'yes'"),
        ({"label": 3}, NAMES, r"label 3 is no class \(classes: no, maybe, yes\)"),
        ({"label": True}, NAMES, "label True is no class"),
        ({"label": "yes"}, None, "label 'yes' is no class number; class_names must list names"),
        ({"label": -1}, None, "label -1 is no class number"),
        ({"sentence": "a"}, NAMES, "has no 'label'"),
        ({"label": 1, "sentence": 3}, NAMES, "sentence must be text, got 3"),
    ],
)
def test_bad_records_are_told(tmp_path, record, names, message):
    with pytest.raises(AnnotationError, match=f"records.json, record 1: {message}"):
        made(tmp_path, {"image": "a.png", **record}, names=names)


def test_a_name_for_two_classes_is_told(tmp_path):
    with pytest.raises(ValueError, match="class_names has a name twice"):
        made(tmp_path, {"image": "a.png", "label": 0}, names=["a", "a"])


def test_entailment_adds_the_ending_of_the_file(tmp_path):
    draw(tmp_path, "12.jpg")
    labels = ("entailment", "contradiction", "neutral")
    rows = [{"image": "12", "sentence": "A Dog.", "label": label} for label in labels]
    dataset = made(tmp_path, *rows, {**rows[0], "image": "12.jpg"}, cls=EntailmentDataset)
    assert [dataset[i]["label"] for i in range(4)] == [2, 0, 1, 2]
    assert dataset.classnames == ["contradiction", "neutral", "entailment"]
    assert dataset[0]["image_id"] == "12" and dataset[0]["text_input"] == "a dog"
    with pytest.raises(AnnotationError, match="label '-' is no class"):
        made(tmp_path, {"image": "12", "sentence": "x", "label": "-"}, cls=EntailmentDataset)


def block(folder, **more):
    train, val = write(
        folder,
        train=[{"image": "a.png", "label": "no"}, {"image": "a.png", "label": "yes"}],
        val=[{"image": "a.png", "label": "yes"}],
    )
    annotations = {"train": {"storage": str(train)}, "val": {"storage": str(val)}}
    info = {"annotations": annotations, "images": {"storage": str(folder)}}
    return {"kind": "classification", "build_info": info} | more


def test_a_block_gives_all_splits_the_same_numbers(tmp_path):
    draw(tmp_path, "a.png")
    splits = BaseDatasetBuilder(block(tmp_path, class_names=NAMES)).build_datasets()
    assert [splits["train"][1]["label"], splits["val"][0]["label"]] == [2, 2]


def test_own_data_needs_a_yaml_file_only(tmp_path):
    draw(tmp_path, "a.png")
    path = own_file(tmp_path, "classification", "image,label\na.png,yes\na.png,no\n")
    path.write_text(
        path.read_text().replace("build_info", "class_names: [no, yes]\n    build_info")
    )
    with pytest.raises(ConfigError, match=r"class_names\[0\]: must be text"):  # YAML's no is false
        load_dataset("own", path)
    path.write_text(path.read_text().replace("[no, yes]", '["no", "yes"]'))
    splits = load_dataset("own", path)
    assert [splits["train"][0]["label"], splits["val"][1]["label"]] == [1, 0]
    assert splits["train"][0]["text_input"] == "a drawing of "


def test_names_for_samples_without_classes_are_told(tmp_path):
    with pytest.raises(ConfigError, match="class_names: CaptionDataset has no classes to name"):
        BaseDatasetBuilder(block(tmp_path, class_names=NAMES, kind="caption")).build_datasets()


def test_kinds():
    assert dataset_classes("classification") == (ClassificationDataset, ClassificationDataset)
    assert dataset_classes("entailment") == (EntailmentDataset, EntailmentDataset)
