"""Pictures with texts to pre-train on."""

from __future__ import annotations

import pytest
import torch

from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.kinds.pairs import PairDataset
from lavis_clone.processors.text import BlipCaptionProcessor
from tests.datasets.making import draw, own_file, red, small, write


def made(folder, *records, vis=None):
    draw(folder, "a.png", "b.png")
    return PairDataset(vis, BlipCaptionProcessor(), folder, write(folder, records=records))


def test_of_several_captions_torch_draws_one(tmp_path):
    dataset = made(
        tmp_path, {"image": "b.png", "caption": ["A.", "B."]}, {"image": "a.png", "caption": "C!"}
    )
    torch.manual_seed(0)
    drawn = [dataset[0]["text_input"] for _ in range(40)]
    assert set(drawn) == {"a", "b"}
    torch.manual_seed(0)
    assert [dataset[0]["text_input"] for _ in range(40)] == drawn
    assert dataset[1]["text_input"] == "c" and red(dataset[0]["image"]) == 20


def test_batches_of_two_data_sets(tmp_path):
    dataset = made(tmp_path, {"image": "b.png", "caption": "x"}, vis=small())
    both = ConcatDataset([dataset, dataset])
    batch = both.collater([both[0], both[1]])
    assert set(batch) == {"image", "text_input"}
    assert batch["image"].shape == (2, 3, 4, 4) and batch["text_input"] == ["x", "x"]


@pytest.mark.parametrize("kind", ["pairs", "caption"])
def test_own_data_needs_a_yaml_file_only(tmp_path, kind):
    draw(tmp_path, "a.png")
    path = own_file(tmp_path, kind, "image,caption\na.png,One\n")
    assert len(path.read_text().split("\n")) < 20
    sample = load_dataset("own", path)["train"][0]
    assert sample["image"].shape == (3, 4, 4) and sample["text_input"] == "a drawing of one"


def test_own_data_must_say_its_kind(tmp_path):
    path = own_file(tmp_path, "null", "image,caption\na.png,One\n")
    with pytest.raises(ConfigError, match="datasets.own.kind: required"):
        load_dataset("own", path)


@pytest.mark.parametrize(
    "record, message",
    [
        ({"image": "a.png"}, "has no 'caption'"),
        ({"image": "a.png", "caption": []}, "caption must be text or a list"),
    ],
)
def test_bad_records_are_told(tmp_path, record, message):
    with pytest.raises(AnnotationError, match=f"records.json, record 1: {message}"):
        made(tmp_path, record)


def test_the_kind_has_this_class():
    assert dataset_classes("pairs") == (PairDataset, PairDataset)
