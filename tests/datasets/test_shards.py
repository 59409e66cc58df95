"""Shards: every sample once, found by its index, and damage told by the shard's name."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter

import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lavis_clone.common.context import RunContext
from lavis_clone.common.members import Member, member_of
from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.annotations import AnnotationError, read_annotations
from lavis_clone.datasets.builders.own import OwnBuilder
from lavis_clone.datasets.kinds.caption import CaptionDataset
from lavis_clone.datasets.kinds.classification import ClassificationDataset
from lavis_clone.datasets.kinds.vqa import VqaDataset
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.records import ArrowRecords
from lavis_clone.datasets.shards import expand_braces, open_up, shard_rows
from lavis_clone.processors.pictures import ImageError, load_image
from tests.common.server import serve
from tests.datasets.making import red, small


def picture(number, form="png"):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(file, form)
    return file.getvalue()


def write_shard(path, members):
    """A tar file of names and contents, in their order."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else str(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def captions(start, count):
    members = {}
    for number in range(start, start + count):
        members |= {f"{number:04}.png": picture(number), f"{number:04}.txt": f"number {number}"}
    return members


def two_shards(folder, sizes=(3, 4)):
    return [
        write_shard(folder / f"part-{n}.tar", captions(sum(sizes[:n]), size))
        for n, size in enumerate(sizes)
    ]


def test_a_shard_is_a_data_set_like_any_other(tmp_path, cache):
    dataset = CaptionDataset(ann_paths=two_shards(tmp_path))
    assert len(dataset) == 7 and isinstance(dataset.annotation, ArrowRecords)
    for index in (6, 0, 3):  # in any order
        sample = dataset[index]
        assert (sample["text_input"], red(sample["image"])) == (f"number {index}", 10 * index)
        assert sample["image_id"] == index
    record = dataset.annotation[3]
    assert record["image_id"] == "part-1/0003" and record["instance_id"] == "3"
    assert member_of(dataset.describe(3).media["image"]).name == "0003.png"
    kept = sorted((cache / "annotations").glob("*.arrow"))
    stamps = [path.stat().st_mtime_ns for path in kept]
    CaptionDataset(ann_paths=[tmp_path / "part-0.tar", tmp_path / "part-1.tar"])
    assert len(kept) == 2 and [p.stat().st_mtime_ns for p in kept] == stamps


def test_members_make_fields(tmp_path, cache):
    path = write_shard(
        tmp_path / "a.tar",
        {
            "deep/1.jpg": picture(1, "jpeg"),
            "deep/1.json": json.dumps({"image_id": 77, "caption": "from json", "more": [1, 2]}),
            "deep/1.txt": "from txt\n",
            "2.WEBP": picture(2, "webp"),
            "2.cls": b"3\n",
            "3.left.jpg": picture(3, "jpeg"),
            "3.right.png": picture(4),
            "3.question.txt": "same?",
            "3.cls": "no",
            "4.npy": b"not read",
            ".hidden": b"not read",
        },
    )
    rows = list(shard_rows(path))
    pictures = [{k: load_image(v).size for k, v in r.items() if ".tar/" in str(v)} for r in rows]
    assert pictures == [{"image": (4, 4)}, {"image": (4, 4)}, {"left": (4, 4), "right": (4, 4)}]
    rest = [{k: v for k, v in row.items() if ".tar/" not in str(v)} for row in rows]
    assert rest == [
        {"image_id": 77, "caption": "from txt", "more": [1, 2]},
        {"image_id": "a/2", "label": 3},
        {"image_id": "a/3", "question": "same?", "label": "no"},
    ]


def test_other_kinds(tmp_path, cache):
    members = {"1.png": picture(1), "1.question.txt": "what", "1.answer.txt": "red", "1.cls": "1"}
    path = write_shard(tmp_path / "a.tar", members)
    asked = VqaDataset(ann_paths=[path])[0]
    assert (asked["text_input"], asked["answers"]) == ("what", ["red"])
    assert ClassificationDataset(ann_paths=[path])[0]["label"] == 1
    with pytest.raises(AnnotationError, match=r"a.tar, record 1: has no 'caption'"):
        CaptionDataset(ann_paths=[path])


def test_what_webdataset_writes_is_read_as_it_reads_it(tmp_path, cache):
    path = tmp_path / "w.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(5):
            writer.write(
                {"__key__": f"x/{number}", "png": picture(number), "txt": f"n {number}", "cls": 2}
            )
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    ours = list(shard_rows(path))
    for one, other in zip(ours, theirs, strict=True):
        assert member_of(one["image"]).read() == other["png"]
        assert one["caption"] == other["txt"].decode() and one["label"] == int(other["cls"])
        assert one["image_id"] == f"w/{other['__key__']}"


def broken(path, kind):
    data = path.read_bytes()
    if kind == "cut in a picture":
        path.write_bytes(data[:700])
    elif kind == "cut between members":
        path.write_bytes(data[:2048])
    elif kind == "overwritten":
        path.write_bytes(data[:2048] + b"x" * 512 + data[2560:])
    elif kind == "no tar file":
        path.write_bytes(b"hello" * 300)
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "compressed":
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("a"))


