"""Keeps what was read of large annotation files in the cache, so that the next start is quick.

A file in the cache belongs to one path, length and time of change of the file that it was made of.
It may be removed at any time. Where the cache cannot be written to, or pyarrow is not there,
records are kept in memory instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lavis_clone.common.files import atomic_path, cache_root, write_atomic
from lavis_clone.datasets.annotations import (
    AnnotationError,
    Check,
    Record,
    Records,
    checked,
    iterate_annotations,
    table_of,
)
from lavis_clone.datasets.records import BATCH, ArrowRecords, NoArrow, arrow, write_records
from lavis_clone.datasets.shards import is_shard

logger = logging.getLogger(__name__)

LARGE = 16 * 2**20
"""Bytes from which on an annotation file is kept as an Arrow file."""
FOLDER = "annotations"
"""Where the cache has such files."""
FORMAT = "1"
"""Part of their names; another one makes all files anew."""

Rows = Callable[[], Iterable[Mapping[str, Any]]]


def is_large(path: str | os.PathLike[str]) -> bool:
    """Whether what an annotation file holds is to be kept as an Arrow file, as of all shards."""
    return is_shard(path) or (Path(path).is_file() and Path(path).stat().st_size >= LARGE)


def large_annotations(
    path: str | os.PathLike[str],
    *,
    required: Sequence[str] = (),
    check: Check | None = None,
    rules: str = "",
) -> Sequence[Record]:
    """What ``read_annotations`` reads, without ever having it all in memory.

    Records are checked when the file is new, and again when the rules are others.

    Args:
        rules: Changes when what ``check`` says may change.

    Raises:
        AnnotationError: with the file, and the line or record.
    """
    table = table_of(path)
    path = table.path
    fresh: list[bool] = []

    def rows() -> Iterable[Mapping[str, Any]]:
        fresh.append(True)
        return iterate_annotations(table, required=required, check=check)

    records = stored(path, rows, form=table.form)
    if isinstance(records, ArrowRecords):
        note = records.paths[0].with_suffix(f".{_digest(*required, rules)}.checked")
        if not note.exists():
            for _ in () if fresh else checked(path, records, required=required, check=check):
                pass
            with contextlib.suppress(OSError):  # a cache that one may only read
                write_atomic(note, "")
    return records


def rules_of(owner: object, more: Sequence[object] = ()) -> str:
    """Changes when the modules do that define an object's class, or when ``more`` does."""
    modules = {sys.modules.get(base.__module__) for base in type(owner).__mro__}
    files = sorted(str(file) for module in modules if (file := getattr(module, "__file__", None)))
    stamps = [(file, os.stat(file).st_mtime_ns) for file in files if os.path.exists(file)]
    return repr([type(owner).__qualname__, stamps, *more])


def stored(path: str | Path, rows: Rows, *, form: str = "") -> Sequence[Record]:
    """The records that were made of a file: from the cache, where they are put at first use.

    Args:
        rows: Makes them.
        form: Changes when ``rows`` makes others of the same file.

    Raises:
        AnnotationError: what ``rows`` raises.
    """
    path = Path(path)
    target = _place(path, form)
    if not target.is_file():
        try:
            _write_once(target, path, rows)
        except (OSError, NoArrow) as error:
            logger.warning("%s: keeping its records in memory: %s", path, error)
            return Records(rows())
    return ArrowRecords([target])


def joined(parts: Sequence[Sequence[Record]]) -> Sequence[Record]:
    """The records of several files, each with its position among them all as ``instance_id``."""
    if parts and all(isinstance(part, ArrowRecords) for part in parts):
        paths = [path for part in parts for path in part.paths]  # type: ignore[attr-defined]  # looked at
        return ArrowRecords(paths, is_numbered=True)
    found = (record for part in parts for record in part)
    return Records({**record, "instance_id": str(i)} for i, record in enumerate(found))


def distinct_numbers(
    records: Sequence[Record], id_of: Callable[[Record], Any], *, name: str
) -> Any:
    """An int array: for each record the number of its id, counted from 0 in order of appearance.

    Args:
        name: What ids these are; of Arrow files the numbers are kept in the cache under it.
    """
    if not isinstance(records, ArrowRecords):
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(id_of(r), len(numbers)) for r in records], np.int64)
    key = _digest(name, *(path.name for path in records.paths))
    target = cache_root() / FOLDER / f"{key}.npy"
    if not target.is_file():
        found = _encoded(repr(id_of(record)) for record in records)
        try:
            with atomic_path(target) as temporary, temporary.open("wb") as file:
                np.save(file, found)
        except OSError:  # a cache that one may only read
            return found
    return np.load(target, mmap_mode="r")


def _encoded(ids: Iterator[str]) -> Any:
    """``distinct_numbers`` of texts, in less memory than a dict takes."""
    import pyarrow as pa

    chunks = []
    while chunk := list(itertools.islice(ids, BATCH)):
        chunks.append(pa.array(chunk, pa.string()))
    encoded = pa.chunked_array(chunks, pa.string()).dictionary_encode()
    return np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])


def _place(path: Path, form: str) -> Path:
    """Where the cache has the records of a file as it is now."""
    try:
        stat = path.stat()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    key = _digest(FORMAT, str(path.resolve()), stat.st_size, stat.st_mtime_ns, form)
    return cache_root() / FOLDER / f"{path.stem}-{key}.arrow"


def _write_once(target: Path, path: Path, rows: Rows) -> None:
    """Write the records unless another process does so first."""
    from iopath.common.file_io import file_lock  # slow to import

    arrow()
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(target)):
        if target.is_file():
            return
        logger.info("%s: large, so its records are put into %s", path, target)
        with atomic_path(target) as temporary:
            write_records(_shown(rows(), path), temporary)


def _shown(records: Iterable[Any], path: Path) -> Iterator[Any]:
    """The records, counted on a terminal."""
    yield from tqdm(records, desc=path.name, unit=" records", disable=None, leave=False)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]
