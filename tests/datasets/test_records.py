"""Large annotation files: Arrow files in the cache hold what the files hold, record for record."""

from __future__ import annotations

import csv
import json
import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lavis_clone.datasets import annotations as annotations_module
from lavis_clone.datasets import records as records_module
from lavis_clone.datasets import stored as stored_module
from lavis_clone.datasets.annotations import AnnotationError, Records, read_annotations
from lavis_clone.datasets.json_items import NoJsonList, json_items
from lavis_clone.datasets.kinds.caption import CaptionDataset
from lavis_clone.datasets.kinds.classification import ClassificationDataset
from lavis_clone.datasets.records import ArrowRecords, write_records
from lavis_clone.datasets.stored import distinct_numbers, joined, large_annotations, stored


@pytest.fixture
def all_large(cache, monkeypatch):
    """Even the smallest files count as large; the folder of the cache that they get."""
    monkeypatch.setattr(stored_module, "LARGE", 0)
    monkeypatch.setattr(annotations_module, "WHOLE", 0)
    return cache / "annotations"


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(records_module, "BATCH", 3)


def through_a_file(rows, path):
    assert write_records(rows, path) == len(rows)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return ArrowRecords([path])


def same(found, rows):
    """Equal values of equal types."""
    return repr([_sorted(r) for r in found]) == repr([_sorted(r) for r in rows])


