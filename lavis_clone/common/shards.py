"""Checkpoints that all processes write together, each its part: folders in place of files.

A folder holds safetensors, as torch.distributed.checkpoint writes them, for what is large, and
``rest.pt`` for all else, which loads with ``weights_only=True``. How many processes wrote it, and
how the weights were spread over them, does not matter to who reads it.

torch.distributed.checkpoint loads slowly, so only what reads or writes a folder imports it.
"""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lavis_clone.common import dist

REST = "rest.pt"
REFERENCE = "__tensor__"
"""The only key of what stands in ``rest.pt`` for a tensor that is elsewhere."""
MAX_REASON = 300
"""Letters of torch's reasons that are told."""
LARGE = ("model", "optimizer", "resume.weights", "resume.average")
"""Where tensors are large, and the same in all processes unless they are in parts."""


class ShardError(RuntimeError):
    """A folder is no whole checkpoint, or cannot be written."""


class ShardWriter:
    """Writes one checkpoint after the other. Every process must have one, and call its methods.

    Args:
        in_background: Let the caller go on as soon as the tensors have been copied.
    """

    def __init__(self, *, in_background: bool) -> None:
        self.in_background = in_background
        self._group = dist.side_group()  # not to mix up with what training exchanges meanwhile
        self._running: Future[Any] | None = None
        self._is_placed = threading.Event()

    def write(self, folder: Path, content: Mapping[str, Any]) -> None:
        """Write ``content`` as ``folder``, which is there when it is whole, and not before.

        Args:
            content: Nested dicts and lists. What is not large is that of rank 0.

        Raises:
            ShardError: it cannot be written, or the one before could not.
        """
        import torch.distributed.checkpoint as dcp

        self.wait()
        tensors: dict[str, Tensor] = {}
        rest = _take_tensors(content, "", tensors)
        aliases = dist.broadcast(_aliases(tensors))  # other ranks may have empty parts
        tensors = {name: value for name, value in tensors.items() if name not in aliases}
        unfinished = _unfinished(folder)
        if dist.rank() == 0:
            remove(unfinished)
            unfinished.mkdir(parents=True)
            torch.save({"content": rest, "aliases": aliases}, unfinished / REST)
        dist.barrier()
        writer = dcp.HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
        options: dict[str, Any] = {"storage_writer": writer, "process_group": self._group}
        options["no_dist"] = dist.world_size() == 1
        _hush()
        with _told(folder):
            if self.in_background:
                self._is_placed.clear()
                self._running = cast("Future[Any]", dcp.async_save(tensors, **options))
                self._running.add_done_callback(partial(self._place, folder))
                return
            dcp.save(tensors, **options)
            _place(folder)
        dist.barrier()

    def wait(self) -> None:
        """Come back when what is being written is whole, as far as rank 0 is concerned.

        Raises:
            ShardError: it could not be written.
        """
        if self._running is not None:
            running, self._running = self._running, None
            with _told("a checkpoint"):
                running.result()
            self._is_placed.wait()

    def _place(self, folder: Path, written: Future[Any]) -> None:
        """What the background does when all is written, even if nobody waits for it."""
        try:
            if not written.exception():
                _place(folder)
        finally:
            self._is_placed.set()


def is_sharded(path: Path) -> bool:
    """Whether this is such a folder."""
    return (path / REST).is_file()


def read(folder: Path, *, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """What was written, all tensors whole and on the CPU.

    Args:
        only: Top-level keys to read; () for all.

    Raises:
        ShardError: a tensor is missing.
    """
    import torch.distributed.checkpoint as dcp

    kept = torch.load(folder / REST, map_location="cpu", weights_only=True)
    rest, aliases = kept["content"], kept["aliases"]
    wanted = {key: value for key, value in rest.items() if not only or key in only}
    reader = dcp.HuggingFaceStorageReader(str(folder))
    found = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for name in dict.fromkeys(aliases.get(name, name) for name in _references(wanted)):
        if name not in found:
            raise ShardError(f"{folder} is not whole: it lacks {name}")
        stored: Any = found[name]
        tensors[name] = torch.empty(stored.size, dtype=stored.properties.dtype)
    if tensors:
        try:
            _hush()
            dcp.load(cast("dict[str, Any]", tensors), storage_reader=reader, no_dist=True)
        except dcp.CheckpointException as error:  # no Exception in torch
            raise ShardError(f"{folder} cannot be read: {_reason(error)}") from error
    named = tensors | {name: tensors[first] for name, first in aliases.items() if first in tensors}
    whole: dict[str, Any] = _put_tensors(wanted, named)
    return whole


def remove(path: Path) -> None:
    """Remove a checkpoint, a file or a folder; nothing, if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link(source: Path, path: Path) -> None:
    """Give a folder's files a second place, without a second copy where the disk can do that."""
    unfinished = _unfinished(path)
    remove(unfinished)
    try:
        shutil.copytree(source, unfinished, copy_function=os.link)
    except (OSError, shutil.Error):  # a file system without links
        remove(unfinished)
        shutil.copytree(source, unfinished)
    put_in_place(unfinished, path)


def put_in_place(unfinished: Path, path: Path) -> None:
    """Rename a folder that is whole; it takes the place of an older one."""
    old = path.with_name(f".{path.name}.old.tmp")
    remove(old)
    if path.exists():
        path.rename(old)
    unfinished.rename(path)
    remove(old)


def _place(folder: Path) -> None:
    """Give what is whole its name; once for all processes."""
    if dist.rank() == 0:
        put_in_place(_unfinished(folder), folder)


@contextmanager
def _told(what: object) -> Iterator[None]:
    """Say in one line what could not be written."""
    import torch.distributed.checkpoint as dcp

    try:
        yield
    except (OSError, dcp.CheckpointException) as error:  # the second is no Exception in torch
        raise ShardError(f"{what} cannot be written: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What went wrong in the first process that failed, in one line."""
    failures: Mapping[int, Any] = getattr(error, "failures", {})
    first = next((failure[0] for failure in failures.values()), error)
    return " ".join(str(first).split())[:MAX_REASON] or type(first).__name__


def _hush() -> None:
    """Let torch not warn that one process is one process, in whatever thread."""
    warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _take_tensors(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` with references in place of large tensors, which are put into ``tensors``."""
    if isinstance(value, Mapping):
        return {
            key: _take_tensors(item, f"{where}.{key}" if where else str(key), tensors)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        taken = [_take_tensors(item, f"{where}.{i}", tensors) for i, item in enumerate(value)]
        return taken if isinstance(value, list) else tuple(taken)
    is_large = where.startswith(tuple(f"{name}." for name in LARGE))
    if isinstance(value, Tensor) and (is_large or dist.local(value) is not value):
        tensors[where] = value.detach()
        return {REFERENCE: where}
    return value


def _aliases(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tensors that have an earlier name, such as tied weights, and that name."""
    first: dict[tuple[Any, ...], str] = {}
    found: dict[str, str] = {}
    for name, value in tensors.items():
        own = dist.local(value)
        if own.numel():
            storage = own.untyped_storage().data_ptr()
            place = (own.device, storage, own.storage_offset(), own.shape, own.stride())
            if first.setdefault(place, name) != name:
                found[name] = first[place]
    return found


def _put_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {REFERENCE}:
            return tensors[value[REFERENCE]]
        return {key: _put_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        put = [_put_tensors(item, tensors) for item in value]
        return put if isinstance(value, list) else tuple(put)
    return value


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.keys() == {REFERENCE}:
            yield value[REFERENCE]
        else:
            for item in value.values():
                yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)
