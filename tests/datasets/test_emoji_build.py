"""The build of the emoji set, on a ``node_modules`` of a few concepts and no network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "projects/emoji"
BLUE, RED = (0, 0, 255), (255, 0, 0)

# md5(key) % 10 puts 1f436 among the test concepts, 1f431 among val's, the others among train's.
ROWS = [
    ("1F436", "animals-nature", "dog face", "face, puppy", ""),
    ("1F431", "animals-nature", "cat face", "face, kitty :)", ""),
    ("1F355", "food-drink", "pizza", "cheese, face, “slice”", ""),
    ("2744-FE0F", "travel-places", "snow flake", "face, ice", ""),
    ("1F468-200D-1F373", "people-body", "man cook", "kitchen", ""),
    ("1F469-200D-1F373", "people-body", "woman cook", "kitchen", ""),
    ("1F6B6-1F3FB", "people-body", "person walking: light skin tone", "", "1"),
    ("1F3F3", "flags", "white flag", "", ""),
]
KEYS = ["1f436", "1f431", "1f355", "2744", "1f468-200d-1f373", "1f469-200d-1f373"]


@pytest.fixture
def emoji(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``projects/emoji/build.py`` as a module (its own name is that of a well-known package)."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("emoji_build", FOLDER / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packages(tmp_path: Path, emoji: ModuleType) -> Path:
    """Packages of the pinned versions: noto and openmoji draw, by name or by code point."""
    modules = tmp_path / "packages/node_modules"
    for name, version in emoji.PINS.items():
        put(modules / name / "package.json", {"version": version})
    fields = ("hexcode", "group", "annotation", "tags", "skintone")
    rows = [dict(zip(fields, row, strict=True)) for row in ROWS]
    put(
        modules / "openmoji/data/openmoji.json",
        [{**row, "subgroups": "sub", "openmoji_tags": "Good_Boy, clock3"} for row in rows[:1]]
        + [{**row, "subgroups": "sub", "openmoji_tags": ""} for row in rows[1:]],
    )
    cldr = {"🐶": {"default": ["pet", "PUPPY"], "tts": ["dog’s face"]}, "🍕": {"tts": ["pizza"]}}
    put(
        modules / "cldr-annotations-full/annotations/en/annotations.json",
        {"annotations": {"annotations": cldr}},
    )
    put(
        modules / "emojilib/dist/emoji-en-US.json", {"❄️": ["snow_flake", "cold", "*<", "snowflake"]}
    )
    for vendor in emoji.VENDORS.values():
        put(modules / "@iconify-json" / vendor / "icons.json", {"prefix": vendor, "icons": {}})
        put(modules / "@iconify-json" / vendor / "chars.json", {})
    put_icons(modules, "openmoji", KEYS)
    put_icons(modules, "noto", KEYS)
    return tmp_path / "packages"


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def put_icons(modules: Path, vendor: str, keys: list[str], **more: Any) -> None:
    """Icons that are blue on the left half of the lower half, and nothing elsewhere."""
    body = '<path fill="#00f" d="M0 4h4v4H0z"/>'
    icons = {f"icon-{key}": {"body": body} for key in keys}
    put(
        modules / "@iconify-json" / vendor / "icons.json",
        {"prefix": vendor, "icons": icons, "width": 8, "height": 8, **more},
    )
    chars = {key: f"icon-{key}" for key in keys}
    put(modules / "@iconify-json" / vendor / "chars.json", chars)


def run(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "build.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def concepts_of(emoji: ModuleType, packages: Path) -> dict[str, Any]:
    return {c.key: c for c in emoji.read_concepts(packages / "node_modules")}


def test_concepts_are_without_flags_and_skin_tones(emoji: ModuleType, packages: Path) -> None:
    assert list(concepts_of(emoji, packages)) == KEYS


def test_names_come_first_and_where_sources_differ_both_are_names(
    emoji: ModuleType, packages: Path
) -> None:
    dog = concepts_of(emoji, packages)["1f436"]
    assert dog.names == ("dog face", "dog's face")
    assert dog.references == ("dog face", "dog's face", "pet", "puppy", "good boy")


def test_a_phrase_of_more_than_three_concepts_describes_none(
    emoji: ModuleType, packages: Path
) -> None:
    for concept in concepts_of(emoji, packages).values():
        assert "face" not in concept.references


def test_variants_share_their_keywords_as_one_concept(emoji: ModuleType, packages: Path) -> None:
    path = packages / "node_modules/openmoji/data/openmoji.json"
    rows = json.loads(path.read_text())
    for row in rows[:2]:  # four concepts now use it, but two of them are one base
        row["tags"] += ", kitchen"
    put(path, rows)
    concepts = concepts_of(emoji, packages)
    assert {concepts[key].base for key in KEYS[-2:]} == {"cook"}
    for key in ("1f436", *KEYS[-2:]):
        assert "kitchen" in concepts[key].references


def test_keywords_are_words_and_each_is_there_once(emoji: ModuleType, packages: Path) -> None:
    concepts = concepts_of(emoji, packages)
    assert concepts["1f431"].references == ("cat face",)  # "kitty :)" is no phrase
    assert concepts["2744"].references == ("snow flake", "ice", "cold")  # nor "*<"
    assert concepts["1f355"].references == ("pizza", "cheese")  # nor a word in quotes


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("woman walking: facing right", "walking"),
        ("superhero", "superhero"),
        ("man superhero", "superhero"),
        ("woman", "person"),
        ("girl", "child"),
        ("old man", "old"),
        ("older person", "old"),
        ("woman and man holding hands", "holding hands"),
        ("family: man, woman, boy", "family"),
        ("kiss: man, man", "kiss"),
        ("woman: red hair", "red hair"),
    ],
)
def test_base_has_neither_gender_nor_direction(emoji: ModuleType, name: str, base: str) -> None:
    from emoji_concepts import base_of

    assert base_of(name, "people-body") == base
    assert base_of("man's shoe", "objects") == "man's shoe"


def test_a_held_out_concept_is_in_its_split_alone(packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(out, "--packages", packages)
    assert done.returncode == 0, done.stderr
    rows = {
        split: json.loads((out / f"annotations/{split}.json").read_text())
        for split in ("train", "val", "test")
    }
    trained = {row["concept"] for row in rows["train"]}
    assert trained == set(KEYS) - {"1f436", "1f431"}
    assert {row["concept"]: row["seen"] for row in rows["val"]} == {
        **dict.fromkeys(trained, True),
        "1f431": False,
    }
    assert rows["test"] == []  # twemoji drew nothing here
    pizza = next(row for row in rows["train"] if row["concept"] == "1f355")
    assert pizza == {
        "image": "noto/1f355.png",
        "caption": ["pizza"],
        "references": ["pizza", "cheese"],
        "image_id": "noto_1f355",
        "concept": "1f355",
        "name": "pizza",
        "base": "pizza",
        "vendor": "noto",
        "group": "food-drink",
        "subgroup": "sub",
        "seen": True,
    }
    pizza = next(row for row in rows["val"] if row["concept"] == "1f355")
    assert pizza["caption"] == ["pizza", "cheese"]
    assert "references" not in pizza


def test_a_picture_is_drawn_on_white(packages: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "out", "--packages", packages).returncode == 0
    with Image.open(tmp_path / "out/images/noto/1f355.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (128, 128))
        assert picture.getpixel((30, 100)) == BLUE
        assert picture.getpixel((100, 100)) == (255, 255, 255)
        assert picture.getpixel((30, 30)) == (255, 255, 255)


def test_pictures_that_exist_are_kept(packages: Path, tmp_path: Path) -> None:
    path = tmp_path / "out/images/noto/1f355.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (128, 128), RED).save(path)
    before = path.read_bytes()
    assert run(tmp_path / "out", "--packages", packages).returncode == 0
    assert path.read_bytes() == before
    assert len(list((tmp_path / "out/images").glob("*/*"))) == 2 * len(KEYS)


def test_a_mirrored_alias_is_mirrored(
    emoji: ModuleType, packages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    modules = packages / "node_modules"
    aliases = {"pizza": {"parent": "icon-1f355", "hFlip": True}}
    put_icons(modules, "noto-v1", ["1f355"], aliases=aliases)
    put(modules / "@iconify-json/noto-v1/chars.json", {})  # found by name
    svg = emoji.Drawings(modules, "noto-v1").svg(concepts_of(emoji, packages)["1f355"])
    emoji.render((svg, tmp_path / "pizza.png"))
    with Image.open(tmp_path / "pizza.png") as picture:
        assert picture.getpixel((100, 100)) == BLUE
        assert picture.getpixel((30, 100)) == (255, 255, 255)


def test_fxemoji_runs_words_together(emoji: ModuleType, packages: Path) -> None:
    modules = packages / "node_modules"
    icons = {"dogface": {"body": "<g/>"}}
    put(modules / "@iconify-json/fxemoji/icons.json", {"prefix": "fxemoji", "icons": icons})
    drawings, concepts = emoji.Drawings(modules, "fxemoji"), concepts_of(emoji, packages)
    assert drawings.svg(concepts["1f436"]) is not None
    assert drawings.svg(concepts["1f431"]) is None


def test_the_sample_is_the_same_every_time(packages: Path, tmp_path: Path) -> None:
    modules = packages / "node_modules"
    for vendor in ("fluent-emoji-flat", "twemoji"):
        put_icons(modules, vendor, KEYS[:5])
    for name in ("openmoji/LICENSE.txt", "emojilib/LICENSE", "cldr-annotations-full/LICENSE"):
        (modules / name).write_text("Do.", encoding="utf-8")
    for name in ("Apache-2.0", "CC-BY-4.0", "MIT"):
        text = {"licenseText": "Copyright (c) <year> <copyright holders>\n"}
        put(modules / f"spdx-license-list/licenses/{name}.json", text)
    (tmp_path / "a/images/noto").mkdir(parents=True)
    (tmp_path / "a/images/noto/0.webp").write_bytes(b"of an earlier sample")
    for name in ("a", "b"):
        done = run(tmp_path / "out", "--packages", packages, "--sample", tmp_path / name)
        assert done.returncode == 0, done.stderr
    first, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("a", "b")
    )
    assert first == second
    pictures = {str(path) for path in first if path.suffix == ".webp"}
    drawn_by_all = {"1f355", "2744", "1f468-200d-1f373"}  # of the concepts of train
    assert pictures == {
        *(f"images/{v}/{k}.webp" for v in ("noto", "fluent-flat") for k in drawn_by_all),
        *(f"images/openmoji/{k}.webp" for k in {*drawn_by_all, "1f431"}),
        *(f"images/twemoji/{k}.webp" for k in {*drawn_by_all, "1f436"}),
    }
    full, small = (
        Image.open(tmp_path / name).convert("RGB").tobytes()
        for name in ("out/images/noto/1f355.png", "a/images/noto/1f355.webp")
    )
    assert full == small
    mit = (tmp_path / "a/LICENSES/MIT-fluent-emoji.txt").read_text()
    assert mit == "Copyright (c) Microsoft Corporation.\n"


def test_without_npm_it_says_what_to_install(tmp_path: Path, emoji: ModuleType) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        done = run(tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == "npm is not installed; install Node.js with npm (apt-get install npm)\n"


def test_without_resvg_it_says_what_to_install(
    tmp_path: Path,
    emoji: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(emoji.NEEDED, "resvg-py", "no_such_module")
    assert emoji.main([str(tmp_path / "out")]) == 1
    assert caplog.messages == ["not installed: resvg-py; pip install resvg-py"]


def test_what_npm_says_last_is_passed_on(
    tmp_path: Path, emoji: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\necho "first" >&2\necho "no route to $1" >&2\nexit 3\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(emoji.BuildError, match="failed: no route to install$"):
        emoji.install(tmp_path / "packages", emoji.PINS)


def test_other_pins_do_not_mix(packages: Path, tmp_path: Path) -> None:
    put(tmp_path / "out/packages.json", {"openmoji": "1.0.0"})
    done = run(tmp_path / "out", "--packages", packages)
    assert done.returncode == 1
    assert "was built from other packages" in done.stderr
    assert not (tmp_path / "out/images").exists()


def test_a_broken_package_is_named(packages: Path, tmp_path: Path) -> None:
    path = packages / "node_modules/emojilib/dist/emoji-en-US.json"
    path.write_text("{")
    done = run(tmp_path / "out", "--packages", packages)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot read {path}: ")
    assert done.stderr.count("\n") == 1
