"""Pictures and texts that are to find each other."""

from __future__ import annotations

import pytest
import torch

from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.kinds.retrieval import RetrievalDataset, RetrievalEvalDataset
from lavis_clone.processors.text import BlipCaptionProcessor
from tests.datasets.making import draw, own_file, red, small, write

TEXTS = [
    {"image": "a.png", "caption": ["One.", "UNO!"]},
    {"image": "b.png", "caption": "Two"},
    {"image": "c.png", "caption": ["Three", "tres", "drei"]},
]


def test_train_batches_have_the_ids_of_pictures_and_of_records(shapes):
    dataset = RetrievalDataset(small(), None, shapes / "images", [shapes / "train.json"])
    batch = dataset.collater([dataset[0], dataset[1], dataset[4]])
    assert set(batch) == {"image", "text_input", "image_id", "instance_id"}
    assert batch["image"].shape == (3, 3, 4, 4)
    assert batch["image_id"].tolist() == [0, 0, 2]  # two records of one picture
    assert batch["instance_id"] == ["0", "1", "4"]


def test_eval_keeps_which_texts_belong_to_which_picture(tmp_path):
    draw(tmp_path, "a.png", "b.png", "c.png")
    files = write(tmp_path, records=TEXTS)
    dataset = RetrievalEvalDataset(None, BlipCaptionProcessor(), tmp_path, files)
    assert dataset.text == ["one", "uno", "two", "three", "tres", "drei"]
    assert dataset.image == ["a.png", "b.png", "c.png"]
    assert dataset.img2txt == {0: [0, 1], 1: [2], 2: [3, 4, 5]}
    assert dataset.txt2img == {0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 5: 2}
    assert dataset[1]["index"] == 1 and red(dataset[1]["image"]) == 20
    assert dataset.displ_item(2)["caption"] == ["Three", "tres", "drei"]


def test_eval_batches(tmp_path):
    draw(tmp_path, "a.png", "b.png", "c.png")
    dataset = RetrievalEvalDataset(small(), None, tmp_path, write(tmp_path, records=TEXTS))
    batch = dataset.collater([dataset[2], dataset[0]])
    assert set(batch) == {"image", "index"}
    assert batch["index"].equal(torch.tensor([2, 0]))


def test_a_csv_file_has_a_row_for_each_text(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text("image,caption\na.png,One\nb.png,Two\na.png,Uno\n")
    dataset = RetrievalEvalDataset(None, None, tmp_path, [tmp_path / "t.csv"])
    assert dataset.image == ["a.png", "b.png"] and len(dataset) == 2
    assert dataset.text == ["One", "Uno", "Two"]
    assert dataset.img2txt == {0: [0, 1], 1: [2]} and dataset.txt2img == {0: 0, 1: 0, 2: 1}
    assert [record["instance_id"] for record in dataset.annotation] == ["0", "1"]


def test_other_processors_process_the_texts_anew(tmp_path):
    dataset = RetrievalEvalDataset(ann_paths=write(tmp_path, a=TEXTS[:2]))
    assert dataset.text == ["One.", "UNO!", "Two"]
    dataset.set_processors(None, BlipCaptionProcessor("a "))
    assert dataset.text == ["a one", "a uno", "a two"]


def test_own_data_needs_a_yaml_file_only(tmp_path):
    draw(tmp_path, "a.png")
    path = own_file(tmp_path, "retrieval", "image,caption\na.png,One\na.png,Two\n")
    splits = load_dataset("own", path)
    assert splits["train"][1]["text_input"] == "a drawing of two"
    assert splits["val"][0]["image"].shape == (3, 4, 4) and splits["val"].img2txt == {0: [0, 1]}


def test_a_picture_without_texts_is_told(tmp_path):
    with pytest.raises(AnnotationError, match="record 2: has no 'caption'"):
        RetrievalEvalDataset(ann_paths=write(tmp_path, a=[TEXTS[0], {"image": "b.png"}]))


def test_the_kind_has_these_classes():
    assert dataset_classes("retrieval") == (RetrievalDataset, RetrievalEvalDataset)
