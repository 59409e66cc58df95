"""``lavis-clone download``, its messages, and several processes of it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lavis_clone.cli import app
from lavis_clone.common import ranges
from lavis_clone.common.files import FileError
from lavis_clone.datasets.builders import BaseDatasetBuilder, load_dataset
from lavis_clone.datasets.builders.table import BENCHMARKS
from lavis_clone.datasets.download_plan import Wish, make_plan
from tests.common.server import Site
from tests.datasets.toys import EVERYTHING, PICTURES, block, files_in, get, serve_toys

ROOT = Path(__file__).parents[2]


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


# --- what loading says ------------------------------------------------------------------------


def test_loading_names_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    with pytest.raises(
        FileError, match=r"run `lavis-clone download coco_caption --images`, or set"
    ):
        load_dataset("coco_caption")
    (cache / "coco/images").mkdir(parents=True)
    with pytest.raises(
        FileError, match="`lavis-clone download coco_caption --split train` gets it"
    ):
        load_dataset("coco_caption")
    config = {"type": "eval", **block_of("coco_vqa", "eval")}
    builder = type("Coco", (BaseDatasetBuilder,), {"DATASET_CONFIG_DICT": {"eval": "x"}})(config)
    builder.name = "coco_vqa"
    with pytest.raises(FileError, match="`lavis-clone download coco_vqa --type eval --split val`"):
        builder.build_datasets()
    with pytest.raises(FileError, match="Register at .*download imagenet --images` then checks it"):
        load_dataset("imagenet")


def block_of(name: str, type: str) -> dict[str, Any]:
    path = ROOT / "configs/datasets" / name.replace("_", "/", 1).replace("vqa", f"{type}_vqa.yaml")
    found: dict[str, Any] = yaml.safe_load(path.read_text())["datasets"][name]
    return found


TYPES = [(name, kind) for name, benchmark in BENCHMARKS.items() for kind in benchmark.files]


@pytest.mark.parametrize(("name", "kind"), TYPES)
def test_every_data_set_says_where_its_files_are(name: str, kind: str) -> None:
    path = ROOT / BENCHMARKS[name].files[kind]
    found = yaml.safe_load(path.read_text())["datasets"][name]
    plan = make_plan(name, found, Wish(media=True))
    assert all(item.url.startswith(("https://", "http://")) for item in plan.items)
    assert all(thing.text and "\n" not in thing.text for thing in plan.by_hand)
    places = [item.target for item in plan.items] + [thing.place for thing in plan.by_hand]
    assert places or "asset://" in path.read_text()


# --- the command line -------------------------------------------------------------------------


def run_command(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["download", *words])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def run_file(site: Site, tmp_path: Path) -> Path:
    """A run's YAML file that names the data set."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"toy": block(site)}}))
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["coco_captoin"], "unknown dataset 'coco_captoin'; did you mean 'coco_caption'?"),
        (["coco_caption", "--split", "tset"], "no split 'tset'; did you mean 'test'?"),
        (["coco_vqa", "--type", "evl"], "no type 'evl'; did you mean 'eval'?"),
        (["own"], "data set 'own' has no config file; name the YAML file of a run"),
        (["absent.yaml"], "absent.yaml"),
        (["emoji_caption", "coco_captoin"], "unknown dataset 'coco_captoin'"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(words: list[str], told: str) -> None:
    status, out, error = run_command(*words)
    assert status == 2 and out == "" and error.count("\n") == 1
    assert error.startswith("error: ") and told in error


def test_what_is_shipped_needs_no_download() -> None:
    status, out, _ = run_command("emoji_caption", "--images")
    assert status == 0 and "emoji_caption: all is there (nothing to download)" in out


def test_the_command_downloads_what_a_run_needs(run_file: Path, cache: Path) -> None:
    status, out, error = run_command(str(run_file), "--images", "--split", "val")
    assert status == 0 and error == ""  # no bar, for this is no terminal
    assert f"downloaded to {cache}/toy, {cache}/toy/images" in out
    assert files_in(cache) == [*PICTURES[3:], "toy/val.json"]


def test_exit_status_of_what_is_left_to_the_user(cache: Path, tmp_path: Path) -> None:
    status, out, _ = run_command("imagenet", "--images", "--to", str(tmp_path))
    assert status == 1 and f"{tmp_path}/imagenet is missing" in out
    assert f"datasets.imagenet.build_info.images.storage={tmp_path}/imagenet" in out


# --- several processes, and one that ends too soon --------------------------------------------

SCRIPT = """
import json, sys
from lavis_clone.cli_errors import ends_quietly
from lavis_clone.common import ranges
from lavis_clone.datasets.download import download_dataset
from lavis_clone.datasets.download_plan import Wish, make_plan
ranges.MIN_RANGE = 50_000
with ends_quietly():
    plan = make_plan("toy", json.loads(sys.argv[1]), Wish(media=True))
    sys.exit(0 if download_dataset(plan) else 1)
"""


def start(of: Mapping[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(of)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_download_once(site: Site, cache: Path) -> None:
    site.delay = 0.2
    one = block(site)
    running = [start(one), start(one)]
    assert [process.communicate(timeout=60)[1] for process in running] == ["", ""]
    assert [process.returncode for process in running] == [0, 0]
    assert files_in(cache) == EVERYTHING
    whole = [r for r in site.requests if r.get("Range") != "bytes=0-0"]
    assert len(whole) == 4


def test_ctrl_c_and_going_on(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for i in range(3):
            opened.writestr(f"train/{i}.png", os.urandom(100_000))
    site.bodies["/tr.zip"] = data.getvalue()
    site.slowness = 0.2
    process = start(block(site))
    deadline = time.monotonic() + 60
    while site.counts["/tr.zip"] < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "interrupted\n" and process.returncode == 130
    site.slowness = 0.0
    site.requests.clear()
    monkeypatch.setattr(ranges, "MIN_RANGE", 50_000)
    assert get(block(site), media=True)[-1] == "True"
    assert files_in(cache) == EVERYTHING
    starts = [r["Range"] for r in site.requests if r.get("Range", "bytes=0-0") != "bytes=0-0"]
    assert any(int(s.removeprefix("bytes=").partition("-")[0]) % 50_000 for s in starts)
