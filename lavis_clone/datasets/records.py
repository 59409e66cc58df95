"""Records of annotation files that are too many for memory: Arrow files, mapped by all processes.

A column is stored as what its values are: texts, whole numbers, numbers, flags, or lists of texts
or of whole numbers. A column that mixes these, or holds mappings, keeps each value in Python's own
packed form. So a record comes out exactly as it was put in. What a record does not have is null.
"""

from __future__ import annotations

import bisect
import itertools
import marshal
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lavis_clone.datasets.annotations import AnnotationError, Record, RecordSequence

BATCH = 16_384
"""Records of one batch of a file; while a file is written, as many are in memory."""

PACKED = "packed"
EMPTY = "empty"
"""Lists without items so far, of texts or of whole numbers."""
_MARSHAL_VERSION = 4
_SCALARS = {str: "text", bool: "flag", int: "whole", float: "number"}
_LISTS = {str: "texts", int: "wholes"}


class NoArrow(AnnotationError):
    """The package ``pyarrow`` is not installed."""


class ArrowRecords(RecordSequence):
    """Read-only records of Arrow files, one file after another.

    The files are mapped into memory: the system reads what is asked for, and all processes of a
    machine share it. To change records, make ``Records`` of new ones.

    Args:
        is_numbered: Give each record its position as ``instance_id``, a str.

    Raises:
        AnnotationError: a file is damaged, or pyarrow is not there.
    """

    def __init__(self, paths: Sequence[str | Path], *, is_numbered: bool = False) -> None:
        self.paths, self.is_numbered = [Path(path) for path in paths], is_numbered
        self._batches = [batch for path in self.paths for batch in _open(path)]
        self._ends = list(itertools.accumulate(len(columns[0][1]) for columns in self._batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _record(self, index: int) -> Record:
        number = bisect.bisect_right(self._ends, index)
        row = index - (self._ends[number - 1] if number else 0)
        record = {}
        for name, column, is_packed in self._batches[number]:
            value = column[row].as_py()
            if value is not None:
                record[name] = marshal.loads(value) if is_packed else value
        if self.is_numbered:
            record["instance_id"] = str(index)
        return MappingProxyType(record)

    def __iter__(self) -> Iterator[Record]:
        numbers = itertools.count()
        for columns in self._batches:
            names = [name for name, _, _ in columns]
            values = [_values(column, is_packed) for _, column, is_packed in columns]
            for row in zip(*values, strict=True):
                record = {k: v for k, v in zip(names, row, strict=True) if v is not _ABSENT}
                if self.is_numbered:
                    record["instance_id"] = str(next(numbers))
                yield MappingProxyType(record)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.paths, self.is_numbered)


_ABSENT = object()


def write_records(records: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write an Arrow file and return how many records it holds. Few are in memory at a time.

    Raises:
        ValueError: a value is of a type that no annotation file has.
        OSError: the file cannot be written.
    """
    writer = _Writer(path)
    with writer:
        remaining = iter(records)
        while batch := list(itertools.islice(remaining, BATCH)):
            writer.write(batch)
    return writer.count


class _Writer:
    """An Arrow file whose columns grow wider as records need it.

    What has been written is then converted, which is rare: files hold one form of record.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.count = path, 0
        self._kinds: dict[str, str] = {}
        self._file: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append a batch."""
        names = list(dict.fromkeys(itertools.chain(self._kinds, *records)))
        values = {name: [record.get(name, _ABSENT) for record in records] for name in names}
        kinds = {n: _joint(self._kinds.get(n), _kind(column)) for n, column in values.items()}
        if self._file is None or kinds != self._kinds:
            kinds = self._widen(kinds)
        while True:
            try:
                batch = _batch(values, kinds)
                break
            except _Unfit as error:  # a number beyond 64 bits, half a surrogate pair
                kinds = self._widen({**kinds, error.column: PACKED})
        self._file.write(batch)
        self.count += len(records)

    def _widen(self, kinds: Mapping[str, str]) -> dict[str, str]:
        """Convert what has been written to columns of these kinds, and go on writing it."""
        import pyarrow as pa

        self.__exit__()
        old = self._path.with_name(self._path.name + ".old")
        is_first = self._file is None
        if not is_first:
            os.replace(self._path, old)
        self._kinds = dict(kinds)
        fields = [(name, _arrow_type(kind)) for name, kind in kinds.items()]
        self._file = pa.ipc.new_file(str(self._path), pa.schema(fields))
        if not is_first:
            for columns in _open(old):
                found = {name: _values(column, packed) for name, column, packed in columns}
                absent = [_ABSENT] * len(columns[0][1])
                self._file.write(_batch({n: found.get(n, absent) for n in kinds}, kinds))
            old.unlink()
        return self._kinds


class _Unfit(ValueError):
    """A column cannot be stored as what its values seemed to be."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


def _kind(values: Sequence[Any]) -> str | None:
    """What a column is stored as; None when no record has it."""
    types = set(map(type, values)) - {object}
    if len(types) > 1:
        return PACKED
    if not types:
        return None
    only = types.pop()
    if only is list:
        lists = (value for value in values if value is not _ABSENT)
        inner = set(map(type, itertools.chain.from_iterable(lists)))
        return _LISTS.get(inner.pop(), PACKED) if len(inner) == 1 else PACKED if inner else EMPTY
    return _SCALARS.get(only, PACKED)


def _joint(old: str | None, new: str | None) -> str:
    """What holds values of both kinds."""
    if old is None or new is None or old == new:
        return old or new or PACKED
    lists = {EMPTY, *_LISTS.values()}
    if EMPTY in (old, new) and {old, new} <= lists:
        return new if old == EMPTY else old
    return PACKED


def _arrow_type(kind: str) -> Any:
    import pyarrow as pa

    return {
        "text": pa.string(),
        "flag": pa.bool_(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "texts": pa.list_(pa.string()),
        "wholes": pa.list_(pa.int64()),
        EMPTY: pa.list_(pa.string()),
        PACKED: pa.binary(),
    }[kind]


def _batch(values: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> Any:
    import pyarrow as pa

    arrays = []
    for name, kind in kinds.items():
        column = [None if value is _ABSENT else value for value in values[name]]
        if kind == PACKED:
            column = [_packed(v, name) for v in values[name]]
        try:
            arrays.append(pa.array(column, _arrow_type(kind)))
        except (pa.ArrowInvalid, OverflowError, UnicodeError) as error:
            if kind == PACKED:
                raise
            raise _Unfit(name) from error
    return pa.record_batch(arrays, names=list(kinds))


def _packed(value: Any, column: str) -> bytes | None:
    if value is _ABSENT:
        return None
    try:
        return marshal.dumps(value, _MARSHAL_VERSION)
    except ValueError as error:
        raise ValueError(
            f"{column}: a value of type {type(value).__name__} cannot be kept: {value!r:.80}"
        ) from error


def _values(column: Any, is_packed: bool) -> list[Any]:
    found = column.to_pylist()
    if is_packed:
        return [_ABSENT if value is None else marshal.loads(value) for value in found]
    return [_ABSENT if v is None else v for v in found] if column.null_count else found


def _open(path: Path) -> list[list[tuple[str, Any, bool]]]:
    """The batches of a mapped file: name, values, and whether they are packed, of each column."""
    pa = arrow()
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise AnnotationError(
            f"{path}: damaged: {str(error).splitlines()[0]}; remove it, and it is made anew"
        ) from error
    return [
        [
            (name, batch.column(name), pa.types.is_binary(batch.schema.field(name).type))
            for name in batch.schema.names
        ]
        for batch in batches
        if len(batch)
    ]


def _reopened(paths: Sequence[Path], is_numbered: bool) -> ArrowRecords:
    return ArrowRecords(paths, is_numbered=is_numbered)


def arrow() -> Any:
    """The module ``pyarrow``.

    Raises:
        NoArrow: it is not installed; says how to.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise NoArrow(
            "large annotation files need pyarrow: pip install 'lavis_clone[data]'"
        ) from error
    return pa
