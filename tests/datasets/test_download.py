"""Downloading data sets from a web server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tqdm import tqdm

from lavis_clone.common.config import load_data_blocks
from lavis_clone.common.files import FileError
from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets import download as downloading
from lavis_clone.datasets.builders import BaseDatasetBuilder
from lavis_clone.datasets.download import Ways
from tests.common.server import Site
from tests.datasets.toys import (
    EVERYTHING,
    IMAGES,
    PICTURES,
    RECORDS,
    block,
    files_in,
    get,
    picture,
    serve_toys,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LAVIS_CLONE_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_toys() as running:
        yield running


def test_annotations_and_pictures_arrive_once(site: Site, cache: Path) -> None:
    lines = get(block(site), media=True)
    assert lines[:3] == ["toy: licence: CC BY 4.0", "  https://toy.org", "  media: drawn here"]
    assert lines[-1] == "True" and files_in(cache) == EVERYTHING
    site.requests.clear()
    assert "nothing to download" in get(block(site), media=True)[-2]
    assert site.requests == []
    datasets = BaseDatasetBuilder(block(site)).build_datasets()
    assert [len(dataset) for dataset in datasets.values()] == [3, 3]
    assert datasets["val"][2]["image"].getpixel((0, 0)) == (2, 0, 0)


def test_without_images_only_annotations(site: Site, cache: Path) -> None:
    assert get(block(site))[-1] == "True"
    assert files_in(cache) == ["toy/train.json", "toy/val.json"]


def test_a_split_alone(site: Site, cache: Path) -> None:
    get(block(site, holds={"**/*.png": 6}), "val", media=True)
    assert files_in(cache) == [*PICTURES[3:], "toy/val.json"]
    with pytest.raises(ConfigError, match="no split 'vla'; did you mean 'val'.*has train, val"):
        get(block(site), "vla")


def test_pictures_that_are_there_by_hand_are_not_downloaded(site: Site, cache: Path) -> None:
    for name in PICTURES[:3]:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(picture(0))
    get(block(site), media=True)
    assert site.counts["/tr.zip"] == 0 and site.counts["/va.tar.gz"] > 0
    assert files_in(cache) == EVERYTHING


def test_pictures_that_were_removed_come_again(site: Site, cache: Path) -> None:
    plain = block(site)
    for source in plain["build_info"]["images"]["sources"]:
        del source["holds"]
    get(plain, media=True)
    before = site.counts["/tr.zip"], site.counts["/va.tar.gz"]
    for path in (cache / "toy/images/train").iterdir():
        path.unlink()
    (cache / "toy/images/train").rmdir()
    get(plain, media=True)
    assert files_in(cache) == EVERYTHING
    assert site.counts["/tr.zip"] > before[0] and site.counts["/va.tar.gz"] == before[1]


def test_elsewhere_with_the_overrides_that_lead_there(
    site: Site, tmp_path: Path, cache: Path
) -> None:
    lines = get(block(site), "train", media=True, to=tmp_path / "big disk")
    assert files_in(tmp_path / "big disk") == [*PICTURES[:3], "toy/train.json"]
    assert files_in(cache) == []
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"toy": block(site)}}))
    shell = ["bash", "-c", f"printf '%s\\n' {' '.join(lines[-3:-1])}"]
    options = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    found = load_data_blocks(path, options)["datasets"]["toy"]
    assert (
        BaseDatasetBuilder(
            {
                **found,
                "build_info": {
                    **found["build_info"],
                    "annotations": {"train": found["build_info"]["annotations"]["train"]},
                },
            }
        ).build_datasets()["train"][0]["text_input"]
        == "train 0"
    )


def test_archives_are_kept_on_demand(site: Site, cache: Path) -> None:
    get(block(site), "train", media=True, ways=Ways(keep=True))
    kept = [p for p in (cache / "toy/images/.downloads").rglob("tr.zip")]
    assert [p.read_bytes() for p in kept] == [site.bodies["/tr.zip"]]


def test_other_content_than_at_first_use_is_refused(site: Site, cache: Path) -> None:
    get(block(site))
    for path in ("train", "val"):
        (cache / f"toy/{path}.json").unlink()
    site.bodies["/val.json"] = b"[]"
    with pytest.raises(FileError, match=r"val.json has the sha256 .* at first use .* remove "):
        get(block(site))
    assert files_in(cache) == ["toy/train.json"]
    (cache / "toy/train.json").write_text("edited")
    with pytest.raises(FileError, match=r"toy/train.json has the sha256 .*; remove it"):
        get(block(site), "train")
    for note in (cache / "checksums").iterdir():
        note.unlink()
    assert get(block(site), "val")[-1] == "True"


def test_published_checksums_and_lengths(site: Site, cache: Path) -> None:
    one = block(site)
    data = site.bodies["/tr.zip"]
    source = one["build_info"]["images"]["sources"][0]
    source |= {"md5": hashlib.md5(data).hexdigest(), "bytes": len(data)}
    assert get(one, "train", media=True)[-1] == "True"
    source |= {"holds": {"train/*.png": 3, "train/list.txt": 1}}
    state = cache / "toy/images/.downloads"
    with pytest.raises(FileError, match=f"train/list.txt is missing; .* again, remove {state}"):
        get(one, "train", media=True)
    shutil.rmtree(state)
    source |= {"md5": "0" * 32}
    with pytest.raises(FileError, match=f"{site.url}/tr.zip has the md5 .*, not 0000"):
        get(one, "train", media=True)
    source |= {"md5": None, "bytes": 5}
    with pytest.raises(FileError, match=f"tr.zip has {len(data)} bytes, not 5"):
        get(one, "train", media=True)


def test_one_absent_file_does_not_keep_the_others_away(site: Site, cache: Path) -> None:
    one = block(site)
    site.bodies["/absent"] = b""
    one["build_info"]["annotations"]["val"]["url"] = f"{site.url}/absent.json"
    with pytest.raises(FileError) as caught:
        get(one, media=True)
    assert str(caught.value) == f"{site.url}/absent.json: the server answers 404 Not Found"
    assert files_in(cache) == []  # told before anything was downloaded
    site.bodies["/tr.zip"] = b"no archive"
    with pytest.raises(FileError, match="tr.zip: cannot be unpacked"):
        get(block(site), media=True)
    assert files_in(cache / "toy/images/val") == ["0.png", "1.png", "2.png"]


def test_redirects_and_broken_connections(site: Site, cache: Path) -> None:
    one = block(site)
    one["build_info"]["images"]["sources"][0]["url"] = f"{site.url}/moved/tr.zip"
    site.bodies["/train.json"] = json.dumps(RECORDS[:3] * 50).encode()
    site.cuts = [100, 200]
    assert get(one, "train", media=True)[-1] == "True"
    assert files_in(cache) == [*PICTURES[:3], "toy/train.json"]


@pytest.mark.parametrize("keep", [False, True])
def test_space_is_checked_before_anything_is_downloaded(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    class Usage:
        free = 1000

    sizes = {name: len(body) for name, body in site.bodies.items()}
    unpacked = [int(1.05 * sizes[f"/{name}"]) for name in IMAGES.values()]
    to_unpack = sum(unpacked) if keep else max(unpacked)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage)
    total = sum(sizes.values())
    with pytest.raises(FileError) as caught:
        get(block(site), media=True, ways=Ways(keep=keep))
    assert (
        f"{total + to_unpack:,} bytes are needed ({total:,} to download, {to_unpack:,} to unpack), "
        "1,000 are free"
    ) in str(caught.value)
    assert files_in(cache) == []


def test_what_is_left_to_the_user_is_told_and_then_verified(site: Site, cache: Path) -> None:
    one = block(
        site,
        sources=[],
        by_hand="Ask them, and\nput val/ into {storage}.",
        holds={"val/*.png": 2, "list.txt": 1},
    )
    del one["build_info"]["annotations"]["val"]["url"]
    one["build_info"]["annotations"]["val"]["by_hand"] = "Make it."
    lines = get(one, media=True)
    root = cache / "toy"
    assert (
        lines[-1] == "False"
        and f"by hand, images: Ask them, and put val/ into {root}/images" in lines
    )
    assert "by hand, val annotations: Make it" in lines and f"  {root}/val.json is missing" in lines
    (root / "images/val").mkdir(parents=True)
    (root / "images/val/0.png").touch()
    (root / "val.json").touch()
    lines = get(one, media=True)
    assert f"  {root}/images/val/*.png: there are 1 files of 2" in lines
    assert f"  {root}/images/list.txt is missing" in lines and lines[-1] == "False"
    (root / "images/val/1.png").touch()
    (root / "images/list.txt").touch()
    assert get(one, media=True)[-1] == "True"


def test_a_data_set_without_sources_says_so(site: Site, cache: Path) -> None:
    lines = get(block(site, sources=[]), media=True)
    told = "datasets.toy.build_info.images names no sources to download them from; place them there"
    assert f"by hand, images: {told}" in lines and lines[-1] == "False"
    (cache / "toy/images").mkdir()
    assert f"  {cache}/toy/images is empty" in get(block(site, sources=[]), media=True)
    none = block(site)
    del none["build_info"]["images"]
    with pytest.raises(ConfigError, match="build_info says not where its images are"):
        get(none, media=True)


@pytest.mark.parametrize("bad", [{"to": "../up"}, {"to": "/etc"}, {"holds": {"../*": 1}}])
def test_no_source_leads_out_of_the_storage(site: Site, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must lie below storage"):
        get(block(site, sources=[{"url": f"{site.url}/tr.zip", **bad}]), media=True)


def test_offline_nothing_is_asked_for(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(block(site), "train", media=True)
    site.requests.clear()
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    assert get(block(site), "train", media=True)[-1] == "True"
    told = (
        f"2 files .*LAVIS_CLONE_OFFLINE forbids.*place {site.url}/val.json at {cache}/toy/val.json"
    )
    with pytest.raises(FileError, match=told):
        get(block(site), media=True)
    assert site.requests == []


def test_annotations_within_an_archive(site: Site, cache: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for split in IMAGES:
            opened.writestr(f"v2/{split}.json", site.bodies[f"/{split}.json"])
    site.bodies["/all.zip"] = data.getvalue()
    one = block(site)
    for split, entry in one["build_info"]["annotations"].items():
        entry |= {"url": f"{site.url}/all.zip", "member": f"v2/{split}.json"}
    get(one)
    assert files_in(cache) == ["toy/train.json", "toy/val.json"]
    assert site.counts["/all.zip"] == 2  # once to ask for its length
    (cache / "toy/val.json").unlink()
    (cache / "toy/images").mkdir()
    assert len(BaseDatasetBuilder(one).build_datasets()["val"]) == 3  # at first use


def test_files_on_the_hub(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = block(site)
    one["build_info"]["annotations"]["val"]["url"] = "hf://datasets/org/toy/val.json"
    monkeypatch.setattr(downloading, "resolve", lambda location: Path("/hub/val.json"))
    assert "  hf://datasets/org/toy/val.json: /hub/val.json" in get(one)


def test_a_bar_shows_on_a_terminal(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()

    def on_a_terminal(**options: Any) -> Any:
        return tqdm(**{**options, "disable": False, "file": shown})

    monkeypatch.setattr(downloading, "tqdm", on_a_terminal)
    get(block(site), media=True)
    total = sum(map(len, site.bodies.values()))
    assert "downloading: 100%" in shown.getvalue() and "unpacking tr.zip" in shown.getvalue()
    assert f"{tqdm.format_sizeof(total)}/{tqdm.format_sizeof(total)}" in shown.getvalue()
