"""Batches from data sets: reproducible, shared among processes, undeterred by single bad samples.

What a sample looks like depends on ``(seed, epoch, index)`` alone, not on the number of worker
processes or ranks, nor on what was loaded before.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

from lavis_clone.common.context import RunContext
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.skip import SampleError, SkipLog, SkippedSample

Key = tuple[int, int]
"""(epoch, index)"""


def build_loader(
    datasets: Any,
    *,
    batch_size: int,
    is_train: bool,
    num_workers: int = 0,
    seed: int = 42,
    context: RunContext | None = None,
    skips: SkipLog | None = None,
) -> Loader:
    """Batches of this rank's share of a data set.

    In training the order is shuffled by ``(seed, epoch)``, all ranks get equally many full
    batches, and what is left over is dropped, unless it is all there is. In evaluation every sample
    goes to exactly one rank, in order, and the last batch may be short.

    A sample that raises ``SampleError`` is replaced by the next good one in training and left out
    in evaluation; ``skips`` counts these, and stops the run when there are too many.

    Args:
        datasets: A map-style data set, or several, which are concatenated. The first one's
            ``collater`` makes the batches.
        batch_size: Samples of one batch of one rank.
        context: Says rank, number of ranks and device; None for one process on the CPU.
        skips: One may serve several loaders; None for one of its own, with the default limit.

    Raises:
        ValueError: a number is out of range, or there is no sample.
        TypeError: a data set is not map-style.
    """
    dataset = _one(datasets)
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("num_workers", num_workers, 0),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} ({value}) must be at least {least}")
    ranks = (context.rank, context.world_size) if context else (0, 1)
    batches = EpochBatches(
        len(dataset), batch_size=batch_size, is_train=is_train, seed=seed, ranks=ranks
    )
    skips = SkipLog() if skips is None else skips
    source = _Source(dataset, seed=seed, replaces=is_train, limit=skips.limit)
    loader: DataLoader[Any] = DataLoader(
        source,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=source.collate,
        persistent_workers=num_workers > 0,
        pin_memory=context is not None and context.device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),  # leaves the global one alone
    )
    return Loader(dataset, loader, batches, skips)


class Loader:
    """Iterates over the batches of the epoch that ``set_epoch`` chose, 0 at first."""

    def __init__(
        self, dataset: Any, loader: DataLoader[Any], batches: EpochBatches, skips: SkipLog
    ) -> None:
        self.dataset, self.skips = dataset, skips
        self.batch_size, self.is_train = batches.batch_size, batches.is_train
        self._loader, self._batches = loader, batches

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch."""
        return len(self._batches)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Choose what the next iteration goes through.

        Args:
            skip: Batches to leave out at the start, when a run is resumed within an epoch.
        """
        self._batches.set_epoch(epoch, skip=skip)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        count = 0
        bad: list[SkippedSample] = []
        for loaded in self._loader:
            for sample in loaded.skipped:
                self.skips.record(sample)
            bad += loaded.skipped
            if loaded.batch is not None:
                count += 1
                yield loaded.batch
        if bad and not count:
            raise SampleError(f"no sample could be used; the last: {bad[-1].reason}")


class EpochBatches(Sampler[list[Key]]):
    """Which samples make which batch on this rank.

    The epoch travels with the index, so that workers that live on know it.

    Args:
        length: Samples of the data set, N.
        ranks: This rank, and how many there are.
    """

    def __init__(
        self, length: int, *, batch_size: int, is_train: bool, seed: int, ranks: tuple[int, int]
    ) -> None:
        if length < 1:
            raise ValueError("the data set holds no sample")
        self.length, self.batch_size, self.is_train = length, batch_size, is_train
        self._seed, (self._rank, self._num_ranks) = seed, ranks
        self._epoch, self._skip = 0, 0

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Choose the epoch, and how many of its batches to leave out at the start."""
        if epoch < 0 or skip < 0:
            raise ValueError(f"epoch ({epoch}) and skip ({skip}) must not be negative")
        self._epoch, self._skip = epoch, skip

    def __len__(self) -> int:
        return -(-self._share() // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self._epoch if self.is_train else 0  # evaluation is the same every time
        keys = [(epoch, index) for index in self.indices()]
        for start in range(self._skip * self.batch_size, len(keys), self.batch_size):
            yield keys[start : start + self.batch_size]

    def indices(self) -> list[int]:
        """This rank's samples in the chosen epoch, in order."""
        if not self.is_train:
            return list(range(self._rank, self.length, self._num_ranks))
        generator = torch.Generator().manual_seed(_mixed(self._seed, self._epoch, self.length))
        order = torch.randperm(self.length, generator=generator).tolist()
        total = self._share() * self._num_ranks
        order *= -(-total // self.length)  # more than once only when ranks outnumber samples
        return list(order[self._rank : total : self._num_ranks])

    def _share(self) -> int:
        """Samples of this rank; in training the same for all."""
        if not self.is_train:
            return len(range(self._rank, self.length, self._num_ranks))
        full = self.length // (self.batch_size * self._num_ranks)
        return full * self.batch_size if full else -(-self.length // self._num_ranks)


class _Item(NamedTuple):
    sample: Any
    """None when there is none to use."""
    skipped: list[SkippedSample]


class _Loaded(NamedTuple):
    batch: Any
    """None when all samples were bad."""
    skipped: list[SkippedSample]


class _Source(Dataset[_Item]):
    """What a worker does: one sample, with its own random numbers, or a note of why not."""

    def __init__(self, dataset: Any, *, seed: int, replaces: bool, limit: int) -> None:
        self._dataset, self._seed = dataset, seed
        self._tries = min(limit + 1, len(dataset)) if replaces else 1
        self._label = "/".join(
            filter(None, (getattr(dataset, "name", ""), getattr(dataset, "split", "")))
        )

    def __getitem__(self, key: Key) -> _Item:
        epoch, first = key
        skipped: list[SkippedSample] = []
        for step in range(self._tries):
            index = (first + step) % len(self._dataset)
            try:
                with _random_numbers(_mixed(self._seed, epoch, index)):
                    return _Item(self._dataset[index], skipped)
            except SampleError as error:
                skipped.append(SkippedSample(self._label, index, str(error)))
        return _Item(None, skipped)

    def collate(self, items: Sequence[_Item]) -> _Loaded:
        samples = [item.sample for item in items if item.sample is not None]
        skipped = [sample for item in items for sample in item.skipped]
        make = getattr(self._dataset, "collater", default_collate)
        return _Loaded(make(samples) if samples else None, skipped)


def _one(datasets: Any) -> Any:
    parts = list(datasets) if isinstance(datasets, (list, tuple)) else [datasets]
    if not parts:
        raise ValueError("there is no data set to load from")
    for part in parts:
        if isinstance(part, IterableDataset) or not hasattr(part, "__len__"):
            raise TypeError(
                f"{type(part).__name__} is not map-style: it needs __len__ and __getitem__"
            )
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def _mixed(seed: int, epoch: int, index: int) -> int:
    """A seed of 63 bits that depends on all three."""
    words = np.random.SeedSequence((seed, epoch, index)).generate_state(2)
    return (int(words[0]) << 31) ^ int(words[1])


@contextlib.contextmanager
def _random_numbers(seed: int) -> Iterator[None]:
    """Seed Python, numpy and torch (CPU) for the block, and restore them after it."""
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.set_rng_state(saved[2])
