"""Where records come from, and what is made of each: names, texts, and the part that is wanted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavis_clone.common.names import suggest
from lavis_clone.common.own_data import template_fields

Row = Mapping[str, Any]

FILE_KEYS = ("image", "video", "image0", "images")
"""Where a record names its file; the first that there is decides which split it belongs to."""
HASH_BYTES = 6
"""Of a file name's SHA-256; a float holds 48 bits exactly."""


@dataclass(frozen=True)
class Share:
    """The records whose files' names hash to ``start`` or more, but less than ``end``."""

    start: float
    end: float

    def holds(self, name: str) -> bool:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:HASH_BYTES]
        place = int.from_bytes(digest, "big") / 256**HASH_BYTES
        return self.start <= place < self.end


def shares_of(split: Mapping[str, float]) -> dict[str, Share]:
    """The share of each split, one after another; the last one ends at 1.

    >>> shares_of({"train": 0.75, "val": 0.25})["val"]
    Share(start=0.75, end=1.0)
    """
    found: dict[str, Share] = {}
    start = 0.0
    for number, (name, part) in enumerate(split.items(), start=1):
        end = 1.0 if number == len(split) else start + part
        found[name] = Share(start, end)
        start = end
    return found


@dataclass(frozen=True)
class Table(os.PathLike[str]):
    """An annotation file and how to read it. ``Path(table)`` is the file."""

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    """The file's names and ours."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Texts put together from columns, by the name of the field that they become."""
    share: Share | None = None
    """The part that is wanted; None for all."""
    rows: Callable[[], Iterator[Row]] | None = None
    """Gives the rows of what is no file; None reads ``path``."""

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_plain(self) -> bool:
        """Whether records are the rows as they are."""
        return not self.columns and not self.templates

    @property
    def has_header(self) -> bool:
        """Whether all rows have the same columns."""
        return self.path.suffix.lower() in (".csv", ".tsv", ".parquet")

    @property
    def form(self) -> str:
        """Changes when other records are made of the same file; empty for its own."""
        parts = (sorted(self.columns.items()), sorted(self.templates.items()), self.share)
        return repr(parts) if any(parts) else ""

    def record_of(self, row: Row, required: Sequence[str] = ()) -> dict[str, Any]:
        """A row under our names, with the texts of the templates.

        Args:
            required: Fields that must be there. Others are left out where a template finds
                nothing to be made of.

        Raises:
            ValueError: a template needs what is not there.
        """
        named = {ours: row[theirs] for theirs, ours in self.columns.items() if theirs in row}
        rest = {k: v for k, v in row.items() if k not in self.columns and k not in named}
        record = {**rest, **named}
        texts = {name: self._text(name, record, required) for name in self.templates}
        return {**record, **{name: text for name, text in texts.items() if text is not None}}

    def _text(self, name: str, record: Row, required: Sequence[str]) -> str | list[str] | None:
        template = self.templates[name]
        fields = template_fields(template)
        empty = [field for field in fields if record.get(field) in (None, "", [])]
        if len(empty) == len(fields) and name not in required:
            return None
        if empty and empty[0] not in record:
            raise ValueError(f"the template {template!r} needs {not_there(empty[0], record)}")
        if empty:
            raise ValueError(f"the template {template!r} needs {empty[0]!r}, which is empty")
        lists = [field for field in dict.fromkeys(fields) if isinstance(record[field], list)]
        if len(lists) > 1:
            told = " and ".join(map(repr, lists))
            raise ValueError(f"the template {template!r} takes one list, but {told} are lists")
        if lists:
            return [template.format_map({**record, lists[0]: item}) for item in record[lists[0]]]
        return template.format_map(record)

    def missing_columns(self, seen: Iterable[str]) -> str | None:
        """What to say when columns that are to be named anew are not among the seen, or None."""
        known = list(seen)
        missing = [theirs for theirs in self.columns if theirs not in known]
        return f"has no column {not_there(missing[0], known)}" if missing else None

    def holds(self, record: Row) -> bool:
        """Whether a record belongs to the part that is wanted."""
        if self.share is None:
            return True
        file = next((record[key] for key in FILE_KEYS if record.get(key)), "")
        return self.share.holds(str(file[0] if isinstance(file, list) else file))


def not_there(name: str, known: Iterable[str]) -> str:
    """A name, what there is in its place, and which of it may be meant."""
    listed = [str(one) for one in known]
    return f"{name!r}{suggest(name, listed)} (it has {', '.join(listed) or 'nothing'})"
