"""``make demo``: what it prints, and the picture that it leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from lavis_clone.common.config import model_defaults
from lavis_clone.models import BlipCaption

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "projects" / "emoji" / "demo.py"
ANNOTATIONS = ROOT / "lavis_clone" / "assets" / "emoji" / "annotations" / "test.json"
NUM_DRAWINGS = 12


def run(*arguments: str, folder: Path) -> list[str]:
    """The lines that the script prints; it fails if the script does."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # where its dataclass looks for its annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of the demo's kind that has learnt nothing."""
    torch.manual_seed(0)
    block, preprocess = model_defaults("blip_caption", "tiny_emoji")
    model = BlipCaption.from_config({**block, "load_finetuned": False})
    return model.save_pretrained(tmp_path_factory.mktemp("untrained"), preprocess=preprocess)


def described(demo: ModuleType, **changes: object) -> object:
    values = {
        "picture": Image.new("RGB", (128, 128), "#ff0000"),
        "name": "red square",
        "is_seen": True,
        "caption": "red square",
        "confidence": 0.5,
        "is_right": True,
    }
    return demo.Described(**{**values, **changes})


def test_it_runs_with_any_captioner(untrained: Path, tmp_path: Path) -> None:
    lines = run("--type", str(untrained), folder=tmp_path)
    path = Path(lines[-1])
    assert path == tmp_path / "output" / "demo" / "captions.png"
    with Image.open(path) as sheet:
        assert sheet.size[0] > 1000
        assert sheet.size[1] > 1000
    captions = [line for line in lines if line.startswith("  ")]
    assert len(captions) == NUM_DRAWINGS
    assert all("%" in line for line in captions)


def test_the_shipped_captioner_knows_what_training_saw(tmp_path: Path) -> None:
    lines = run("--out", str(tmp_path / "sheet"), folder=tmp_path)
    assert Path(lines[-1]) == tmp_path / "sheet" / "captions.png"
    start, end = lines.index("seen in training:"), lines.index("never seen in training:")
    records = json.loads(ANNOTATIONS.read_text())
    words = {record["name"]: record["caption"] for record in records}
    right = 0
    for line in lines[start + 1 : end]:
        name, _, caption = line.strip().partition("%")
        name = name.rpartition(" ")[0].strip()
        right += caption.strip() in words[name]
    assert right >= 5  # of 8


def test_the_drawings_are_what_they_are_said_to_be(demo: ModuleType) -> None:
    seen = {record["concept"]: record["seen"] for record in json.loads(ANNOTATIONS.read_text())}
    assert len(demo.SEEN) + len(demo.UNSEEN) == NUM_DRAWINGS
    assert all(seen[concept] for concept in demo.SEEN)
    assert not any(seen[concept] for concept in demo.UNSEEN)


def test_a_sheet_grows_with_its_rows(demo: ModuleType) -> None:
    card = described(demo)
    one = demo.Sheet([("one", [card])]).image
    row = demo.Sheet([("four", [card] * 4)]).image
    two = demo.Sheet([("five", [card] * 5)]).image
    assert one.size == row.size
    assert two.size[1] - one.size[1] == (demo.CARD_HEIGHT + demo.GAP) * demo.SCALE


def test_a_card_shows_the_drawing_and_how_sure_the_model_is(demo: ModuleType) -> None:
    right = demo.Sheet([("", [described(demo)])]).image
    wrong = demo.Sheet([("", [described(demo, is_right=False)])]).image
    assert _count(right, "#ff0000") > 10_000
    assert _count(wrong, demo.WRONG) == _count(right, demo.RIGHT) - _count(
        demo.Sheet([]).image, demo.RIGHT
    )
    surer = demo.Sheet([("", [described(demo, confidence=0.9)])]).image
    assert _count(surer, demo.RIGHT) > _count(right, demo.RIGHT)


@pytest.mark.parametrize("caption", ["", "a very long caption that goes on and on " * 4, "W" * 300])
def test_no_caption_leaves_its_card(demo: ModuleType, caption: str) -> None:
    sheet = demo.Sheet([("", [described(demo, caption=caption)])]).image
    right_of_card = (demo.MARGIN + demo.CARD_WIDTH + 2) * demo.SCALE
    top = (demo.TITLE_HEIGHT + demo.SECTION_HEIGHT) * demo.SCALE
    beside = sheet.crop((right_of_card, top, *sheet.size))
    assert list(_colors(beside)) == [_rgb(demo.PAGE)]


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))


def _count(image: Image.Image, color: str) -> int:
    """Pixels of exactly this colour."""
    return _colors(image).get(_rgb(color), 0)


def _colors(image: Image.Image) -> dict[Any, int]:
    """How many pixels each colour has."""
    return {color: count for count, color in image.getcolors(1 << 24) or []}
