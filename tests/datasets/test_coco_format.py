"""Captions in COCO's own format."""

from __future__ import annotations

import pytest

from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.coco_format import is_coco_format, read_coco_format
from lavis_clone.datasets.kinds.caption import CaptionDataset, CaptionEvalDataset
from lavis_clone.datasets.kinds.winoground import WinogroundDataset
from tests.datasets.making import draw, write

IMAGES = [{"id": 7, "file_name": "a.png", "height": 6}, {"id": 3, "file_name": "b.png"}]
TOLD = [
    {"id": 1, "image_id": 3, "caption": "Two."},
    {"id": 2, "image_id": 7, "caption": "One."},
    {"id": 4, "image_id": 3, "caption": "Zwei."},
    {"id": 5, "image_id": 7, "caption": "Blurred.", "is_rejected": True},
]


def test_each_caption_is_trained_on_and_each_picture_described(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    files = write(tmp_path, coco={"info": {}, "images": IMAGES, "annotations": TOLD})
    train = CaptionDataset(None, None, tmp_path, files)
    assert [train[i]["text_input"] for i in range(len(train))] == ["Two.", "One.", "Zwei."]
    assert [train[i]["image_id"] for i in range(3)] == [0, 1, 0]
    val = CaptionEvalDataset(None, None, tmp_path, files)
    assert [val[i]["image_id"] for i in range(len(val))] == ["7", "3"]
    assert val.references() == {"7": ["One."], "3": ["Two.", "Zwei."]}
    test = CaptionEvalDataset(None, None, tmp_path, write(tmp_path, test={"images": IMAGES}))
    assert len(test) == 2 and test.references() == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": IMAGES, "annotations": [{"image_id": 9, "caption": "x"}]}, "the id 9"),
        ({"images": [*IMAGES, {"file_name": "c.png"}]}, "not as COCO writes captions: KeyError"),
        ({"images": IMAGES, "annotations": [{"image_id": 7}]}, "KeyError.'caption'"),
        ({"images": IMAGES, "annotations": [7]}, "not as COCO writes captions"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, content, message):
    (path,) = write(tmp_path, coco=content)
    with pytest.raises(AnnotationError, match=message):
        read_coco_format(path, is_split=True)


@pytest.mark.parametrize(
    "content", [[{"image": "a.png", "caption": "x"}], {"data": []}, {"images": ["a.png"]}]
)
def test_other_files_are_left_to_other_readers(tmp_path, content):
    (path,) = write(tmp_path, other=content)
    assert not is_coco_format(path)
    assert not is_coco_format(tmp_path / "absent.json")


def test_captions_of_one_picture_in_many_records(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    rows = [
        {"image": "a.png", "caption": "One.", "image_id": 1, "more": "kept"},
        {"image": "b.png", "caption": "Two.", "image_id": 2},
        {"image": "a.png", "caption": ["Uno.", "Un."], "image_id": 1},
        {"image": "a.png", "caption": "A part.", "image_id": 5},
    ]
    dataset = CaptionEvalDataset(None, None, tmp_path, write(tmp_path, rows=rows))
    assert [dataset[i]["image_id"] for i in range(len(dataset))] == ["1", "2", "5"]
    assert [dataset[i]["instance_id"] for i in range(3)] == ["0", "1", "2"]
    assert dataset.references()["1"] == ["One.", "Uno.", "Un."]
    assert dataset.annotation[0]["more"] == "kept"


def test_winoground_needs_both_captions(tmp_path):
    record = {"image_0": "a.jpg", "image_1": "b", "caption_0": "x", "caption_1": "y"}
    dataset = WinogroundDataset(None, None, tmp_path, write(tmp_path, good=[record]))
    found = dataset.describe(0)
    assert [path.name for path in found.media.values()] == ["a.jpg", "b.png"]
    assert found.texts == {"caption0": ("x",), "caption1": ("y",)}
    bad = write(tmp_path, bad=[{**record, "caption_1": 3}], lacking=[{"image_0": "a"}])
    with pytest.raises(AnnotationError, match="caption_1 must be text, got 3"):
        WinogroundDataset(None, None, tmp_path, bad[:1])
    with pytest.raises(AnnotationError, match="has no 'image_1', 'caption_0', 'caption_1'"):
        WinogroundDataset(None, None, tmp_path, bad[1:])
