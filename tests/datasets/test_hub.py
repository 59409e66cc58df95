"""Data sets of the package ``datasets``, from folders and files: the hub itself is out of reach."""

from __future__ import annotations

import pickle
import sys

import pytest

from lavis_clone.common.files import FileError
from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.loaders import build_loader
from tests.datasets.making import draw, red, small

hub = pytest.importorskip("datasets")

NAMES = [f"{number}.png" for number in range(1, 5)]


@pytest.fixture
def shop(tmp_path, cache, monkeypatch):
    """A working directory with pictures, and a place of its own for the package's files."""
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    draw(tmp_path, *NAMES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(shop, **columns):
    """What ``save_to_disk`` writes: pictures in a column of their own."""
    features = {"picture": hub.Image(), **{name: feature for name, (feature, _) in columns.items()}}
    values = {"picture": [str(shop / name) for name in NAMES]}
    values |= {name: found for name, (_, found) in columns.items()}
    rows = hub.Dataset.from_dict(values, features=hub.Features(features))
    rows = rows.map(lambda row: row)  # puts the pictures' bytes into its own file
    splits = hub.DatasetDict({"train": rows.select(range(3)), "validation": rows.select([3])})
    splits.save_to_disk(shop / "saved")
    for name in NAMES:
        (shop / name).unlink()


def block(**changes):
    found = {"kind": "caption", "columns": {"picture": "image", "text": "caption"}}
    found["hub"] = {"path": "saved", "splits": {"train": "train", "val": "validation"}}
    return {**found, **changes}


def test_pictures_come_from_a_column(shop):
    saved(shop, text=(hub.Value("string"), ["a", "b", "c", "d"]))
    found = load_dataset(block(template="see {caption}"))
    assert {split: len(dataset) for split, dataset in found.items()} == {"train": 3, "val": 1}
    assert [red(found["train"][i]["image"]) for i in range(3)] == [10, 20, 30]
    assert found["train"][2]["text_input"] == "see c"
    assert found["val"].references() == {"0": ["see d"]}
    dataset = pickle.loads(pickle.dumps(found["train"]))
    dataset.set_processors(small(), None)
    batch = next(iter(build_loader(dataset, batch_size=3, is_train=False)))
    assert batch["image"].shape == (3, 3, 4, 4)
    found = load_dataset(block(hub={"path": str(shop / "saved")}))
    assert list(found) == ["train", "validation"]


def test_class_names_are_those_of_the_column(shop):
    saved(shop, what=(hub.ClassLabel(names=["cat", "dog"]), [0, 1, 1, 0]))
    columns = {"picture": "image", "what": "label"}
    found = load_dataset(block(kind="classification", columns=columns))
    assert found["val"].classnames == ["cat", "dog"]
    assert [found["train"][i]["label"] for i in range(3)] == [0, 1, 1]


def test_files_with_pictures_in_a_folder(shop):
    (shop / "rows.csv").write_text("image,caption\n" + "".join(f"{n},a {n}\n" for n in NAMES))
    given = {"path": "csv", "data_files": {"some": "rows.csv"}, "splits": {"train": "some[:75%]"}}
    found = load_dataset({"kind": "caption", "images": ".", "hub": given})
    assert len(found["train"]) == 3
    assert red(found["train"][1]["image"]) == 20
    given = {"path": "csv", "data_files": "rows.csv"}
    split = {"train": 0.5, "val": 0.5}
    found = load_dataset({"kind": "caption", "images": ".", "hub": given, "split": split})
    assert sorted(r["image"] for d in found.values() for r in d.annotation) == NAMES


def test_what_cannot_be_had_is_told_in_one_line(shop, monkeypatch):
    saved(shop, text=(hub.Value("string"), ["a", "b", "c", "d"]))
    with pytest.raises(ConfigError, match=r"hub\.splits: .*saved has no split 'valid'; did you m"):
        load_dataset(block(hub={"path": "saved", "splits": {"val": "valid"}}))
    with pytest.raises(FileError, match=r"own\.hub: cannot load nowhere/at_all: ") as caught:
        load_dataset(block(hub={"path": "nowhere/at_all"}))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"own\.hub\.pth: unknown key; did you mean 'path'"):
        load_dataset(block(hub={"pth": "saved"}))
    with pytest.raises(ConfigError, match=r"hub\.splits: name the one .* \(train, val\)"):
        load_dataset(block(split={"train": 0.5, "val": 0.5}))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'lavis_clone\[data\]'"):
        load_dataset(block())
