"""From what a block says about names, texts and parts to how a split's files are read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lavis_clone.common.reading import plain
from lavis_clone.datasets.folders import pair_rows
from lavis_clone.datasets.tables import Row, Share, Table, shares_of

TEXTS = ("caption", "question", "sentence")
"""What a template without a name becomes: the first that the kind needs, else the last."""


def share_of(block: Mapping[str, Any], split: str) -> Share | None:
    """The part of a table or folder that a split gets; None for all of it."""
    parts = plain(block.get("split"))
    return shares_of(parts).get(split) if parts else None


def source_of(
    block: Mapping[str, Any], path: Path, *, split: str, root: Path, dataset_class: Any
) -> str | Table:
    """An annotation file of a split, with what is to be done to its rows if there is anything.

    Args:
        path: The file, or a folder of pictures or videos with ``.txt`` files.
        root: The folder of the media.
        dataset_class: The kind's class for training.
    """
    rows: Callable[[], Iterator[Row]] | None = None
    media = str(getattr(dataset_class, "media", "image"))
    if path.is_dir():
        rows = functools.partial(pair_rows, path, root=root, media=media)
    table = table_for(block, path, split=split, dataset_class=dataset_class, rows=rows)
    return str(path) if table == Table(path) else table


def table_for(
    block: Mapping[str, Any],
    path: Path,
    *,
    split: str,
    dataset_class: Any,
    rows: Callable[[], Iterator[Row]] | None = None,
) -> Table:
    """The table that a split reads.

    Args:
        path: Its file, or what to call it when ``rows`` gives the rows.
        dataset_class: The kind's class for training, which knows what texts samples need.
    """
    info = plain(block.get("build_info")) or {}
    entry = (info.get("annotations") or {}).get(split) or {}
    columns = entry.get("columns") or plain(block.get("columns")) or {}
    template = entry.get("template") or plain(block.get("template")) or {}
    if isinstance(template, str):
        required = getattr(dataset_class, "required", ())
        name = next((text for text in TEXTS if text in required), TEXTS[-1])
        template = {name: template}
    return Table(path, columns, template, share_of(block, split), rows)
