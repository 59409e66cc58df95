"""The batches of a loader, pass after pass, with a position that can be kept and taken up again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lavis_clone.runners.losses import Keys, TrainingFailed

Loader = Any
"""Sized iterable of batches with ``dataset`` and ``set_epoch``."""
Batch = Mapping[str, Any]


class Fed(NamedTuple):
    """A batch, and where it came from."""

    samples: Batch
    keys: Keys
    """Which samples made it; empty when the loader does not know."""


MEDIA = ("image", "image0", "video")
"""Fields of a batch whose first axis is that of the samples."""


class Feed:
    """Goes through a loader again and again; knows which pass it is in, and where in it.

    Args:
        limit: Batches of one pass; None for all.
    """

    def __init__(self, loader: Loader, *, limit: int | None = None) -> None:
        self.loader, self.limit = loader, limit
        self.passes, self.taken = 0, 0
        self.waited = 0.0
        """Seconds that whoever asked for batches has waited for them."""
        self._resumed: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """Batches of a whole pass."""
        return min(len(self.loader), self.limit or len(self.loader))

    def one_pass(self) -> Iterator[Fed]:
        """What is left of the running pass, or the next one."""
        self._seek()
        iterator: Iterator[Batch] | None = None
        while self.limit is None or self.taken < self.limit:
            began = time.perf_counter()
            if iterator is None:
                with kept_random_state():  # a loader draws a seed, but only when it starts
                    iterator = iter(self.loader)
                    batch = next(iterator, None)
            else:
                batch = next(iterator, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                break
            self.taken += 1
            yield Fed(batch, tuple(getattr(self.loader, "last_keys", ())))
        self.passes, self.taken = self.passes + 1, 0

    def endless(self) -> Iterator[Fed]:
        """Pass after pass.

        Raises:
            TrainingFailed: a whole pass has no batch.
        """
        while True:
            is_whole, is_empty = self.taken == 0, True
            for fed in self.one_pass():
                is_empty = False
                yield fed
            if is_whole and is_empty:
                raise TrainingFailed("the training data gives no batch")

    def state_dict(self) -> dict[str, Any]:
        """Where it is, with the loader's own word for it if it has one."""
        loader = self._resumed  # until a batch is asked for, the loader does not know
        if loader is None and (self.taken or self.passes) and hasattr(self.loader, "state_dict"):
            loader = self.loader.state_dict()
        return {"passes": self.passes, "taken": self.taken, "loader": loader}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there with the next batch."""
        self.passes, self.taken = state["passes"], state["taken"]
        self._resumed = state["loader"]

    def _seek(self) -> None:
        is_known = self._resumed is not None and hasattr(self.loader, "load_state_dict")
        if is_known and self.taken:
            self.loader.load_state_dict(self._resumed)
        elif self.taken:
            self.loader.set_epoch(self.passes, skip=self.taken)
        else:
            if is_known:  # for its note of bad samples; between passes, data may have changed
                with suppress(ValueError):
                    self.loader.load_state_dict(self._resumed)
            self.loader.set_epoch(self.passes)
        self._resumed = None


def grouped(batches: Iterable[Fed], size: int) -> Iterator[list[Fed]]:
    """Lists of ``size`` batches; the last one may be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def num_samples(batch: Batch) -> int:
    """How many samples a batch holds; 1 when nothing in it says so."""
    named = (batch[name] for name in MEDIA if name in batch)
    for value in chain(named, batch.values()):
        if isinstance(value, Tensor) and value.ndim:
            return len(value)
    lists = [len(value) for value in batch.values() if isinstance(value, (list, tuple))]
    return lists[0] if lists else 1


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Whatever the block draws from the CPU's generators, what comes after it is the same."""
    saved = random_state()
    try:
        yield
    finally:
        set_random_state(saved)


def random_state() -> dict[str, Any]:
    """The state of every generator of this process, as plain values and tensors."""
    kind, words, position, has_gauss, gauss = np.random.get_state(legacy=True)
    python = random.getstate()
    return {
        "python": [python[0], list(python[1]), python[2]],
        "numpy": [kind, np.asarray(words).tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every generator back to such a state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
