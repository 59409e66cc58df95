"""Where image tokens wait until all images have been compared and the pairs to judge are known.

Shapes: B images of a batch, N image tokens, E their width.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from torch import Tensor

from lavis_clone.common.task_options import ImageTokens

logger = logging.getLogger(__name__)

T = TypeVar("T", bound="TokenStore")
Batch = tuple[Sequence[int], Tensor]
"""Indices of B images, and their tokens ``(B, N, E)``."""

SHARE_OF_MEMORY, SHARE_OF_DISK = 0.5, 0.9
"""What ``auto`` may take of the memory, or disk, that is free."""


class TokenStore(ABC):
    """Takes image tokens by batches and gives them back one image at a time. Closed by ``with``."""

    def __init__(self) -> None:
        self._num_images = 0

    def __len__(self) -> int:
        """How many images it has taken."""
        return self._num_images

    def add(self, indices: Sequence[int], tokens: Tensor) -> None:
        """Take the tokens ``(B, N, E)`` of B images; N, E and the type are the same every time."""
        self._num_images += len(indices)
        self._keep(indices, tokens)

    @abstractmethod
    def _keep(self, indices: Sequence[int], tokens: Tensor) -> None: ...

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Index and tokens ``(N, E)`` of each image, in the order in which they came."""

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Let go of what is kept."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class InMemory(TokenStore):
    """In RAM, whatever device they come from."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[Batch] = []

    def _keep(self, indices: Sequence[int], tokens: Tensor) -> None:
        self._batches.append((indices, tokens.cpu()))

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for indices, tokens in self._batches:
            yield from zip(indices, tokens, strict=True)

    def close(self) -> None:
        self._batches.clear()


class OnDisk(TokenStore):
    """In a file in the folder for temporary files (``TMPDIR``), which is removed in the end."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="image_tokens_")
        self._path = Path(self._folder.name) / "tokens"
        self._file: BinaryIO = self._path.open("wb")
        self._indices: list[int] = []
        self._example = torch.empty(0)

    def _keep(self, indices: Sequence[int], tokens: Tensor) -> None:
        tokens = tokens.cpu().contiguous()
        self._indices += indices
        self._example = tokens[:0]
        self._file.write(tokens.view(torch.uint8).numpy().data)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        if not len(self):  # no file can be mapped that is empty
            return
        self._file.flush()
        (_, *shape), dtype = self._example.shape, self._example.dtype
        # Bytes, as numpy does not know bfloat16; "c", as torch warns of memory it cannot write to.
        mapped = np.memmap(self._path, dtype=np.uint8, mode="c").reshape(len(self), -1)
        for index, row in zip(self._indices, mapped, strict=True):
            yield index, torch.from_numpy(row).view(dtype).view(*shape)

    def close(self) -> None:
        self._file.close()
        self._folder.cleanup()


class Recomputed(TokenStore):
    """Nowhere: the images are encoded once more.

    Args:
        encode: Goes through all images and gives their tokens, every time that it is called.
    """

    def __init__(self, encode: Callable[[], Iterable[Batch]]) -> None:
        super().__init__()
        self._encode = encode

    def _keep(self, indices: Sequence[int], tokens: Tensor) -> None:
        """Nothing."""

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        num_seen = 0
        for indices, tokens in self._encode():
            num_seen += len(indices)
            yield from zip(indices, tokens, strict=True)
        if num_seen != len(self):
            raise RuntimeError(
                f"there were {len(self)} images at first, but {num_seen} the second time"
            )


def open_store(
    where: ImageTokens, *, num_bytes: int, encode: Callable[[], Iterable[Batch]]
) -> TokenStore:
    """A place for image tokens.

    Args:
        where: ``auto`` takes the first of memory and disk that has room enough, else recomputes.
        num_bytes: What the tokens of all images take.
        encode: See ``Recomputed``.
    """
    if where == "auto":
        where = choose_place(num_bytes, memory=free_memory(), disk=free_disk())
        logger.info("image tokens (%.1f GB): %s", num_bytes / 1e9, where)
    if where == "recompute":
        return Recomputed(encode)
    return InMemory() if where == "ram" else OnDisk()


def choose_place(num_bytes: int, *, memory: int | None, disk: int) -> ImageTokens:
    """Where ``num_bytes`` fit, given the bytes that are free; None is unknown."""
    if memory is not None and num_bytes <= SHARE_OF_MEMORY * memory:
        return "ram"
    return "disk" if num_bytes <= SHARE_OF_DISK * disk else "recompute"


def free_disk() -> int:
    """Bytes that are free where temporary files go."""
    return shutil.disk_usage(tempfile.gettempdir()).free


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process can still get, within its container's limit; or None.

    Args:
        root: Where ``proc`` and ``sys`` lie.
    """
    found = [_available(root / "proc/meminfo"), _left_in_group(root / "sys/fs/cgroup")]
    known = [number for number in found if number is not None]
    if known:
        return min(known)
    try:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _available(path: Path) -> int | None:
    """``MemAvailable`` of Linux, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024 * found[0] if found else None


def _left_in_group(folder: Path) -> int | None:
    """What the control group of a container leaves; None without one, or without a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None
