"""Reads annotation files, and keeps their records small in memory."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import marshal
import os
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

from lavis_clone.datasets.json_items import NoJsonList, json_items
from lavis_clone.datasets.shards import ShardError, is_shard, shard_rows
from lavis_clone.datasets.tables import Table

Record = Mapping[str, Any]
Check = Callable[[Record], str | None]
"""Returns what is wrong with a record, or None."""

LIST_KEYS = ("annotations", "data", "records", "dialogs")
"""Where to look in a JSON file that is a mapping, before taking the only list that it holds."""

WHOLE = 16 * 2**20
"""Bytes from which on a JSON file is not read as a whole, if it is a list."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}


class AnnotationError(ValueError):
    """An annotation file cannot be used. The message is one line and names the file."""


class RecordSequence(Sequence[Record]):
    """Read-only records by their places; a slice is held in memory."""

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return Records(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._record(index % len(self))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    @abstractmethod
    def _record(self, index: int) -> Record:
        """The record at a place that there is."""


class Records(RecordSequence):
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

    def _record(self, index: int) -> Record:
        start = self._ends[index - 1] if index else 0
        return MappingProxyType(marshal.loads(self._bytes[start : self._ends[index]]))


def read_annotations(
    path: str | os.PathLike[str], *, required: Sequence[str] = (), check: Check | None = None
) -> list[dict[str, Any]]:
    """The records of a ``.json``, ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file.

    A JSON file is a list of mappings, or a mapping that holds one. CSV and TSV have a header, and
    all their values are text.

    Args:
        path: The file, or a ``Table`` that says how to read it.
        required: Keys that every record must have.
        check: Further rules for a record.

    Raises:
        AnnotationError: with the file, and the line or record.
    """
    return list(iterate_annotations(path, required=required, check=check))


def iterate_annotations(
    path: str | os.PathLike[str], *, required: Sequence[str] = (), check: Check | None = None
) -> Iterator[dict[str, Any]]:
    """The same records one by one; of a file of lines only one is in memory at a time.

    Raises:
        AnnotationError: with the file, and the line or record.
    """
    table = table_of(path)
    rows = _read(table.path) if table.rows is None else table.rows()
    return records_of(table, rows, required=required, check=check)


def table_of(path: str | os.PathLike[str]) -> Table:
    """A file with nothing to be changed about it, or the ``Table`` itself."""
    return path if isinstance(path, Table) else Table(Path(path))


def records_of(
    table: Table,
    rows: Iterable[Any],
    *,
    required: Sequence[str] = (),
    check: Check | None = None,
) -> Iterator[dict[str, Any]]:
    """What a table makes of its rows: checked records of the part that is wanted.

    Raises:
        AnnotationError: with the file and the record.
    """
    shaped = rows if table.is_plain else _shaped(table, rows, required)
    records = checked(table.path, shaped, required=required, check=check)
    return records if table.share is None else _part(table, records)


def _shaped(table: Table, rows: Iterable[Any], required: Sequence[str]) -> Iterator[Any]:
    """Rows under our names, as long as they are rows."""
    seen: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            yield row  # told when it is checked
            continue
        seen.update(dict.fromkeys(row))
        if table.has_header and (problem := table.missing_columns(seen)):
            raise AnnotationError(f"{table}: {problem}")
        try:
            yield table.record_of(row, required)
        except ValueError as error:
            raise AnnotationError(f"{table}, record {number}: {error}") from error
    if seen and (problem := table.missing_columns(seen)):
        raise AnnotationError(f"{table}: {problem}")


def _part(table: Table, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    number = count = 0
    for number, record in enumerate(records, start=1):  # noqa: B007  # told after the loop
        if table.holds(record):
            count += 1
            yield record
    if not count:
        raise AnnotationError(
            f"{table}: too small to be split: none of its {number} records falls into a part"
        )


def checked(
    path: Path,
    records: Iterable[Any],
    *,
    required: Sequence[str] = (),
    check: Check | None = None,
) -> Iterator[dict[str, Any]]:
    """The records of a file, each of which is looked at first.

    Raises:
        AnnotationError: with the file and the record.
    """
    number = 0
    for number, record in enumerate(records, start=1):  # noqa: B007  # told after the loop
        if not isinstance(record, Mapping):
            raise AnnotationError(
                f"{path}, record {number}: must be a mapping, got {type(record).__name__}"
            )
        if problem := _problem(record, required, check):
            raise AnnotationError(f"{path}, record {number}: {problem}")
        yield record  # type: ignore[misc]  # of a file's own reader they are dicts
    if not number:
        raise AnnotationError(f"{path}: holds no records")


def _problem(record: Record, required: Sequence[str], check: Check | None) -> str | None:
    """What is wrong with a record, or None."""
    missing = [key for key in required if record.get(key) is None]
    if missing:
        return (
            f"has no {', '.join(map(repr, missing))} "
            f"(it has {', '.join(map(str, record)) or 'nothing'}); columns can give a name anew"
        )
    return check(record) if check else None


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
    texts: list[Any] = list(_read(path))
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise AnnotationError(
                f"{path}, entry {number}: must be text, as the first one is, got {text!r:.80}"
            )
    return texts


def read_json(path: str | os.PathLike[str]) -> Any:
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


def _read(path: Path) -> Iterator[Any]:
    suffix = path.suffix.lower()
    with _told_in_one_line(path):
        if suffix == ".json":
            yield from _json_records(path)
        elif suffix == ".jsonl":
            yield from _json_lines(path)
        elif suffix in DELIMITERS:
            yield from _rows(path, DELIMITERS[suffix])
        elif suffix == ".parquet":
            yield from _parquet_rows(path)
        elif is_shard(path):
            try:
                yield from shard_rows(path)
            except ShardError as error:
                raise AnnotationError(str(error)) from error
        else:
            raise AnnotationError(f"{path}: must end in .json, .jsonl, .csv, .tsv or .parquet")


def _json_records(path: Path) -> Iterator[Any]:
    """The items of a long list are read one by one; a mapping with a list is read as a whole."""
    if path.stat().st_size < WHOLE:
        yield from _list_in(read_json(path), path)
        return
    count = 0
    try:
        for count, item in enumerate(json_items(path), start=1):  # noqa: B007  # used below
            yield item
    except NoJsonList:  # or a broken list: the plain way says where
        yield from itertools.islice(_list_in(read_json(path), path), count, None)


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


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file; dates and decimal numbers as text."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{path}: .parquet files need pyarrow: pip install 'lavis_clone[data]'"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise AnnotationError(f"{path}: a column is named twice: {names}")
        for batch in file.iter_batches():
            kinds = [_plain_type(field.type, pa) for field in batch.schema]
            columns = [c.cast(k).to_pylist() for c, k in zip(batch.columns, kinds, strict=True)]
            for row in zip(*columns, strict=True):
                yield dict(zip(names, row, strict=True))
    except pa.ArrowException as error:
        raise AnnotationError(f"{path}: not valid Parquet: {str(error).splitlines()[0]}") from error


def _plain_type(kind: Any, pa: Any) -> Any:
    """The type of Arrow's to read a column as."""
    is_text = pa.types.is_temporal(kind) or pa.types.is_decimal(kind)
    return pa.string() if is_text else kind


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
