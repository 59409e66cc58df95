"""What the shipped emoji sample promises; ``projects/emoji/README.md`` says the same in words."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lavis_clone.datasets.builders import load_dataset

SAMPLE = Path(__file__).parents[2] / "lavis_clone/assets/emoji"
SPLITS = ("train", "val", "test")
VENDORS = {"train": {"noto", "fluent-flat"}, "val": {"openmoji"}, "test": {"twemoji"}}
FIELDS = {"image", "caption", "image_id", "concept", "name", "base", "vendor", "group"}
MEGABYTE = 1_000_000
MAX_SHARED = 3

Records = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def records() -> Records:
    return {s: json.loads((SAMPLE / f"annotations/{s}.json").read_text()) for s in SPLITS}


def references(row: dict[str, Any]) -> list[str]:
    return row.get("references", row["caption"])


def test_it_is_large_enough_to_learn_from_and_small_enough_to_ship(records: Records) -> None:
    assert len(records["train"]) > 1000
    assert all(len(records[split]) > 500 for split in ("val", "test"))
    assert sum(p.stat().st_size for p in SAMPLE.rglob("*") if p.is_file()) < 6.5 * MEGABYTE


@pytest.mark.parametrize("split", SPLITS)
def test_every_picture_opens_and_is_annotated_once(records: Records, split: str) -> None:
    names = [row["image"] for row in records[split]]
    assert len(names) == len(set(names))
    on_disk = {
        f"{vendor}/{path.name}"
        for vendor in VENDORS[split]
        for path in (SAMPLE / "images" / vendor).iterdir()
    }
    assert set(names) == on_disk
    for name in names:
        with Image.open(SAMPLE / "images" / name) as picture:
            assert picture.size == (128, 128), name
            assert len(set(picture.convert("L").tobytes())) > 1, f"{name} is blank"


def test_no_vendor_and_no_held_out_concept_is_in_two_splits(records: Records) -> None:
    for split, rows in records.items():
        assert {row["vendor"] for row in rows} == VENDORS[split]
    trained = {row["concept"] for row in records["train"]}
    unseen = {s: {r["concept"] for r in records[s] if not r["seen"]} for s in ("val", "test")}
    assert not trained & (unseen["val"] | unseen["test"])
    assert not unseen["val"] & unseen["test"]
    assert all(len(concepts) > 50 for concepts in unseen.values())
    for split in ("val", "test"):
        assert {row["concept"] for row in records[split] if row["seen"]} == trained


def test_the_split_is_the_hash_of_the_concept(records: Records) -> None:
    held_out = {"test": 0, "val": 1}
    for split, rows in records.items():
        for row in rows:
            part = int(hashlib.md5(row["concept"].encode()).hexdigest(), 16) % 10
            assert row["seen"] == (part > 1), row["image_id"]
            assert row["seen"] or part == held_out[split], row["image_id"]


def test_no_look_alike_of_a_held_out_concept_is_trained_on(records: Records) -> None:
    concepts = defaultdict(set)
    for rows in records.values():
        for row in rows:
            concepts[row["base"]].add(row["concept"])
    assert all(len(of_base) == 1 for of_base in concepts.values())


def test_records_are_complete(records: Records) -> None:
    ids = [row["image_id"] for rows in records.values() for row in rows]
    assert len(ids) == len(set(ids))
    groups = {row["group"] for row in records["train"]}
    assert len(groups) == 8
    for split, rows in records.items():
        assert {row["group"] for row in rows} == groups
        for row in rows:
            extra = {"references"} if split == "train" else set()
            assert set(row) == FIELDS | {"subgroup", "seen"} | extra
            assert row["image_id"] == f"{row['vendor']}_{row['concept']}"
            assert row["image"] == f"{row['vendor']}/{row['concept']}.webp"


def test_captions_are_names_in_train_and_names_first_elsewhere(records: Records) -> None:
    for rows in records.values():
        for row in rows:
            assert row["caption"][0] == references(row)[0] == row["name"]
            assert len(set(references(row))) == len(references(row))
            for text in references(row):
                assert text == text.strip().lower() and text.isascii(), text
    for row in records["train"]:
        assert row["caption"] == row["references"][: len(row["caption"])]
        assert len(row["caption"]) <= 2


def test_references_are_several_and_specific(records: Records) -> None:
    users = defaultdict(set)
    for rows in records.values():
        for row in rows:
            for text in references(row):
                users[text].add(row["base"])
    assert {t: b for t, b in users.items() if len(b) > MAX_SHARED} == {}
    for split in ("val", "test"):
        counts = sorted(len(row["caption"]) for row in records[split])
        assert counts[0] >= 1
        assert counts[len(counts) // 2] >= 4  # the median


@pytest.mark.parametrize("name", ["pizza", "rocket", "lion", "butterfly", "rainbow", "red apple"])
def test_what_everyone_knows_is_there_to_be_shown(records: Records, name: str) -> None:
    rows = [row for row in records["test"] if row["name"] == name]
    assert [row["seen"] for row in rows] == [True]


def test_every_work_is_named_with_its_licence() -> None:
    readme = (SAMPLE / "README.md").read_text()
    licences = {
        "Noto Emoji": "Apache-2.0-noto.txt",
        "Fluent UI Emoji": "MIT-fluent-emoji.txt",
        "Twemoji": "CC-BY-4.0-twemoji.txt",
        "OpenMoji": "CC-BY-SA-4.0-openmoji.txt",
        "Unicode CLDR": "Unicode-3.0-cldr.txt",
        "emojilib": "MIT-emojilib.txt",
    }
    assert {path.name for path in (SAMPLE / "LICENSES").iterdir()} == set(licences.values())
    for work, name in licences.items():
        assert work in readme
        text = (SAMPLE / "LICENSES" / name).read_text()
        assert len(text) > 900, name
        assert "<copyright holders>" not in text
    for vendor in set.union(*VENDORS.values()):
        assert f"images/{vendor}/" in readme


# --- the other tasks ----------------------------------------------------------------------------

TASKS = ("retrieval", "vqa", "nlvr", "classification")
PARTS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
FILES = [f"{task}_{part}" for task in TASKS for part in PARTS] + ["pretrain"]
DATA_SETS = [f"emoji_{task}" for task in (*TASKS, "pretrain")]


@pytest.fixture(scope="module")
def files() -> Records:
    return {f: json.loads((SAMPLE / f"annotations/{f}.json").read_text()) for f in FILES}


def images_of(row: dict[str, Any]) -> list[str]:
    return row["images"] if "images" in row else [row["image"]]


def texts_of(row: dict[str, Any]) -> list[str]:
    """All that a model may learn from a record, but its pictures."""
    fields = ("caption", "question", "answer", "sentence")
    values = [row[field] for field in fields if field in row]
    return [text for value in values for text in ([value] if isinstance(value, str) else value)]


def letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text)


@pytest.mark.parametrize("name", FILES)
def test_a_part_shows_the_pictures_of_its_split(
    files: Records, records: Records, name: str
) -> None:
    part = "train" if name == "pretrain" else name.split("_", 1)[1]
    split, _, seen = part.partition("_")
    allowed = {
        row["image"] for row in records[split] if not seen or row["seen"] == (seen == "seen")
    }
    shown = {image for row in files[name] for image in images_of(row)}
    assert shown <= allowed
    assert len(shown) > len(allowed) / 4


def test_nothing_held_out_is_named_in_training(files: Records, records: Records) -> None:
    held_out = {row["name"] for rows in records.values() for row in rows if not row["seen"]}
    assert len(held_out) > 100
    training = [row for name in FILES if "train" in name for row in files[name]]
    known = {row["name"] for row in records["train"]}
    exact = {letters(text) for row in training for text in texts_of(row)}
    assert not exact & {letters(name) for name in held_out}
    frames = (r"can this be called (.*)\?", r"(?:the|one of the) .*pictures? shows (.*)")
    named = {
        found[1]
        for row in training
        for text in texts_of(row)
        for frame in frames
        if (found := re.fullmatch(frame, text))
    }
    assert len(named) > 200
    assert named <= known


def test_a_text_to_be_found_is_the_name_of_one_picture(files: Records) -> None:
    for part in PARTS[1:]:
        names = [row["caption"] for row in files[f"retrieval_{part}"]]
        assert all(len(name) == 1 for name in names)
        assert len({name[0] for name in names}) == len(names)


def test_answers_are_in_the_list_of_training(files: Records) -> None:
    listed = json.loads((SAMPLE / "annotations/vqa_answer_list.json").read_text())
    assert listed == sorted({row["answer"] for row in files["vqa_train"]})
    for part in PARTS:
        rows = files[f"vqa_{part}"]
        if part != "train":
            asked = {row["question_type"] for row in rows}
            assert asked >= {"name", "kind", "group"}
            assert ("what" in asked) == part.endswith("_seen")
        ids = [row["question_id"] for row in rows]
        assert len(ids) == len(set(ids))
    for part in ("val_unseen", "test_unseen"):
        assert {row["answer"] for row in files[f"vqa_{part}"]} <= {*listed}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_of_the_sample_loads(name: str) -> None:
    splits = load_dataset(name)
    assert list(splits) == (["train"] if name == "emoji_pretrain" else list(PARTS))
    for dataset in splits.values():
        sample = dataset[len(dataset) - 1]
        pictures = [sample[key] for key in sample if re.fullmatch(r"image[01]?", key)]
        assert [picture.size for picture in pictures] == [(128, 128)] * len(pictures)
        assert len(pictures) == (2 if name == "emoji_nlvr" else 1)


def test_the_readme_counts_the_records(files: Records) -> None:
    readme = (SAMPLE.parents[2] / "projects/emoji/README.md").read_text()
    for task in TASKS:
        counts = " | ".join(f"{len(files[f'{task}_{part}']):,}" for part in PARTS)
        assert re.search(rf"^\| `{task}` \|.*\n\| sample \| {re.escape(counts)} \|$", readme, re.M)
