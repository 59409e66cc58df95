"""The package as it is installed: complete, used from anywhere, and never written to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e import toys

pytestmark = pytest.mark.slow

SOURCES = ("lavis_clone", "configs", "projects")
FILES = ("setup.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since building writes beside the sources."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(toys.ROOT / name, copy / name, ignore=ignored)
    for name in FILES:
        shutil.copy(toys.ROOT / name, copy)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", out)
    run("-m", "pip", "wheel", copy, *options, cwd=copy)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that may only be read."""
    target = tmp_path_factory.mktemp("installed") / "lib"
    options = ("--no-deps", "--no-index", "--no-compile", "-q", "--target", target)
    run("-m", "pip", "install", wheel, *options, cwd=target.parent)
    folders = [target, *(p for p in target.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    before = listing(target)
    yield target
    for folder in folders:
        folder.chmod(0o755)
    assert listing(target) == before  # root may write in spite of it all


def listing(folder):
    stats = {p: p.stat() for p in folder.rglob("*") if p.is_file()}
    return {p.relative_to(folder).as_posix(): (s.st_size, s.st_mtime_ns) for p, s in stats.items()}


def python(installed, *command, cwd):
    """Run Python with the installed package before what else the tests run with."""
    variables = {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = toys.start(*command, cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    return done


def use(installed, *command, cwd):
    """Call the installed package's command line."""
    return python(installed, "-m", "lavis_clone.cli", *command, cwd=cwd)


def shipped(folder, *patterns):
    """Files of the checkout, as the wheel names them."""
    root = toys.ROOT / folder
    paths = {p for pattern in patterns for p in root.rglob(pattern) if p.is_file()}
    return {p.relative_to(toys.ROOT).as_posix() for p in paths if "__pycache__" not in p.parts}


def test_the_wheel_holds_the_package_with_its_recipes_and_assets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {n for n in names if ".dist-info/" not in n}
    beside = shipped("configs", "*.yaml", "*.json") | shipped("projects", "*.yaml", "*.md")
    inside = shipped("lavis_clone", "*.py") | shipped("lavis_clone/assets", "*")
    assert len(beside) > 8 and len(inside) > 2000
    assert code == inside | {f"lavis_clone/{n}" for n in beside} | {"lavis_clone/py.typed"}
    info = {n.partition(".dist-info/")[2]: n for n in names - code}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= set(info)
    with zipfile.ZipFile(wheel) as archive:
        commands = archive.read(info["entry_points.txt"]).decode()
        metadata = archive.read(info["METADATA"]).decode()
    assert "lavis-clone = lavis_clone.cli:main" in commands
    assert "\nName: lavis_clone\n" in metadata
    assert "Requires-Dist: fairscale" in metadata  # only with the extra
    assert all("extra" in n for n in metadata.splitlines() if n.startswith("Requires-Dist: fair"))


def test_the_installed_package_is_the_one_in_use(installed, tmp_path):
    code = "import lavis_clone, sys; sys.stdout.write(lavis_clone.__file__)"
    found = python(installed, "-c", code, cwd=tmp_path).stdout
    assert found == str(installed / "lavis_clone" / "__init__.py")


def test_the_installed_package_finds_its_own_recipes(installed, tmp_path):
    done = use(installed, "config", "check", "projects/emoji/eval/caption.yaml", cwd=tmp_path)
    assert "model_type: tiny_emoji" in done.stdout
    assert "asset://blip_caption_tiny_emoji/model.safetensors" in done.stdout


def test_the_installed_package_describes_its_own_pictures(installed, saved, tmp_path):
    picture = next(Path(installed).rglob("twemoji/1f680.webp"))
    done = use(installed, "caption", str(picture), "--type", str(saved), cwd=tmp_path)
    assert done.stdout.startswith(f"{picture}: ")


def test_the_installed_package_trains_on_its_own_data(installed, words, tmp_path):
    content = toys.recipe(tmp_path, words, "output", max_epoch=1, batch_size_train=64)
    del content["datasets"]["emoji_caption"]["build_info"]  # the shipped sample
    content["run"] |= {"batch_size_eval": 64, "valid_splits": [], "num_beams": 1}
    toys.write_recipe(tmp_path / "recipe.yaml", content)
    done = use(installed, "train", "recipe.yaml", cwd=tmp_path)
    job = toys.the_job(tmp_path / "output")
    assert f"job directory: {job.relative_to(tmp_path)}" in done.stderr
    rows = json.loads((job / "result/test_epoch0.json").read_text())
    assert len(rows) == 639
    (entry,) = toys.log_entries(job)
    assert entry["train_loss"] > 0
