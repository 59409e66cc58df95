"""Reads the weights out of a TorchScript archive, without running any of its code.

``torch.jit.load`` compiles what such a file brings along, and may run it. Here its pickle is read
by an unpickler that knows tensors and nothing else: the archive's own classes become empty shells,
and any other name is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
CLASSES = "__torch__"
"""Where the archive's own classes are said to live."""


class ArchiveError(ValueError):
    """A file is no TorchScript archive of plain tensors."""


class _Shell:
    """Stands for an object of one of the archive's own classes."""


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive; what ``torch.save`` writes has no constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """The tensors of an archive, on the CPU, by their dotted names.

    Raises:
        ArchiveError: it holds something else than modules, tensors and plain values.
    """
    with zipfile.ZipFile(path) as archive:
        data = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if data is None:
            raise ArchiveError("has no data.pkl")
        with archive.open(data) as file:
            root = _Unpickler(file, archive, data.removesuffix("data.pkl")).load()
    state: dict[str, Tensor] = {}
    _collect(root, "", state)
    return state


def _collect(module: Any, prefix: str, state: dict[str, Tensor]) -> None:
    """Put the tensors of a shell and of those inside it into ``state``."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            state[prefix + name] = value
        elif isinstance(value, _Shell):
            _collect(value, f"{prefix}{name}.", state)


class _Unpickler(pickle.Unpickler):
    """Makes tensors of the archive's records, and shells of its objects."""

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == CLASSES or module.startswith(f"{CLASSES}."):
            return _Shell
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        raise ArchiveError(f"asks for {module}.{name}, which is no part of a plain model")

    def persistent_load(self, pid: Any) -> Tensor:
        """One storage as a flat tensor; those of two tensors may be one."""
        kind, dtype, key, _place, length = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ArchiveError(f"holds a {kind!r} where tensors have their storage")
        if key not in self._storages:
            data = self._archive.read(f"{self._folder}data/{key}")
            if len(data) < length * dtype.itemsize:
                raise ArchiveError(f"data/{key} is {len(data)} bytes, too short for its tensors")
            self._storages[key] = (
                torch.frombuffer(bytearray(data), dtype=dtype)
                if data
                else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _rebuild(storage: Tensor, offset: int, size: Any, stride: Any, *_rest: Any) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _as_list(values: Any) -> list[Any]:
    return list(values)


def _first(value: Any, *_types: Any) -> Any:
    return value


_HARMLESS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("collections", "OrderedDict"): dict,
    ("torch.jit._pickle", "build_intlist"): _as_list,
    ("torch.jit._pickle", "build_doublelist"): _as_list,
    ("torch.jit._pickle", "build_boollist"): _as_list,
    ("torch.jit._pickle", "build_tensorlist"): _as_list,
    ("torch.jit._pickle", "restore_type_tag"): _first,
}
"""What an archive may ask for besides its own classes."""
