"""Files of features: rows that grow beside the file, and the file that they become at the end.

Rows are kept in ``<output>.part`` as they are made, each at its own place, so that a run that was
killed goes on with the rows that are absent. Nothing here holds all rows in memory.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavis_clone.common.files import FileError, atomic_path, write_atomic

NPZ, PARQUET = ".npz", ".parquet"
ROWS_AT_ONCE = 256
"""That are copied into the final file."""
METADATA = b"lavis_clone"
SETTINGS, DONE = "settings.json", "done.npy"

Settings = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """What goes into a final file."""

    names: Mapping[str, list[str]]
    """Columns of text, of the kept rows alone."""
    arrays: Mapping[str, np.ndarray[Any, Any]]
    """Of all rows."""
    kept: np.ndarray[Any, Any]
    """The rows that there are."""
    settings: Settings


class RowStore:
    """The rows of one output file, done and to do.

    Args:
        output: The file to make, ``.npz`` or ``.parquet``.
        names: Columns of text by name, e.g. ``names``; a text for each row.
        settings: What the rows depend on. Rows made with other settings are never mixed in.
    """

    def __init__(
        self, output: Path, names: Mapping[str, Sequence[str]], settings: Settings
    ) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.part")
        self._names = names
        self._num_rows = len(next(iter(names.values())))
        self._settings: Settings = json.loads(json.dumps(settings))
        self._arrays: dict[str, np.memmap[Any, Any]] = {}
        self._done = np.zeros(self._num_rows, dtype=bool)

    def open(self) -> int | None:
        """Look at what an earlier run has left.

        Returns:
            How many rows the finished file has, or None when there is no such file yet.

        Raises:
            FileError: The file or its folder was made with other settings, or by something else,
                or nothing can be written there.
        """
        if self.output.exists():
            settings, rows = read_settings(self.output)
            self._compare(settings, self.output)
            shutil.rmtree(self.folder, ignore_errors=True)
            return rows
        path = self.folder / SETTINGS
        if not path.is_file():
            self._try()
            return None
        left = json.loads(path.read_text(encoding="utf-8"))
        self._compare(left["settings"], self.folder)
        self._done = np.lib.format.open_memmap(self.folder / DONE, mode="r+")
        for name in left["arrays"]:
            self._arrays[name] = np.lib.format.open_memmap(self._path(name), mode="r+")
        return None

    @property
    def num_done(self) -> int:
        return int(self._done.sum())

    def to_do(self) -> list[int]:
        """The rows that are absent, in order."""
        return np.flatnonzero(~self._done).tolist()

    def write(self, rows: Sequence[int], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Keep some rows.

        Args:
            rows: Their places.
            arrays: For each name ``(len(rows), ...)``.
        """
        if not self._arrays:
            self._begin(arrays)
        places = list(rows)
        for name, values in arrays.items():
            self._arrays[name][places] = values
            self._arrays[name].flush()
        self._done[places] = True  # last: a row counts when all of it is there
        if isinstance(self._done, np.memmap):
            self._done.flush()

    def finish(self) -> None:
        """Write the rows that there are into the final file, whole or not at all."""
        kept = np.flatnonzero(self._done)
        names = {name: [texts[row] for row in kept.tolist()] for name, texts in self._names.items()}
        write = WRITERS[self.output.suffix]
        with atomic_path(self.output) as path:
            write(path, Table(names, self._arrays, kept, self._settings))
        shutil.rmtree(self.folder)

    def _try(self) -> None:
        """Whether the folder can be made, before there is anything to put into it."""
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that ended before its first row
        try:
            self.folder.mkdir()
            self.folder.rmdir()
        except OSError as error:
            raise FileError(f"{self.folder}: cannot be made: {error.strerror}") from error

    def _begin(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.folder.mkdir()
        create = np.lib.format.open_memmap
        for name, values in arrays.items():
            shape = (self._num_rows, *values.shape[1:])
            self._arrays[name] = create(self._path(name), "w+", values.dtype, shape)
        self._done = create(self.folder / DONE, "w+", np.bool_, (self._num_rows,))
        content = {"settings": self._settings, "arrays": list(arrays)}
        write_atomic(self.folder / SETTINGS, json.dumps(content, indent=1))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _compare(self, settings: Settings, path: Path) -> None:
        keys = sorted(settings.keys() | self._settings.keys())
        pairs = {key: (settings.get(key), self._settings.get(key)) for key in keys}
        if other := [f"{k}: {a} and not {b}" for k, (a, b) in pairs.items() if a != b]:
            raise FileError(
                f"{path} was made with other settings ({', '.join(other)}); delete it, or choose "
                "another output"
            )


def check_suffix(output: Path) -> None:
    """Refuse a kind of file that cannot be written here.

    Raises:
        ValueError: no such kind.
        ImportError: naming the package that is absent.
    """
    if output.suffix not in WRITERS:
        raise ValueError(f"{output}: must end in {' or '.join(WRITERS)}")
    if output.suffix == PARQUET:
        _arrow()


def read_settings(path: Path) -> tuple[Settings, int]:
    """The settings that a file of features was made with, and how many rows it has.

    Raises:
        FileError: It is not one of ours.
    """
    try:
        if path.suffix == PARQUET:
            metadata = _arrow().parquet.read_metadata(path)
            return json.loads(metadata.metadata[METADATA]), metadata.num_rows
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file["settings"])), int(file["rows"])
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise FileError(
            f"{path} is there already, and was not made by this command; choose another output"
        ) from error


def _write_npz(path: Path, table: Table) -> None:
    whole = {name: np.array(texts, dtype=np.str_) for name, texts in table.names.items()}
    whole |= {"rows": np.array(len(table.kept)), "settings": np.array(json.dumps(table.settings))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in whole.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED  # numpy stores 4 bytes a letter
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
        for name, array in table.arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(array.dtype),
                    "fortran_order": False,
                    "shape": (len(table.kept), *array.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(file, header)
                for rows in _parts(table.kept):
                    file.write(array[rows].tobytes())


def _write_parquet(path: Path, table: Table) -> None:
    arrow = _arrow()
    kinds = {name: arrow.string() for name in table.names}
    for name, array in table.arrays.items():
        kinds[name] = arrow.from_numpy_dtype(array.dtype)
        for size in reversed(array.shape[1:]):
            kinds[name] = arrow.list_(kinds[name], size)
    schema = arrow.schema(list(kinds.items()), metadata={METADATA: json.dumps(table.settings)})
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        start = 0
        for rows in _parts(table.kept):
            columns = [arrow.array(t[start : start + len(rows)]) for t in table.names.values()]
            columns += [_lists(arrow, array[rows]) for array in table.arrays.values()]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            start += len(rows)


def _lists(arrow: Any, values: np.ndarray[Any, Any]) -> Any:
    """``(R, ...)`` as a column of lists of fixed sizes, one in the other."""
    column = arrow.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        column = arrow.FixedSizeListArray.from_arrays(column, size)
    return column


def _parts(kept: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(0, len(kept), ROWS_AT_ONCE):
        yield kept[start : start + ROWS_AT_ONCE]


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ImportError(
            "a .parquet file needs pyarrow, which is not installed: "
            "pip install 'lavis_clone[data]', or write .npz"
        ) from error
    return pyarrow


WRITERS = {NPZ: _write_npz, PARQUET: _write_parquet}
