"""Annotation files: formats, and what is said about bad ones."""

from __future__ import annotations

import json
import pickle

import pytest

from lavis_clone.datasets.annotations import AnnotationError, Records, read_annotations

RECORDS = [{"image": "a.jpg", "caption": "a cat, ö"}, {"image": "b.jpg", "caption": "a\tdog"}]

GOOD = {
    "list.json": json.dumps(RECORDS),
    "mark.json": "\ufeff" + json.dumps(RECORDS),
    "one_list.json": json.dumps({"info": {}, "rows": RECORDS}),
    "named_list.json": json.dumps({"images": [], "annotations": RECORDS}),
    "lines.jsonl": "\n".join(json.dumps(r) for r in RECORDS) + "\n\n",
    "rows.csv": 'image,caption\na.jpg,"a cat, ö"\nb.jpg,a\tdog\n\n',
    "rows.tsv": 'image\tcaption\na.jpg\ta cat, ö\nb.jpg\t"a\tdog"\n',
    "UPPER.JSON": json.dumps(RECORDS),
}


@pytest.mark.parametrize("name", GOOD)
def test_formats(tmp_path, name):
    (tmp_path / name).write_text(GOOD[name], encoding="utf-8")
    assert read_annotations(tmp_path / name, required=["image", "caption"]) == RECORDS


BAD = {
    "a.json": ("[1,\n2,,]", "line 2: not valid JSON: .* \\(column 3\\)"),
    "b.json": ("[]", "holds no records"),
    "c.json": ('{"a": [], "b": []}', r"it has the lists \['a', 'b'\]"),
    "d.json": ("3", "must be a list of records, got int"),
    "e.json": ('[{"image": "a"}, 7]', "record 2: must be a mapping, got int"),
    "f.json": (
        '[{"image": "a"}, {"caption": "x"}]',
        r"record 2: has no 'image' \(it has caption\)",
    ),
    "g.json": ('[{"image": null}]', "record 1: has no 'image'"),
    "h.jsonl": ('{"image": "a"}\n\n{"image":', "line 3: not valid JSON"),
    "i.csv": ("image,caption\na,b\nc\n", "line 3: has 1 fields, but the header has 2"),
    "j.csv": ("image,image\na,b\n", "line 1: a column is named twice"),
    "k.csv": ('image\na\n"b', "line 3: "),
    "l.csv": ("", "holds no records"),
    "m.csv": ("name\na\n", "record 1: has no 'image'"),
    "n.txt": ("a", r"must end in .json, .jsonl, .csv, .tsv or .parquet"),
    "o.json": (b"\xff\xfe[", "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_told_in_one_line(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnnotationError, match=message) as caught:
        read_annotations(path, required=["image"])
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(AnnotationError, match="none.json: no such annotation file"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(AnnotationError, match="folder.json: cannot be read"):
        read_annotations(tmp_path / "folder.json")


def test_own_rules_are_told_with_the_record(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RECORDS))
    with pytest.raises(AnnotationError, match=r"a.json, record 2: no dogs"):
        read_annotations(
            tmp_path / "a.json", check=lambda r: "no dogs" if "dog" in r["caption"] else None
        )


def test_records_are_a_read_only_sequence():
    records = Records(RECORDS)
    assert len(records) == 2 and list(records) == RECORDS
    assert records[-1] == RECORDS[1] and list(records[:1]) == RECORDS[:1]
    assert list(pickle.loads(pickle.dumps(records))) == RECORDS
    for index in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            records[index]
    with pytest.raises(TypeError):
        records[0]["image"] = "c.jpg"
    assert len(Records([])) == 0
