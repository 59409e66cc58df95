"""Going on after a bad sample, but not for ever and not in silence."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


class SampleError(RuntimeError):
    """One sample cannot be used. The message is one line and names its file."""


@dataclass(frozen=True)
class SkippedSample:
    """A sample that was left out, and why."""

    dataset: str
    """Name and split of the data set, when it has them."""
    index: int
    """In the data set."""
    reason: str


OnSkip = Callable[[SkippedSample], None]


class SkipLog:
    """Counts the samples of a job that were skipped, and stops it when there are too many.

    A sample that is bad in every epoch counts once.

    Args:
        limit: Bad samples that are forgiven.
        on_skip: Called once with each of them, e.g. ``appender(job / "skipped.jsonl")``.
    """

    def __init__(self, *, limit: int = 100, on_skip: OnSkip | None = None) -> None:
        if limit < 0:
            raise ValueError(f"limit ({limit}) must not be negative")
        self.limit, self._on_skip = limit, on_skip
        self._seen: dict[SkippedSample, None] = {}  # in order

    @property
    def count(self) -> int:
        return len(self._seen)

    @property
    def samples(self) -> list[SkippedSample]:
        """Those that were skipped, in order."""
        return list(self._seen)

    def recall(self, sample: SkippedSample) -> None:
        """Count a sample that an earlier part of the job has told of."""
        self._seen[sample] = None

    def record(self, sample: SkippedSample) -> None:
        """Take note of a bad sample.

        Raises:
            SampleError: it is one more than ``limit``.
        """
        if sample in self._seen:
            return
        self._seen[sample] = None
        logger.warning("skipping sample %d %s: %s", sample.index, sample.dataset, sample.reason)
        if self._on_skip is not None:
            self._on_skip(sample)
        if self.count > self.limit:
            raise SampleError(f"more than {self.limit} bad samples; the last: {sample.reason}")


def appender(path: Path) -> OnSkip:
    """A callback that writes each skipped sample as a line of JSON at the end of ``path``."""

    def append(sample: SkippedSample) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")

    return append
