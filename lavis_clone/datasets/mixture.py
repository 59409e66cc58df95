"""Which samples make which batch: of one data set, or of several that are mixed.

Everything here follows from ``(seed, epoch, rank)`` alone, so that any batch of any epoch can be
found without going through those before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from lavis_clone.common.names import suggest
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.schema import RunConfig

Key = tuple[int, int]
"""(pass, index): which time the sample is seen, and where it is in all parts put together."""


@dataclass(frozen=True)
class Part:
    """A data set among those that batches are made of."""

    name: str
    length: int
    """Its samples, N."""
    batch_size: int
    """Samples of one batch of one rank, B."""
    offset: int = 0
    """How many samples the parts before it have."""
    weight: float = 1.0
    """Its share of the batches, among the weights of all."""

    def per_pass(self, num_ranks: int) -> int:
        """Batches of one rank that go through it once; what makes no full one is left out."""
        return self.length // (self.batch_size * num_ranks) or 1

    def share(self, num_ranks: int) -> int:
        """Samples of one rank in a pass, the same for all ranks."""
        full = self.length // (self.batch_size * num_ranks)
        return full * self.batch_size if full else -(-self.length // num_ranks)


@dataclass(frozen=True)
class Mix:
    """How several data sets are mixed: every batch is of one of them.

    Without ratios or temperature each data set is gone through once in an epoch.
    """

    ratios: Mapping[str, float] | None = None
    """Shares of the batches, by name, in proportion to these numbers; 0 leaves a data set out."""
    temperature: float | None = None
    """T: a data set of N samples has a share of the samples in proportion to ``N ** (1 / T)``; 1 is
    by size, and the greater it is, the more alike the shares are."""
    batch_sizes: Mapping[str, int] | None = None
    """Samples of one batch, for data sets with one of their own."""

    def __post_init__(self) -> None:
        if self.ratios is not None and self.temperature is not None:
            raise ValueError("data sets are mixed by ratios or by temperature, not by both")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature ({self.temperature}) must be more than 0")
        for name, ratio in (self.ratios or {}).items():
            if not 0 <= ratio < math.inf:
                raise ValueError(f"the ratio of {name!r} ({ratio}) must not be negative")
        if self.ratios and not any(self.ratios.values()):
            raise ValueError("all ratios are 0")
        for name, size in (self.batch_sizes or {}).items():
            if size < 1:
                raise ValueError(f"batch_size of {name!r} ({size}) must be at least 1")

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said, so that a batch may hold samples of several data sets."""
        return not (self.ratios or self.temperature or self.batch_sizes)

    def parts(self, lengths: Sequence[tuple[str, int]], batch_size: int, ranks: int) -> list[Part]:
        """The data sets, given as names and lengths, with their shares.

        Raises:
            ValueError: a name is not among them, a ratio is missing, or a name comes twice.
        """
        names = [name for name, _ in lengths]
        if len(set(names)) < len(names):
            raise ValueError(f"data sets that are mixed must have different names, got {names}")
        for name in (*(self.ratios or {}), *(self.batch_sizes or {})):
            if name not in names:
                known = ", ".join(map(repr, names))
                raise ValueError(f"there is no data set {name!r}{suggest(name, names)} ({known})")
        if self.ratios and (missing := [name for name in names if name not in self.ratios]):
            raise ValueError(f"there is no ratio for {', '.join(map(repr, missing))}")
        parts, offset = [], 0
        for name, length in lengths:
            size = (self.batch_sizes or {}).get(name, batch_size)
            parts.append(Part(name, length, size, offset))
            offset += length
        weights = self._weights(parts, ranks)
        return [replace(p, weight=w) for p, w in zip(parts, weights, strict=True)]

    def _weights(self, parts: Sequence[Part], ranks: int) -> list[float]:
        if self.ratios:
            return [self.ratios[part.name] for part in parts]
        by_size = [float(part.per_pass(ranks)) for part in parts]
        if self.temperature is None:
            return by_size
        power = 1 / self.temperature - 1
        logs = [
            math.log(weight) + power * math.log(max(part.length, 1))
            for weight, part in zip(by_size, parts, strict=True)
        ]
        return [math.exp(log - max(logs)) for log in logs]


def mix_of(
    run: RunConfig,
    blocks: Mapping[str, Mapping[str, Any]],
    datasets: Mapping[str, Mapping[str, Any]],
) -> Mix:
    """How a run mixes the data sets that it trains on.

    Args:
        blocks: The ``datasets:`` block.
        datasets: Data sets by name and split.

    Raises:
        ConfigError: the run names other data sets, or contradicts itself.
    """
    names = [name for name, found in datasets.items() if set(run.train_splits) & set(found)]
    own = {name: blocks[name].get("batch_size") for name in names if name in blocks}
    sizes = {name: size for name, size in own.items() if size is not None}
    try:
        mix = Mix(run.train_dataset_ratios, run.train_dataset_temperature, sizes)
        if names and not run.evaluate and not mix.is_plain:
            mix.parts([(name, 1) for name in names], batch_size=1, ranks=1)
    except ValueError as error:
        raise ConfigError(f"the data sets to train on cannot be mixed: {error}") from error
    return mix