def _sorted(record):
    return dict(sorted(record.items()))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(st.characters(), max_size=5),  # half surrogate pairs, too, as JSON may hold them
    st.lists(st.text(max_size=3), max_size=3),
    st.lists(st.integers(-5, 5), max_size=3),
    st.lists(st.one_of(st.none(), st.text(max_size=2), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_any_records_come_out_as_they_were_put_in(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "a.arrow"
    before, records_module.BATCH = records_module.BATCH, 3
    try:
        found = through_a_file(rows, path)
    finally:
        records_module.BATCH = before
    assert len(found) == len(rows)
    assert same(found, rows) and same([found[i] for i in range(len(rows))], rows)


TIDY = [
    {"image": f"{i}.jpg", "caption": f"word {i}", "size": i, "tags": [], "share": i / 2, "ok": True}
    for i in range(8)
]


def test_columns_are_stored_as_what_they_are(tmp_path, small_batches):
    import pyarrow as pa

    rows = [*TIDY, {**TIDY[0], "tags": ["x"]}]
    found = through_a_file(rows, tmp_path / "a.arrow")
    assert same(found, rows)
    with pa.memory_map(str(tmp_path / "a.arrow")) as source:
        types = {field.name: str(field.type) for field in pa.ipc.open_file(source).schema}
    assert types == {
        "image": "string",
        "caption": "string",
        "size": "int64",
        "tags": "list<item: string>",
        "share": "double",
        "ok": "bool",
    }


def test_they_are_a_read_only_sequence(tmp_path, small_batches):
    write_records(TIDY[:5], tmp_path / "a.arrow")
    write_records(TIDY[5:], tmp_path / "b.arrow")
    found = joined([ArrowRecords([tmp_path / name]) for name in ("a.arrow", "b.arrow")])
    expected = [{**row, "instance_id": str(i)} for i, row in enumerate(TIDY)]
    assert same(found, expected) and same([found[i] for i in range(8)], expected)
    assert same([found[-1]], expected[-1:]) and same(found[2:7:2], expected[2:7:2])
    assert same(pickle.loads(pickle.dumps(found)), expected)
    for index in (8, -9):
        with pytest.raises(IndexError, match="of 8"):
            found[index]
    with pytest.raises(TypeError):
        found[0]["image"] = "c.jpg"
    assert same(
        joined([found, Records([{"image": "x"}])])[8:], [{"image": "x", "instance_id": "8"}]
    )


FORMS = ["a.json", "a.jsonl", "a.csv", "a.tsv", "mapping.json"]


def annotation_file(folder, name, rows):
    path = folder / name
    if name == "mapping.json":
        path.write_text(json.dumps({"info": {}, "annotations": rows}))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return path


@pytest.mark.parametrize("name", FORMS)
def test_large_files_hold_what_small_ones_hold(tmp_path, all_large, name):
    rows = [{"image": f"{i}.jpg", "caption": f'a, "b" {i} ö'} for i in range(9)]
    path = annotation_file(tmp_path, name, rows)
    found = large_annotations(path, required=["image"])
    assert isinstance(found, ArrowRecords)
    assert list(map(dict, found)) == read_annotations(path) == rows


def test_the_second_start_reads_no_annotation_file(tmp_path, cache, monkeypatch):
    path = annotation_file(tmp_path, "a.jsonl", TIDY)
    first = large_annotations(path, required=["image"], check=lambda r: None, rules="1")
    monkeypatch.setattr(stored_module, "iterate_annotations", None)
    seen = []
    again = large_annotations(path, required=["image"], check=seen.append, rules="1")
    assert same(again, TIDY) and first.paths == again.paths and not seen
    large_annotations(path, required=["image"], check=seen.append, rules="2")
    assert len(seen) == len(TIDY)  # other rules
    with pytest.raises(AnnotationError, match="a.jsonl, record 1: has no 'question'"):
        large_annotations(path, required=["question"], rules="1")


def test_a_changed_file_is_read_anew(tmp_path, cache):
    path = annotation_file(tmp_path, "a.jsonl", TIDY)
    stat = path.stat()
    assert len(large_annotations(path)) == 8
    annotation_file(tmp_path, "a.jsonl", TIDY[:3])
    assert len(large_annotations(path)) == 3
    path.write_text(path.read_text().replace("word", "WORD"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert large_annotations(path)[0]["caption"] == "WORD 0"


def test_bad_records_are_told_and_nothing_is_kept(tmp_path, all_large):
    path = annotation_file(tmp_path, "a.json", TIDY)
    with pytest.raises(AnnotationError, match="a.json, record 3: no 2"):
        large_annotations(path, check=lambda r: "no 2" if r["size"] == 2 else None)
    assert not list(all_large.glob("*.arrow"))
    for text, message in (
        ('[{"a": 1},\n{"a": ]', r"line 2: not valid JSON: .* \(column 7\)"),
        ('[{"a": 1}', "line 1: not valid JSON"),
        ("[]", "holds no records"),
        ('[{"a": 1}, 3]', "record 2: must be a mapping, got int"),
        ('{"x": 3}', "must be a list of records"),
    ):
        path.write_text(text)
        with pytest.raises(AnnotationError, match=message):
            large_annotations(path)


def test_a_cache_that_cannot_be_written_to(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path / "file" / "cache"))
    found = large_annotations(annotation_file(tmp_path, "a.jsonl", TIDY))
    assert same(found, TIDY) and isinstance(found, Records)
    assert "a.jsonl: keeping its records in memory" in caplog.text


def test_without_pyarrow_records_are_kept_in_memory(tmp_path, cache, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = large_annotations(annotation_file(tmp_path, "a.jsonl", TIDY))
    assert same(found, TIDY) and isinstance(found, Records)
    assert "pip install 'lavis_clone[data]'" in caplog.text


def test_a_damaged_file_of_the_cache_is_named(tmp_path, cache):
    path = annotation_file(tmp_path, "a.jsonl", TIDY)
    kept = large_annotations(path).paths[0]
    kept.write_bytes(kept.read_bytes()[:50])
    with pytest.raises(AnnotationError, match=rf"{kept.name}: damaged: .*; remove it"):
        large_annotations(path)


def test_other_forms_of_one_file_are_kept_apart(tmp_path, cache):
    path = annotation_file(tmp_path, "a.jsonl", TIDY)
    found = [stored(path, lambda n=n: [{"n": n}], form=str(n)) for n in (1, 2)]
    assert [list(map(dict, records)) for records in found] == [[{"n": 1}], [{"n": 2}]]


def test_numbers_of_ids(tmp_path, cache, small_batches, monkeypatch):
    rows = [{"image": name, "image_id": None} for name in "abcab"] + [{"image": "x", "image_id": 1}]
    kept = stored(annotation_file(tmp_path, "a.jsonl", rows), lambda: rows)

    def id_of(record):
        return record["image"] if record["image_id"] is None else record["image_id"]

    expected = [0, 1, 2, 0, 1, 3]
    assert distinct_numbers(Records(rows), id_of, name="x").tolist() == expected
    assert distinct_numbers(kept, id_of, name="x").tolist() == expected
    assert isinstance(distinct_numbers(kept, None, name="x"), np.memmap)  # read, not computed
    assert distinct_numbers(kept, lambda r: r["image"], name="y").tolist() == [0, 1, 2, 0, 1, 3]


def test_a_data_set_of_large_files_is_the_same(tmp_path, all_large, monkeypatch):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    rows = [{"image": "a.png", "caption": [f"{i}", "x"], "image_id": i // 2} for i in range(6)]
    paths = [annotation_file(tmp_path, name, rows) for name in ("a.json", "b.jsonl")]
    large = CaptionDataset(vis_root=tmp_path, ann_paths=paths)
    monkeypatch.setattr(stored_module, "LARGE", 2**30)
    small = CaptionDataset(vis_root=tmp_path, ann_paths=paths)
    assert isinstance(large.annotation, ArrowRecords) and isinstance(small.annotation, Records)
    assert same(large.annotation, small.annotation)
    assert large.img_ids == small.img_ids == {0: 0, 1: 1, 2: 2}
    for index in (0, 7):
        assert large[index]["image_id"] == small[index]["image_id"]
    assert large.describe(7) == small.describe(7)


def test_rules_that_differ_from_data_set_to_data_set_are_gone_by(tmp_path, all_large):
    path = annotation_file(tmp_path, "a.json", [{"image": "a.png", "label": "cat"}])
    ClassificationDataset(vis_root=tmp_path, ann_paths=[path], class_names=["cat"])
    with pytest.raises(AnnotationError, match="label 'cat' is no class"):
        ClassificationDataset(vis_root=tmp_path, ann_paths=[path], class_names=["dog"])


@settings(max_examples=40, deadline=None)
@given(
    items=st.lists(VALUES, max_size=5),
    indent=st.sampled_from([None, 1]),
    chunk=st.integers(1, 30),
)
def test_json_lists_are_read_in_pieces(items, indent, chunk, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(items, indent=indent))
    assert repr(list(json_items(path, chunk=chunk))) == repr(json.loads(path.read_text()))


@pytest.mark.parametrize("text", ["", "3", '{"a": []}', "[1, 2", "[1 2]", "[1,]", "[1] 2", '["a'])
def test_what_is_no_json_list(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(NoJsonList):
        list(json_items(tmp_path / "a.json", chunk=1))
