"""Folders of pictures or videos, each with its text in a ``.txt`` file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lavis_clone.datasets.annotations import AnnotationError

EXTENSIONS = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    "video": (".mp4", ".avi", ".mkv", ".mov", ".webm"),
}
TOLD = 3
"""Files that a message names at most."""


def pair_rows(folder: Path, *, root: Path, media: str) -> Iterator[dict[str, Any]]:
    """Rows of the media below a folder, in the order of their names: the file, and as ``caption``
    the lines of the ``.txt`` file of the same name that are not empty.

    Args:
        root: What the names of the files are relative to.
        media: ``image`` or ``video``.

    Raises:
        AnnotationError: there are none, or one has no text.
    """
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in EXTENSIONS[media])
    if not files:
        raise AnnotationError(f"{folder}: holds no {media}s")
    if lonely := [file for file in files if not file.with_suffix(".txt").is_file()]:
        names = ", ".join(str(file.relative_to(folder)) for file in lonely[:TOLD])
        raise AnnotationError(
            f"{folder}: {len(lonely)} of {len(files)} {media}s have no .txt file of the same name "
            f"beside them, e.g. {names}"
        )
    for file in files:
        yield {media: file.relative_to(root).as_posix(), "caption": _lines(file)}


def _lines(file: Path) -> str | list[str]:
    path = file.with_suffix(".txt")
    try:
        written = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read: {error}") from error
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    if not lines:
        raise AnnotationError(f"{path}: is empty")
    return lines if len(lines) > 1 else lines[0]


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, but for hidden ones."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
