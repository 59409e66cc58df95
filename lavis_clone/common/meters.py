"""Running figures of a loop, as the log shows them."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import TypeVar

import torch

from lavis_clone.common import dist

T = TypeVar("T")

logger = logging.getLogger(__name__)

MEBIBYTE = 2**20


class SmoothedValue:
    """A series of numbers: its last ``window_size``, and the mean of all.

    Args:
        fmt: How to show it, with ``median``, ``avg``, ``global_avg``, ``max`` and ``value``.
    """

    def __init__(self, window_size: int = 20, fmt: str = "{median:.4f} ({global_avg:.4f})") -> None:
        self.fmt = fmt
        self.total, self.count = 0.0, 0
        self._window: deque[float] = deque(maxlen=window_size)

    def update(self, value: float, n: int = 1) -> None:
        """Add ``value``, which stands for ``n`` samples in the mean of all."""
        self._window.append(float(value))
        self.total += float(value) * n
        self.count += n

    def synchronize(self) -> None:
        """Let the mean of all be over all processes; the window stays this one's own."""
        parts = dist.all_gather_objects((self.total, self.count))
        self.total = sum(total for total, _ in parts)
        self.count = sum(count for _, count in parts)

    @property
    def median(self) -> float:
        """Of the window; of two middle values the lower."""
        return statistics.median_low(self._window) if self._window else 0.0

    @property
    def avg(self) -> float:
        """Of the window."""
        return statistics.fmean(self._window) if self._window else 0.0

    @property
    def global_avg(self) -> float:
        """Of everything."""
        return self.total / self.count if self.count else 0.0

    @property
    def max(self) -> float:
        """Of the window."""
        return max(self._window, default=0.0)

    @property
    def value(self) -> float:
        """The latest."""
        return self._window[-1] if self._window else 0.0

    def __str__(self) -> str:
        names = ("median", "avg", "global_avg", "max", "value")
        return self.fmt.format(**{name: getattr(self, name) for name in names})


class MetricLogger:
    """Named series, logged together every so many batches."""

    def __init__(self, *, delimiter: str = "  ") -> None:
        self.delimiter = delimiter
        self.meters: dict[str, SmoothedValue] = {}

    def add_meter(self, name: str, meter: SmoothedValue) -> None:
        """Have ``name`` shown in its own way."""
        self.meters[name] = meter

    def update(self, **values: float) -> None:
        """Add one number to each of the named series."""
        for name, value in values.items():
            self.meters.setdefault(name, SmoothedValue()).update(value)

    def synchronize(self) -> None:
        """Let all means be over all processes; each must have the same series."""
        for _, meter in sorted(self.meters.items()):
            meter.synchronize()

    def averages(self) -> dict[str, float]:
        """The mean of everything, by name."""
        return {name: meter.global_avg for name, meter in self.meters.items()}

    def __str__(self) -> str:
        return self.delimiter.join(f"{name}: {meter}" for name, meter in self.meters.items())

    def log_every(self, batches: Iterable[T], freq: int, *, header: str = "") -> Iterator[T]:
        """Pass ``batches`` on, with a line in the log after every ``freq``th and after the last.

        The line holds the time left, all series, and seconds per batch and per batch's loading.
        """
        total = len(batches) if isinstance(batches, Sized) else None
        took, waited = SmoothedValue(fmt="{avg:.4f}"), SmoothedValue(fmt="{avg:.4f}")
        begun = last = time.perf_counter()
        index = -1
        for index, batch in enumerate(batches):
            waited.update(time.perf_counter() - last)
            yield batch
            took.update(time.perf_counter() - last)
            last = time.perf_counter()
            if (index + 1) % freq == 0 or index + 1 == total:
                place = f"{header} [{index + 1}/{'?' if total is None else total}]".strip()
                parts = [
                    place,
                    *_time_left(took, index + 1, total),
                    *([str(self)] * bool(self.meters)),
                ]
                parts += [f"time: {took}", f"data: {waited}", *_memory()]
                logger.info("%s", self.delimiter.join(parts))
        elapsed = time.perf_counter() - begun
        logger.info(
            "%s %s in all, %.4f s / batch",
            header,
            timedelta(seconds=int(elapsed)),
            elapsed / max(index + 1, 1),
        )


def _time_left(took: SmoothedValue, done: int, total: int | None) -> list[str]:
    if total is None:
        return []
    return [f"eta: {timedelta(seconds=int(took.global_avg * (total - done)))}"]


def _memory() -> list[str]:
    if not torch.cuda.is_available():
        return []
    return [f"max mem: {torch.cuda.max_memory_allocated() / MEBIBYTE:.0f} MiB"]
