"""Pictures in a folder for each class."""

from __future__ import annotations

import pytest

from lavis_clone.common.files import FileError
from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds.image_folder import ImageFolderDataset, ImageNetDataset
from tests.datasets.making import draw, red, small


def write(folder, *classes):
    """Two pictures for each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        draw(folder / name, "a.png", "b.png")
    return folder


def test_a_class_is_the_place_of_its_folder(tmp_path):
    dataset = ImageFolderDataset(small(), None, write(tmp_path, "dog", "cat"))
    assert dataset.classnames == ["cat", "dog"]
    batch = dataset.collater([dataset[i] for i in range(4)])
    assert batch["image"].shape == (4, 3, 4, 4)
    assert batch["label"].tolist() == [0, 0, 1, 1]
    assert batch["image_id"] == ["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"]
    assert batch["instance_id"] == ["0", "1", "2", "3"]
    assert batch["text_input"] == [""] * 4
    assert dataset.displ_item(3)["file"] == "dog/b.png"
    dataset.set_processors(None, None)
    assert red(dataset[1]["image"]) == 20


def test_classes_can_be_named(tmp_path):
    write(tmp_path, "n01", "n02")
    dataset = ImageFolderDataset(None, None, tmp_path, class_names=["fish", "fish"])
    assert dataset.classnames == ["fish", "fish"]
    with pytest.raises(ValueError, match=r"1 class_names, but .* holds 2 folders"):
        ImageFolderDataset(None, None, tmp_path, class_names=["fish"])


def test_imagenet_has_a_thousand_classes(tmp_path):
    with pytest.raises(ValueError, match=r"1000 class_names, but .* holds 2 folders"):
        ImageNetDataset(None, None, write(tmp_path, "n01440764", "n01443537"))


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FileError, match="no pictures by class below"):
        ImageFolderDataset(None, None, tmp_path / "absent")
    (tmp_path / "cat").mkdir()
    with pytest.raises(FileError, match="no pictures by class below"):
        ImageFolderDataset(None, None, tmp_path)


def own_file(folder, *, kind="image_folder", splits="[train, val]"):
    (folder / "own.yaml").write_text(
        f"""
datasets:
  own:
    kind: {kind}
    class_names: [first, second]
    build_info:
      splits: {splits}
      images: {{storage: {folder}}}
"""
    )
    return folder / "own.yaml"


def test_splits_are_folders(tmp_path):
    write(tmp_path / "train", "a", "b")
    write(tmp_path / "val", "a", "b")
    draw(tmp_path / "val" / "b", "c.png")
    found = load_dataset("own", own_file(tmp_path))
    assert {split: len(dataset) for split, dataset in found.items()} == {"train": 4, "val": 5}
    assert found["val"].classnames == ["first", "second"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"splits": "[]"}, "own: has no annotations, and .* no folders for the splits"),
        ({"kind": "classification"}, r"own\.annotations: required .*; kind image_folder reads"),
    ],
)
def test_other_kinds_need_annotations(changes, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        load_dataset("own", own_file(tmp_path, **changes))