def counts_after(total: int, weights: Sequence[float]) -> list[int]:
    """How many of the first ``total`` batches belong to each part.

    The k-th batch of a part of share p is due at ``(k + 1/2) / p``, and the earliest is next
    (Webster's, or Sainte-Lague's, method). So counts never fall as ``total`` grows, and stay close
    to ``total * p``.
    """
    shares = [weight / sum(weights) for weight in weights]
    sure = max(0, total - len(shares))  # by then no more than ``total`` are due
    counts = [math.floor(sure * share + 0.5) if share else 0 for share in shares]
    while sum(counts) < total:
        due = [(n + 0.5) / p if p else math.inf for n, p in zip(counts, shares, strict=True)]
        counts[due.index(min(due))] += 1
    return counts


class EpochBatches(Sampler[list[Key]]):
    """Which samples make which batch on this rank.

    The pass travels with the index, so that workers that live on know it.

    An epoch of one part is one pass over it. An epoch of several has as many batches as go through
    all of them once (but for those of weight 0). How many of them each part has follows from its
    weight; in the next epoch it goes on where it is in its own pass. All ranks have the same part
    at the same time.

    Args:
        ranks: This rank, and how many there are.
    """

    def __init__(
        self, parts: Sequence[Part], *, is_train: bool, seed: int, ranks: tuple[int, int]
    ) -> None:
        if not parts or min(part.length for part in parts) < 1:
            empty = "".join(f" {part.name!r}" for part in parts if part.length < 1 and part.name)
            raise ValueError(f"the data set{empty} holds no sample")
        self.parts, self.is_train = list(parts), is_train
        self.seed, (self._rank, self.num_ranks) = seed, ranks
        self._epoch, self._skip = 0, 0

    @property
    def length(self) -> int:
        """Samples of all parts."""
        return sum(part.length for part in self.parts)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Choose the epoch, and how many of its batches to leave out at the start."""
        if epoch < 0 or skip < 0:
            raise ValueError(f"epoch ({epoch}) and skip ({skip}) must not be negative")
        self._epoch, self._skip = epoch, skip

    def __len__(self) -> int:
        if not self.is_train:
            return -(-len(self._stretch()) // self.parts[0].batch_size)
        return sum(part.per_pass(self.num_ranks) for part in self.parts if part.weight)

    def __iter__(self) -> Iterator[list[Key]]:
        if not self.is_train:  # the same every time
            stretch, size = self._stretch(), self.parts[0].batch_size
            for start in range(self._skip * size, len(stretch), size):
                yield [(0, index) for index in stretch[start : start + size]]
            return
        places = self.places(self._epoch)
        places.skip(self._skip)
        passes = [_Pass(part, self.seed, (self._rank, self.num_ranks)) for part in self.parts]
        for number, place in places:
            yield passes[number].batch(place)

    def places(self, epoch: int) -> Places:
        """The part of each batch of an epoch."""
        return Places(self, epoch)

    def _stretch(self) -> range:
        """In evaluation: a stretch of the data set, so that all ranks' rows stand in its order."""
        bounds = [self.length * rank // self.num_ranks for rank in (self._rank, self._rank + 1)]
        return range(*bounds)


class Places(Iterator[tuple[int, int]]):
    """The batches of a training epoch: each is a part's number and which of its batches it is,
    counted from the start of the run."""

    def __init__(self, batches: EpochBatches, epoch: int) -> None:
        weights = [part.weight for part in batches.parts]
        per_epoch = len(batches)
        self.counts = counts_after(epoch * per_epoch, weights)
        """How many batches of each part have been gone through."""
        after = counts_after((epoch + 1) * per_epoch, weights)
        new = [there - here for here, there in zip(self.counts, after, strict=True)]
        labels = np.repeat(np.arange(len(new), dtype=np.int32), new)
        if len(new) > 1:
            labels = np.random.default_rng((batches.seed, epoch)).permutation(labels)
        self._labels, self._next = labels, 0

    def skip(self, count: int) -> None:
        """Leave out the next batches."""
        passed = self._labels[self._next : self._next + count]
        for number, times in enumerate(np.bincount(passed, minlength=len(self.counts))):
            self.counts[number] += int(times)
        self._next += len(passed)

    def __next__(self) -> tuple[int, int]:
        if self._next >= len(self._labels):
            raise StopIteration
        number = int(self._labels[self._next])
        place = self.counts[number]
        self.counts[number] += 1
        self._next += 1
        return number, place


class _Pass:
    """The order of one part in the pass that is being gone through; it is drawn anew for the next.

    Kept as an array: of millions of samples a list of ints would take a hundred times the room.
    """

    def __init__(self, part: Part, seed: int, ranks: tuple[int, int]) -> None:
        self._part, self._seed, (self._rank, self._num_ranks) = part, seed, ranks
        self._number, self._order = -1, torch.empty(0)

    def batch(self, place: int) -> list[Key]:
        """The ``place``-th batch of this rank, counted over all passes."""
        number, within = divmod(place, self._part.per_pass(self._num_ranks))
        if number != self._number:
            self._number, self._order = number, self._draw(number)
        start = within * self._part.batch_size
        chosen = self._order[start : start + self._part.batch_size].tolist()
        return [(number, self._part.offset + index) for index in chosen]

    def _draw(self, number: int) -> Any:
        """This rank's samples of a pass, in order."""
        length, ranks = self._part.length, self._num_ranks
        seed = mixed(self._seed, number, self._part.offset + length)
        order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
        total = self._part.share(ranks) * ranks
        if total > length:  # only when ranks outnumber samples
            order = order.repeat(-(-total // length))
        return order[self._rank : total : ranks].to(torch.int32)


def mixed(seed: int, epoch: int, index: int) -> int:
    """A seed of 63 bits that depends on all three."""
    words = np.random.SeedSequence((seed, epoch, index)).generate_state(2)
    return (int(words[0]) << 31) ^ int(words[1])
