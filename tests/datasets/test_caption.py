"""Caption data sets, record by record."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.kinds.caption import CaptionDataset, CaptionEvalDataset, image_id_of
from lavis_clone.datasets.skip import SampleError
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.image import BlipImageEvalProcessor
from lavis_clone.processors.text import BlipCaptionProcessor


def made(cls, root, *files, **processors):
    return cls(
        vis_root=root / "images",
        ann_paths=[root / f for f in files],
        vis_processor=processors.get("vis"),
        text_processor=processors.get("text"),
    )


def test_train_samples(shapes):
    dataset = made(CaptionDataset, shapes, "train.json")
    assert len(dataset) == 10
    sample = dataset[3]
    assert isinstance(sample["image"], Image.Image) and sample["image"].getpixel((0, 0))[0] == 75
    assert sample["text_input"] in ("Shape 3.", "Number 3!", "3")
    assert [dataset[i]["image_id"] for i in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [r["instance_id"] for r in dataset.annotation][:2] == ["0", "1"]


def test_of_several_captions_torch_draws_one(shapes):
    dataset = made(CaptionDataset, shapes, "train.json")
    texts = []
    for seed in (1, 1, *range(40)):
        torch.manual_seed(seed)
        texts.append(dataset[0]["text_input"])
    assert texts[0] == texts[1]
    assert set(texts) == {"Shape 0.", "Number 0!", "0"}


def test_batches(shapes):
    processors = {"vis": BlipImageEvalProcessor(4), "text": BlipCaptionProcessor("a ", 1)}
    dataset = made(CaptionDataset, shapes, "train.json", **processors)
    batch = dataset.collater([dataset[2], dataset[9]])
    assert batch["image"].shape == (2, 3, 4, 4)
    assert batch["image_id"].equal(torch.tensor([1, 4]))
    assert all(text in ("a shape", "a number", "a 2", "a 9") for text in batch["text_input"])
    dataset = made(CaptionEvalDataset, shapes, "val.json", **processors)
    batch = dataset.collater([dataset[0], dataset[4]])
    assert batch["image_id"] == ["000", "004"] and batch["instance_id"] == ["0", "4"]
    assert set(batch) == {"image", "image_id", "instance_id"}


def test_ids_without_an_image_id_are_those_of_the_files(tmp_path):
    rows = [{"image": f, "caption": "x"} for f in ("a.jpg", "b.jpg", "a.jpg")]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    dataset = CaptionDataset(ann_paths=[tmp_path / "a.json"])
    assert dataset.img_ids == {"a.jpg": 0, "b.jpg": 1}


@pytest.mark.parametrize(
    "record, expected",
    [
        ({"image": "val2014/COCO_val2014_000000391895.jpg"}, "000000391895"),
        ({"image": "x/pig_gpj.jpg"}, "gpj"),  # LAVIS would strip letters of ".jpg" here
        ({"image": "plain.png"}, "plain"),
        ({"image": "a_1.jpg", "image_id": 7}, "7"),
        ({"image": "a_1.jpg", "image_id": 0}, "0"),
        ({"image": "a_1.jpg", "image_id": "coco_5"}, "coco_5"),
        ({"image": "a_1.jpg", "img_id": 4}, "4"),
    ],
)
def test_eval_image_ids(record, expected):
    assert image_id_of(record) == expected


def test_references(tmp_path):
    rows = [
        {"image": "a_1.jpg", "caption": ["One.", "Uno"]},
        {"image": "a_2.jpg", "caption": "Two."},
        {"image": "a_1.jpg", "caption": "Eins"},
        {"image": "a_3.jpg"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    dataset = CaptionEvalDataset(ann_paths=[tmp_path / "a.json"], text_processor=str.lower)
    assert dataset.references() == {"1": ["One.", "Uno", "Eins"], "2": ["Two."]}


@pytest.mark.parametrize(
    "cls, record, message",
    [
        (CaptionDataset, {"image": "a.jpg"}, "has no 'caption'"),
        (CaptionDataset, {"image": "a.jpg", "caption": []}, "caption must be text or a list"),
        (CaptionDataset, {"image": "a.jpg", "caption": 3}, "caption must be text or a list"),
        (CaptionEvalDataset, {"image": "a.jpg", "caption": ["a", 3]}, "caption must be text"),
        (CaptionEvalDataset, {"caption": "a"}, "has no 'image'"),
        (CaptionEvalDataset, {"image": 3}, "image must be a file name, got 3"),
    ],
)
def test_bad_records_are_told_before_any_work(tmp_path, cls, record, message):
    (tmp_path / "a.json").write_text(json.dumps([{"image": "a.jpg", "caption": "x"}, record]))
    with pytest.raises(AnnotationError, match=f"a.json, record 2: {message}"):
        cls(ann_paths=[tmp_path / "a.json"])


def test_a_bad_picture_is_a_sample_error_that_names_it(shapes):
    (shapes / "images" / "shape_000.png").write_bytes(b"words")
    (shapes / "images" / "shape_001.png").unlink()
    dataset = made(CaptionDataset, shapes, "train.json")
    with pytest.raises(SampleError, match=r"shape_000.png: not a picture"):
        dataset[0]
    with pytest.raises(SampleError, match=r"shape_001.png: no such picture"):
        dataset[1]


def test_several_files_and_several_data_sets(shapes):
    both = made(CaptionEvalDataset, shapes, "val.json", "train.json")
    assert len(both) == 15 and both[14]["instance_id"] == "14"
    train = made(CaptionDataset, shapes, "train.json", vis=BlipImageEvalProcessor(4))
    val = made(CaptionEvalDataset, shapes, "val.json", vis=BlipImageEvalProcessor(4))
    joined = ConcatDataset([train, val])
    batch = joined.collater([{**joined[0], "image_id": 3}, {**joined[10], "image_id": 4}])
    assert set(batch) == {"image", "image_id"}  # what both have
    with pytest.raises(ValueError, match="two data sets use the image_id '00"):
        ConcatDataset([val, val]).references()
    assert ConcatDataset([train, val]).references() == val.references()


def test_displ_item(shapes):
    for cls in (CaptionDataset, CaptionEvalDataset):
        shown = made(cls, shapes, "val.json").displ_item(1)
        assert list(shown) == ["file", "caption", "image"]
        assert shown["file"] == "shape_001.png" and shown["image"].size == (8, 6)
        assert shown["caption"][0] == "Shape 1."


def test_set_processors(shapes):
    dataset = made(CaptionDataset, shapes, "train.json")
    dataset.set_processors(BlipImageEvalProcessor(4), None)
    assert dataset[0]["image"].shape == (3, 4, 4)


def test_a_processor_may_ask_for_fast_decoding(tmp_path):
    class Sized(BaseProcessor):
        decode_size = 10

        def transform(self, item):
            return item.size

    Image.new("RGB", (640, 480)).save(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text('[{"image": "a.jpg"}]')
    dataset = CaptionEvalDataset(Sized(), None, tmp_path, [tmp_path / "a.json"])
    assert dataset[0]["image"] == (80, 60)
    dataset.set_processors(None, None)
    assert dataset[0]["image"].size == (640, 480)
