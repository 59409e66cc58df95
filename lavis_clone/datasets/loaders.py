"""Batches from data sets: reproducible, shared among processes, undeterred by single bad samples.

What a sample looks like depends on ``(seed, pass, index)`` alone, not on the number of worker
processes or ranks, nor on what was loaded before.
"""

from __future__ import annotations

import bisect
import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lavis_clone.common.context import RunContext
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.mixture import EpochBatches, Key, Mix, Part, mixed
from lavis_clone.datasets.skip import SampleError, SkipLog, SkippedSample


def build_loader(  # noqa: PLR0913  # what DataLoader takes, and how it is shared and mixed
    datasets: Any,
    *,
    batch_size: int,
    is_train: bool,
    num_workers: int = 0,
    context: RunContext | None = None,
    seed: int = 42,
    skips: SkipLog | None = None,
    mix: Mix | None = None,
) -> Loader:
    """Batches of this rank's share of a data set, or of several.

    In training the order is shuffled by ``(seed, epoch)``, all ranks get equally many full
    batches, and what is left over is dropped, unless it is all there is: in one epoch a sample is
    seen once or, if it is among the less than ``batch_size`` times ranks that are left over, not at
    all. In evaluation every sample goes to exactly one rank, lower ranks have earlier samples, and
    the last batch may be short.

    A sample that raises ``SampleError`` is replaced by the next good one in training and left out
    in evaluation; ``skips`` counts these, and stops the run when there are too many.

    Args:
        datasets: A map-style data set, or several, which are concatenated. The first one's
            ``collater`` makes the batches.
        batch_size: Samples of one batch of one rank.
        context: Says rank, number of ranks and device; None for one process on the CPU.
        skips: One may serve several loaders; None for one of its own, with the default limit.
        mix: How several data sets are mixed in training: then each batch is of one of them, made by
            its own ``collater``. None puts their samples together.

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
    sources, parts = _parted(dataset, batch_size, mix if is_train else None, ranks[1])
    batches = EpochBatches(parts, is_train=is_train, seed=seed, ranks=ranks)
    skips = SkipLog() if skips is None else skips
    source = _Source(sources, seed=seed, replaces=is_train, limit=skips.limit)
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

    last_keys: list[tuple[str, int]]
    """Where the samples of the batch came from that was handed out last: each one's data set by
    name, and its index in it."""

    def __init__(
        self, dataset: Any, loader: DataLoader[Any], batches: EpochBatches, skips: SkipLog
    ) -> None:
        self.dataset, self.skips, self.last_keys = dataset, skips, []
        self.batch_size, self.is_train = batches.parts[0].batch_size, batches.is_train
        self._loader, self._batches = loader, batches
        self._epoch, self._given = 0, 0
        self._start = 0

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch."""
        return len(self._batches)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Choose what the next iteration goes through.

        Args:
            skip: Batches to leave out at the start of that iteration.
        """
        self._batches.set_epoch(epoch, skip=skip)
        self._epoch, self._given, self._start = epoch, skip, skip

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._batches.set_epoch(self._epoch, skip=self._start)
        self._given, self._start = self._start, 0
        count = 0
        bad: list[SkippedSample] = []
        for loaded in self._loader:
            self._given += 1  # not what workers have loaded ahead, but what has been handed out
            for sample in loaded.skipped:
                self.skips.record(sample)
            bad += loaded.skipped
            if loaded.batch is not None:
                count += 1
                self.last_keys = loaded.keys
                yield loaded.batch
        if bad and not count:
            raise SampleError(f"no sample could be used; the last: {bad[-1].reason}")

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is, in plain values.

        ``mixture`` tells how many batches of each data set have been handed out since the first
        epoch; it follows from the rest and is there to be looked at.
        """
        batches = self._batches
        places = batches.places(self._epoch)
        places.skip(self._given)
        names = [part.name for part in batches.parts]
        return {
            "epoch": self._epoch,
            "batches": self._given,
            "mixture": dict(zip(names, places.counts, strict=True)),
            "skipped": [asdict(sample) for sample in self.skips.samples],
            "made_of": self._made_of(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there: the next iteration begins with the batch that would have come next.

        Raises:
            ValueError: the state is of other data, or of another number of ranks.
        """
        for key, here in self._made_of().items():
            there = state["made_of"][key]
            if there != here:
                raise ValueError(f"{key}: the state is of a loader with {there}, not {here}")
        for sample in state["skipped"]:
            self.skips.recall(SkippedSample(**sample))
        self.set_epoch(state["epoch"], skip=state["batches"])

    def _made_of(self) -> dict[str, Any]:
        """What the order depends on; the rank is not told, so that one state serves all."""
        batches = self._batches
        fields = ("name", "length", "batch_size", "weight")
        return {
            "seed": batches.seed,
            "is_train": batches.is_train,
            "num_ranks": batches.num_ranks,
            "data": [[getattr(part, name) for name in fields] for part in batches.parts],
        }


class _Item(NamedTuple):
    sample: Any
    """None when there is none to use."""
    place: tuple[int, int]
    """The number of its part, and its index in it."""
    skipped: list[SkippedSample]


class _Loaded(NamedTuple):
    batch: Any
    """None when all samples were bad."""
    keys: list[tuple[str, int]]
    skipped: list[SkippedSample]


class _Source(Dataset[_Item]):
    """What a worker does: one sample, with its own random numbers, or a note of why not.

    Args:
        parts: Data sets, of which a batch never holds samples of two.
    """

    def __init__(self, parts: Sequence[Any], *, seed: int, replaces: bool, limit: int) -> None:
        self._parts, self._seed = parts, seed
        self._tries = limit + 1 if replaces else 1
        self._offsets = np.cumsum([0, *map(len, parts)]).tolist()

    def __getitem__(self, key: Key) -> _Item:
        number_of_pass, first = key
        number = bisect.bisect_right(self._offsets, first) - 1
        part, offset = self._parts[number], self._offsets[number]
        skipped: list[SkippedSample] = []
        for step in range(min(self._tries, len(part))):
            index = (first - offset + step) % len(part)
            try:
                with _random_numbers(mixed(self._seed, number_of_pass, offset + index)):
                    return _Item(part[index], (number, index), skipped)
            except SampleError as error:
                skipped.append(_skipped(part, index, error))
        return _Item(None, (number, first - offset), skipped)

    def collate(self, items: Sequence[_Item]) -> _Loaded:
        good = [item for item in items if item.sample is not None]
        skipped = [sample for item in items for sample in item.skipped]
        part = self._parts[items[0].place[0]]
        make = getattr(part, "collater", default_collate)
        keys = [_origin(part, item.place[1]) for item in good]
        return _Loaded(make([item.sample for item in good]) if good else None, keys, skipped)


def _skipped(dataset: Any, index: int, error: SampleError) -> SkippedSample:
    leaf, place = _leaf(dataset, index)
    names = (getattr(leaf, "name", ""), getattr(leaf, "split", ""))
    return SkippedSample("/".join(filter(None, names)), place, str(error))


def _origin(dataset: Any, index: int) -> tuple[str, int]:
    """The name of the data set that a sample is of, and its index there."""
    leaf, place = _leaf(dataset, index)
    return getattr(leaf, "name", ""), place


def _leaf(dataset: Any, index: int) -> tuple[Any, int]:
    """The very data set that a sample is of, and its index there."""
    while isinstance(dataset, ConcatDataset):
        number = bisect.bisect_right(dataset.cumulative_sizes, index)
        index -= dataset.cumulative_sizes[number - 1] if number else 0
        dataset = dataset.datasets[number]
    return dataset, index


def _parted(
    dataset: Any, batch_size: int, mix: Mix | None, num_ranks: int
) -> tuple[list[Any], list[Part]]:
    """The data sets of which no batch holds samples of two, and what to make of each."""
    if mix is None or mix.is_plain:
        return [dataset], [Part(getattr(dataset, "name", ""), len(dataset), batch_size)]
    sources = list(dataset.datasets) if isinstance(dataset, ConcatDataset) else [dataset]
    lengths = [(getattr(source, "name", ""), len(source)) for source in sources]  # type: ignore[arg-type]  # map-style
    return sources, mix.parts(lengths, batch_size, num_ranks)


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