@pytest.mark.parametrize(
    "kind",
    [
        "cut in a picture",
        "cut between members",
        "overwritten",
        "no tar file",
        "empty file",
        "compressed",
    ],
)
def test_damaged_shards_are_told_by_name(tmp_path, cache, kind):
    path = two_shards(tmp_path)[1]
    broken(path, kind)
    with pytest.raises(AnnotationError, match=r"part-1.tar: damaged") as caught:
        read_annotations(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "members, message",
    [
        ({"1.jpg": b"x", "1.png": b"x"}, "sample '1' has two members for 'image'"),
        ({"1.jpg": b"x", "2.jpg": b"x", "1.txt": b"x"}, "members of '1' do not lie together"),
        ({"1.json": b"{"}, "1.json: not valid JSON"),
        ({"1.json": b"[1]"}, "1.json: must be a mapping"),
        ({"1.txt": b"\xff"}, "1.txt: not UTF-8"),
        ({}, "holds no records"),
    ],
)
def test_bad_samples_are_told(tmp_path, members, message):
    with pytest.raises(AnnotationError, match=f"a.tar: .*{message}"):
        read_annotations(write_shard(tmp_path / "a.tar", members))


def test_a_shard_that_changed_under_a_run_is_a_bad_picture(tmp_path):
    path = write_shard(tmp_path / "a.tar", {"1.png": picture(1)})
    row = next(shard_rows(path))
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="a.tar ends within 1.png"):
        load_image(row["image"])
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(str(Member(tmp_path / "none.tar", "1.png", 0, 5)))
    assert member_of("folder/a@2.jpg") is None and member_of("a.tar/b.jpg") is None


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    ranks=st.integers(1, 3),
    seed=st.integers(0, 9),
    is_train=st.booleans(),
    cut=st.integers(0, 6),
)
def test_each_sample_once_on_any_number_of_ranks(
    sizes, ranks, seed, is_train, cut, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAVIS_CLONE_CACHE", str(folder / "cache"))
        dataset = CaptionDataset(small(), ann_paths=two_shards(folder, sizes))
    seen = Counter()
    for rank in range(ranks):
        context = RunContext(folder, torch.device("cpu"), rank, ranks)
        options = {"batch_size": 1, "is_train": is_train, "seed": seed, "context": context}
        loader = build_loader(dataset, **options)
        for number, _ in enumerate(loader, start=1):
            seen.update(loader.last_keys)
            if number == cut:
                break
        rest = build_loader(dataset, **options)
        rest.load_state_dict(loader.state_dict())
        for _ in rest:
            seen.update(rest.last_keys)
    total = sum(sizes)
    if not is_train or ranks == 1:
        assert seen == Counter({("", index): 1 for index in range(total)})
    elif total >= ranks:
        assert len(seen) == seen.total() == total // ranks * ranks


def test_workers_share_shards(tmp_path, cache):
    dataset = CaptionDataset(small(), ann_paths=two_shards(tmp_path))
    batches = list(build_loader(dataset, batch_size=2, is_train=False, num_workers=2))
    assert [text for b in batches for text in b["text_input"]] == [f"number {i}" for i in range(7)]


def test_patterns():
    assert expand_braces("a-{000..002}.tar") == ["a-000.tar", "a-001.tar", "a-002.tar"]
    assert expand_braces("{x,y}/{9..10}.tar") == ["x/9.tar", "x/10.tar", "y/9.tar", "y/10.tar"]
    assert expand_braces("plain.tar") == ["plain.tar"]
    assert expand_braces("{}.tar") == ["{}.tar"]


def test_places_of_shards():
    opened = open_up({"annotations": {"train": {"storage": "a{0..1}.tar"}}})
    assert opened["annotations"] == {"train": {"storage": ["a0.tar", "a1.tar"]}}
    assert "images" in opened
    table = {"images": {"storage": "x"}, "annotations": {"train": {"storage": "a{0..1}.csv"}}}
    assert open_up(table) == table
    with pytest.raises(ConfigError, match="'pipe:curl x' is a command"):
        open_up({"annotations": {"train": {"storage": ["a.tar", "pipe:curl x"]}}})


def own(annotations):
    builder = OwnBuilder({"kind": "caption", "annotations": annotations})
    builder.name = "mine"
    return builder.build_datasets()


def test_a_run_names_shards_by_a_pattern(tmp_path, cache, monkeypatch):
    two_shards(tmp_path)
    monkeypatch.chdir(tmp_path)
    built = own({"train": "part-{0..1}.tar", "val": "part-0.tar"})
    assert (len(built["train"]), len(built["val"])) == (7, 3)
    assert red(built["train"][4]["image"]) == 40


def test_shards_from_a_server(tmp_path, cache, monkeypatch):
    monkeypatch.delenv("LAVIS_CLONE_OFFLINE")
    pages = {f"/{path.name}": path.read_bytes() for path in two_shards(tmp_path)}
    with serve() as site:
        site.bodies = pages
        built = own({"train": f"{site.url}/part-{{0..1}}.tar"})
        assert len(built["train"]) == 7 and red(built["train"][6]["image"]) == 60
