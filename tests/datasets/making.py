"""Writes what data sets read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from lavis_clone.processors.image import BlipImageEvalProcessor


def write(folder: Path, **contents: Any) -> list[Path]:
    """One JSON file for each name."""
    paths = [folder / f"{name}.json" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_text(json.dumps(content))
    return paths


def draw(folder: Path, *names: str) -> None:
    """Pictures, 8 pixels wide, whose red is 10, 20, ... in the order of the names."""
    for number, name in enumerate(names, start=1):
        Image.new("RGB", (8, 6), (10 * number, 0, 0)).save(folder / name)


def red(picture: Any) -> int:
    """The red of a drawn picture."""
    value: int = picture.getpixel((0, 0))[0]
    return value


def small() -> BlipImageEvalProcessor:
    """A processor that makes tensors of 4 x 4 pixels."""
    return BlipImageEvalProcessor(4)
