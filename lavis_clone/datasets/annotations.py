"""Reads annotation files, and keeps their records small in memory."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import marshal
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

Record = Mapping[str, Any]
Check = Callable[[Record], str | None]
"""Returns what is wrong with a record, or None."""

LIST_KEYS = ("annotations", "data", "records", "dialogs")
"""Where to look in a JSON file that is a mapping, before taking the only list that it holds."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}


class AnnotationError(ValueError):
    """An annotation file cannot be used. The message is one line and names the file."""


class Records(Sequence[Record]):
    """Read-only records in one block of bytes, which worker processes share without copying.

    Millions of dicts would be copied into each worker, page by page, as their reference counts
    change. To change records, make a list of new ones.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        packed = [marshal.dumps(dict(record)) for record in records]
        self._ends = array("q", itertools.accumulate(map(len, packed)))
        self._bytes = b"".join(packed)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return Records(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index %= len(self)
        start = self._ends[index - 1] if index else 0
        return MappingProxyType(marshal.loads(self._bytes[start : self._ends[index]]))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def read_annotations(
    path: str | Path, *, required: Sequence[str] = (), check: Check | None = None
) -> list[dict[str, Any]]:
    """The records of a ``.json``, ``.jsonl``, ``.csv`` or ``.tsv`` file.

    A JSON file is a list of mappings, or a mapping that holds one. CSV and TSV have a header, and
    all their values are text.

    Args:
        required: Keys that every record must have.
        check: Further rules for a record.

    Raises:
        AnnotationError: with the file, and the line or record.
    """
    path = Path(path)
    records = _read(path)
    if not records:
        raise AnnotationError(f"{path}: holds no records")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise AnnotationError(
                f"{path}, record {number}: must be a mapping, got {type(record).__name__}"
            )
        missing = [key for key in required if record.get(key) is None]
        if missing:
            raise AnnotationError(
                f"{path}, record {number}: has no {', '.join(map(repr, missing))} "
                f"(it has {', '.join(map(str, record)) or 'nothing'})"
            )
        problem = check(record) if check else None
        if problem:
            raise AnnotationError(f"{path}, record {number}: {problem}")
    return records


def holds_texts(path: str | Path) -> bool:
    """Whether a file is a JSON list that begins with a text, not a record."""
    path = Path(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        start = file.read(256).lstrip()
    return start.startswith("[") and start[1:].lstrip().startswith('"')


def read_texts(path: str | Path) -> list[str]:
    """The texts of a ``.json`` file that is a list of them.

    Raises:
        AnnotationError: it is something else.
    """
    path = Path(path)
    texts: list[Any] = _read(path)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise AnnotationError(
                f"{path}, entry {number}: must be text, as the first one is, got {text!r:.80}"
            )
    return texts


def read_json(path: str | Path) -> Any:
    """The content of a ``.json`` file.

    Raises:
        AnnotationError: it cannot be read.
    """
    path = Path(path)
    with _told_in_one_line(path):
        return json.loads(path.read_text(encoding="utf-8-sig"))


@contextlib.contextmanager
def _told_in_one_line(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as an error that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: no such annotation file") from error
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{path}, line {error.lineno}: not valid JSON: {error.msg} (column {error.colno})"
        ) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(path: Path) -> list[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _list_in(read_json(path), path)
    with _told_in_one_line(path):
        if suffix == ".jsonl":
            return list(_json_lines(path))
        if suffix in DELIMITERS:
            return list(_rows(path, DELIMITERS[suffix]))
    raise AnnotationError(f"{path}: must end in .json, .jsonl, .csv or .tsv")


def _list_in(content: Any, path: Path) -> list[Any]:
    if isinstance(content, list):
        return content
    if isinstance(content, dict):
        lists = [key for key, value in content.items() if isinstance(value, list)]
        named = [key for key in LIST_KEYS if key in lists]
        if named or len(lists) == 1:
            found: list[Any] = content[(named or lists)[0]]
            return found
        raise AnnotationError(
            f"{path}: must be a list of records, or a mapping with one list or a list "
            f"{LIST_KEYS[0]!r}; it has the lists {lists}"
        )
    raise AnnotationError(f"{path}: must be a list of records, got {type(content).__name__}")


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise AnnotationError(
                    f"{path}, line {number}: not valid JSON: {error.msg} (column {error.colno})"
                ) from error


def _rows(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise AnnotationError(f"{path}, line 1: a column is named twice: {header}")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise AnnotationError(
                        f"{path}, line {reader.line_num}: has {len(row)} fields, "
                        f"but the header has {len(header)}"
                    )
                yield dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise AnnotationError(f"{path}, line {reader.line_num}: {error}") from error
