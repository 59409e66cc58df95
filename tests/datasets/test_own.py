"""Data of one's own, in the short form."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from lavis_clone.common.config import load_config
from lavis_clone.common.files import FileError
from lavis_clone.common.own_data import expand
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import UnknownName
from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds.caption import CaptionDataset, CaptionEvalDataset
from lavis_clone.job import build_datasets, check_own_media
from tests.datasets.making import draw, red

NAMES = [f"{number}.png" for number in range(1, 9)]
ROWS = [(name, f"thing {number}", number % 2) for number, name in enumerate(NAMES, start=1)]


@pytest.fixture
def shop(tmp_path, cache, monkeypatch):
    """A working directory with ``pictures`` and ``rows.csv``, whose columns have odd names."""
    folder = tmp_path / "shop"
    (folder / "pictures").mkdir(parents=True)
    draw(folder / "pictures", *NAMES)
    lines = ["file_name,text,kind", *(f"{n},{t},{k}" for n, t, k in ROWS)]
    (folder / "rows.csv").write_text("\n".join(lines))
    monkeypatch.chdir(folder)
    return folder


COLUMNS = {"file_name": "image", "text": "caption"}


def block(**changes):
    found = {
        "kind": "caption",
        "images": "pictures",
        "annotations": {"train": "rows.csv", "val": "rows.csv"},
        "columns": COLUMNS,
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}


def test_a_block_is_enough(shop):
    datasets = load_dataset(block())
    assert isinstance(datasets["train"], CaptionDataset)
    assert isinstance(datasets["val"], CaptionEvalDataset)
    sample = datasets["train"][2]
    assert (sample["text_input"], red(sample["image"])) == ("thing 3", 30)
    assert datasets["val"].annotation[0]["kind"] == "1"
    assert datasets["val"].references()["1"] == ["thing 1"]


@pytest.mark.parametrize("name", ["json", "jsonl", "tsv", "parquet"])
def test_tables_of_all_formats(shop, name):
    rows = [{"file_name": n, "text": t, "kind": k} for n, t, k in ROWS]
    path = shop / f"rows.{name}"
    if name == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name == "tsv":
        path.write_text("\n".join(["file_name\ttext", *(f"{n}\t{t}" for n, t, _ in ROWS)]))
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if name == "jsonl" else f"[{','.join(lines)}]")
    datasets = load_dataset(block(annotations={"train": path.name}))
    assert [datasets["train"][i]["text_input"] for i in range(8)] == [t for _, t, _ in ROWS]


def test_several_sets_in_one_file(shop):
    content = {"first": block(), "second": block(annotations={"train": ["rows.csv", "rows.csv"]})}
    (shop / "run.yaml").write_text(yaml.safe_dump({"datasets": content}))
    second = load_dataset("second", "run.yaml")
    assert {split: len(dataset) for split, dataset in second.items()} == {"train": 16}
    assert second["train"].name == "second"
    with pytest.raises(ConfigError, match=r"say which one \(it has first, second\)"):
        load_dataset("run.yaml")
    with pytest.raises(ConfigError, match="no data set 'secnd'; did you mean 'second'"):
        load_dataset("secnd", "run.yaml")
    del content["second"]
    (shop / "run.yaml").write_text(yaml.safe_dump({"datasets": content}))
    assert load_dataset(shop / "run.yaml")["val"].name == "first"


def test_places_are_found_here_and_in_the_cache(shop, cache, monkeypatch):
    cache.mkdir()
    shutil.move(shop / "pictures", cache / "pictures")
    monkeypatch.chdir(shop.parent)
    changes = {"annotations": {"val": "shop/rows.csv"}}
    assert red(load_dataset(block(**changes))["val"][7]["image"]) == 80
    with pytest.raises(FileError) as caught:
        load_dataset(block(images="picture", annotations={"val": "rows.cvs"}))
    first, second = str(caught.value).splitlines()
    looked = f"(looked for in {shop.parent} and {cache})"
    assert first == (
        f"datasets.own.images: no such folder: picture {looked}; did you mean 'pictures'?"
    )
    assert second == f"datasets.own.annotations.val: no such annotation file: rows.cvs {looked}"


def test_a_template_makes_texts_of_columns(shop):
    found = load_dataset(block(template="a photo of {caption}, {kind}"))
    assert found["train"][0]["text_input"] == "a photo of thing 1, 1"
    assert found["val"].references()["2"] == ["a photo of thing 2, 0"]
    named = {"kind": "vqa", "template": {"question": "what is {file_name}", "answer": "{text}"}}
    columns = {"file_name": "image"}
    with pytest.raises(AnnotationError, match="record 1: the template .* needs 'file_name'"):
        load_dataset(block(**named, columns=columns))
    named["template"]["question"] = "what is {image}"
    sample = load_dataset(block(**named, columns=columns))["train"][0]
    assert (sample["text_input"], sample["answers"]) == ("what is 1.png", ["thing 1"])


def test_a_template_of_a_list_makes_a_list(shop):
    rows = [{"image": NAMES[0], "caption": ["one", "two"]}, {"image": NAMES[1], "caption": "three"}]
    (shop / "rows.json").write_text(json.dumps(rows))
    changes = {"annotations": {"val": "rows.json"}, "columns": None, "template": "see {caption}"}
    references = load_dataset(block(**changes))["val"].references()
    assert references == {"1": ["see one", "see two"], "2": ["see three"]}


def test_a_split_may_have_columns_of_its_own(shop):
    (shop / "test.csv").write_text("path\n1.png\n")
    test = {"storage": "test.csv", "columns": {"path": "image"}}
    found = load_dataset(block(annotations={"train": "rows.csv", "test": test}))
    assert len(found["test"]) == 1
    assert len(found["train"]) == 8


def test_a_table_is_split_by_the_names_of_its_files(shop):
    parts = {"train": 0.5, "val": 0.5}
    found = load_dataset(block(annotations="rows.csv", split=parts))
    files = {s: [r["image"] for r in dataset.annotation] for s, dataset in found.items()}
    assert sorted(files["train"] + files["val"]) == NAMES
    assert files["train"] == ["2.png", "6.png", "7.png", "8.png"]  # SHA-256 decides
    (shop / "rows.csv").write_text((shop / "rows.csv").read_text() + "\n6.png,again,1")
    again = load_dataset(block(annotations="rows.csv", split=parts))
    assert [r["image"] for r in again["train"].annotation] == [*files["train"], "6.png"]
    with pytest.raises(AnnotationError, match="none of its 9 records falls"):
        load_dataset(block(annotations="rows.csv", split={"train": 0.999, "val": 0.001}))


def test_folders_of_classes(shop):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (shop / split / name).mkdir(parents=True)
            draw(shop / split / name, *NAMES[:2])
    folders = {"kind": "image_folder", "annotations": None, "columns": None}
    (shop / "all").mkdir()
    shutil.move(shop / "train", shop / "all" / "train")
    shutil.move(shop / "val", shop / "all" / "val")
    found = load_dataset(block(**folders, images="all"))
    assert {s: len(d) for s, d in found.items()} == {"train": 4, "val": 4}
    assert found["val"].classnames == ["cat", "dog"]
    parts = {"train": 0.5, "val": 0.5}
    found = load_dataset(block(**folders, images="all/train", split=parts))
    names = [r["image"] for dataset in found.values() for r in dataset.annotation]
    assert sorted(names) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"]
    assert found["train"].classnames == found["val"].classnames == ["cat", "dog"]
    shutil.rmtree(shop / "all/val/dog")
    with pytest.raises(ConfigError, match="train and val have folders of other classes: dog"):
        load_dataset(block(**folders, images="all"))


def test_pictures_with_texts_beside_them(shop):
    for number, name in enumerate(NAMES):
        lines = f"\nthing {number}\nobject {number}\n" if number % 2 else f"thing {number}"
        (shop / "pictures" / name).with_suffix(".txt").write_text(lines)
    pairs = {"annotations": None, "columns": None}
    found = load_dataset(block(**pairs, split={"train": 0.5, "val": 0.5}))
    assert sum(map(len, found.values())) == 8
    assert found["train"].annotation[0]["caption"] == ["thing 1", "object 1"]
    (shop / "all").mkdir()
    shutil.copytree(shop / "pictures", shop / "all" / "val")
    found = load_dataset(block(**pairs, images="all", template="see {caption}"))
    assert found["val"].annotation[0]["image"] == "val/1.png"
    assert found["val"].references()["1"] == ["see thing 0"]
    assert red(found["val"][1]["image"]) == 20
    (shop / "pictures" / "4.txt").unlink()
    with pytest.raises(AnnotationError, match=r"1 of 8 images have no .txt file .* e\.g\. 4\.png"):
        load_dataset(block(**pairs, split={"train": 1.0}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "captoin"}, "own.kind: unknown kind 'captoin'; did you mean 'caption'"),
        ({"kind": None}, "own.kind: required"),
        ({"imags": "pictures"}, "own.imags: unknown key; did you mean 'images'"),
        ({"images": None}, "own.images: required: the folder of the images"),
        ({"images": None, "videos": "pictures"}, "own.images: required for kind caption, not vid"),
        ({"videos": "pictures"}, "has both images and videos"),
        ({"annotations": "rows.csv"}, "own.annotations: name the splits, e.g."),
        ({"annotations": 3}, "own.annotations: must be a file or files by split"),
        ({"kind": "vqa", "annotations": None}, "own.annotations: required for kind vqa"),
        ({"split": {"train": 0.9, "val": 0.1}}, "own.split: annotations name their splits al"),
        ({"columns": {"a": "image", "b": "image"}}, "own.columns: 'a' and 'b' are both to be 'i"),
        ({"template": "a {caption"}, "own.template: 'a {caption' is no template"),
        ({"template": "a photo"}, "own.template: 'a photo' names no column"),
        ({"template": "{caption.upper}"}, "in braces must be the name of a column"),
        ({"template": {"caption": "a {}"}}, "own.template.caption: 'a {}': in braces"),
        (
            {"annotations": "rows.csv", "split": {"train": 0.9, "val": 0.2}},
            "own.split: the parts must add up to 1, got 1.1",
        ),
    ],
)
def test_wrong_blocks_are_told(shop, changes, told):
    with pytest.raises(ConfigError) as caught:
        load_dataset(block(**changes))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "changes", "told"),
    [
        ("", {}, "rows.csv: holds no records"),
        ("file_name,text", {}, "rows.csv: holds no records"),
        ("file,text\na,b", {}, "no column 'file_name'; did you mean 'file'? (it has file, text)"),
        ("file_name,text,text\na,b,c", {}, "a column is named twice"),
        ("file_name,text\na,", {"template": "a {caption}"}, "needs 'caption', which is empty"),
        ("file_name,text\na,b", {"template": "a {color}"}, "needs 'color' (it has image, caption)"),
        ("file,text\na,b", {"columns": None}, "record 1: has no 'image', 'caption' (it has file,"),
    ],
)
def test_wrong_tables_are_told(shop, rows, changes, told):
    (shop / "rows.csv").write_text(rows)
    with pytest.raises(AnnotationError) as caught:
        load_dataset(block(**changes))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_only_in_the_file_needs_a_kind(shop):
    with pytest.raises(ConfigError, match=r"shop\.kind: required, since no data set is reg"):
        load_dataset("shop", block(kind=None))
    with pytest.raises(UnknownName, match="did you mean 'coco_caption'"):
        load_dataset("coco_captoin")


def test_missing_pictures_are_told(shop):
    (shop / "pictures" / "3.png").unlink()
    datasets = build_datasets({"shop": expand(block(), where="datasets.shop")}, ["train"])
    assert list(datasets["shop"]) == ["train"]
    with pytest.raises(FileError, match=r"shop, split train: 1 of the 8 files .*3\.png"):
        check_own_media({"shop": block()}, datasets)
    check_own_media({"shop": block(kind="pairs")}, datasets)


def test_a_registered_set_can_be_told_in_short(shop):
    found = load_dataset("coco_caption", block(kind=None))
    assert len(found["val"]) == 8


def write_run(folder, model, **datasets):
    run = {"task": "captioning", "train_splits": ["train"], "max_epoch": 1, "init_lr": 1e-4}
    run |= {"lr_sched": "linear_warmup_cosine_lr", "batch_size_train": 2, "batch_size_eval": 2}
    content = {"model": model, "datasets": datasets, "run": {**run, "num_workers": 0}}
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    return folder / "run.yaml"


def test_a_run_takes_the_processors_of_its_model(shop, monkeypatch):
    model = {"arch": "blip_caption", "model_type": "tiny_emoji", "image_size": 64}
    config = load_config(write_run(shop, model, shop=block(), more=block()))
    found = config.datasets["shop"]
    assert found["vis_processor"]["train"] == {"name": "blip_image_train", "image_size": 64}
    assert found["text_processor"]["eval"] == {"name": "blip_caption"}
    assert found["build_info"]["images"] == {"storage": str(shop / "pictures")}
    assert found["build_info"]["annotations"]["val"] == {"storage": str(shop / "rows.csv")}
    assert "annotations" not in found
    config.save(shop / "saved.yaml")
    monkeypatch.chdir(shop.parent)
    assert load_config(shop / "saved.yaml") == config  # and from anywhere
    changed = load_config(shop / "saved.yaml", ["datasets.shop.annotations.val=b.csv"])
    assert changed.datasets["shop"]["build_info"]["annotations"]["val"]["storage"] == "b.csv"


def test_a_saved_split_loads_again(shop):
    parts = {"train": 0.5, "val": 0.5}
    model = {"arch": "blip_caption", "model_type": "tiny_emoji"}
    path = write_run(shop, model, shop=block(annotations="rows.csv", split=parts))
    config = load_config(path)
    config.save(shop / "saved.yaml")
    assert load_config(shop / "saved.yaml") == config
    with pytest.raises(ConfigError, match="split: has train, val, but annotations also test"):
        load_config(shop / "saved.yaml", ["datasets.shop.build_info.annotations.test.storage=a"])


def test_all_that_is_wrong_with_a_run_is_told_at_once(shop):
    wrong = {"first": block(kind="captoin"), "second": block(imags=3), "third": block(kind=None)}
    model = {"arch": "blip_caption", "model_type": "tiny_emoji"}
    with pytest.raises(ConfigError) as caught:
        load_config(write_run(shop, model, **wrong))
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "datasets.third.kind",
        "datasets.first.kind",
        "datasets.second.imags",
    ]


def test_what_is_not_known_yet_is_left_in_place():
    told = expand({"images": "${oc.env:HOME}/x"}, where="datasets.a")
    assert told["build_info"]["images"]["storage"] == "${oc.env:HOME}/x"
