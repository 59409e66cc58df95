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


def own_file(folder: Path, kind: str, rows: str, *, image_size: int = 4) -> Path:
    """A YAML file of the data set ``own``: the folder's pictures, and a CSV file to train on and
    to validate with."""
    (folder / "rows.csv").write_text(rows)
    (folder / "own.yaml").write_text(
        f"""
datasets:
  own:
    kind: {kind}
    vis_processor:
      train: {{name: blip_image_train, image_size: {image_size}}}
      eval: {{name: blip_image_eval, image_size: {image_size}}}
    text_processor:
      train: {{name: blip_caption, prompt: "a drawing of "}}
    build_info:
      images: {{storage: {folder}}}
      annotations:
        train: {{storage: {folder}/rows.csv}}
        val: {{storage: {folder}/rows.csv}}
"""
    )
    return folder / "own.yaml"
