"""Packages from npm, in pinned versions, and a note of what a folder was built from."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from emoji_concepts import BuildError, load_json
from emoji_drawings import write_atomic


def install(folder: Path, pins: Mapping[str, str]) -> Path:
    """Have npm put packages under ``folder``, unless they are there; it takes out all others.

    Args:
        pins: The version of each package.

    Returns:
        The ``node_modules`` folder.

    Raises:
        BuildError: if npm is absent or fails.
    """
    modules = folder / "node_modules"

    def is_there(name: str) -> bool:
        manifest = modules / name / "package.json"
        return manifest.is_file() and load_json(manifest).get("version") == pins[name]

    if all(map(is_there, pins)):
        return modules
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm is not installed; install Node.js with npm (apt-get install npm)")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}@{version}" for name, version in pins.items()]
    flags = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    command = [npm, "install", *flags, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "npm says nothing").splitlines()[-1]
        raise BuildError(f"npm install in {folder} failed: {last}")
    return modules


def require(modules: Mapping[str, str]) -> None:
    """Refuse to begin what cannot be ended.

    Args:
        modules: The module of each Python package that is needed.

    Raises:
        BuildError: some are not installed.
    """
    absent = [name for name, module in modules.items() if not importlib.util.find_spec(module)]
    if absent:
        raise BuildError(f"not installed: {', '.join(absent)}; pip install {' '.join(absent)}")


def check_origin(out: Path, pins: Mapping[str, str]) -> None:
    """Refuse to mix in what comes of other packages; note in ``out`` what it is made of.

    Raises:
        BuildError: ``out`` was built from other packages.
    """
    note = out / "packages.json"
    if note.exists() and load_json(note) != pins:
        raise BuildError(f"{out} was built from other packages (see {note}); build in a new folder")
    write_atomic(note, json.dumps(dict(pins), indent=1).encode())
