"""What every task offers the runner.

A task owns one step and the judging; the runner owns the loop. Rows are plain dicts that can be
written as JSON; scores are numbers by name, ``agg_metrics`` being the one that decides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import nn

from lavis_clone.common import dist
from lavis_clone.common.progress import Progress
from lavis_clone.common.schema import RunConfig
from lavis_clone.models.capabilities import Trains, require
from lavis_clone.models.outputs import ModelOutput

T = TypeVar("T", bound="BaseTask")
Row = dict[str, Any]
AGGREGATE = "agg_metrics"


class BaseTask(ABC):
    """Base of all tasks.

    Args:
        options: The task's own part of the ``run:`` block.
    """

    name: ClassVar[str]
    evaluates_with: ClassVar[type]
    """The capability that ``valid_step`` asks of a model."""
    higher_is_better: ClassVar[bool] = True
    """Whether a larger ``agg_metrics`` is better."""
    key: ClassVar[str]
    """The field that tells rows apart: of two rows with the same one, the first stays."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @classmethod
    def setup_task(cls: type[T], run: RunConfig) -> T:
        """Make the task of a run."""
        return cls(run.task_options)

    def check(self, model: nn.Module | type[nn.Module], run: RunConfig) -> None:
        """Stop before any work if ``model``, or a model of this class, cannot do what ``run`` asks.

        Raises:
            TypeError: naming the methods that are absent.
        """
        example = model.__new__(model) if isinstance(model, type) else model  # has the methods
        if run.train_splits and not run.evaluate:
            require(example, Trains, task=self.name)
        if run.valid_splits or run.test_splits:
            require(example, self.evaluates_with, task=self.name)

    def check_data(self, dataset: Any) -> None:  # noqa: B027  # most tasks have nothing to check
        """Stop before any work if ``score`` will miss something in an evaluation split.

        Raises:
            ValueError: saying what is absent.
        """

    def train_step(
        self, model: nn.Module, samples: Mapping[str, Any], progress: Progress
    ) -> ModelOutput:
        """The loss of one batch; the runner differentiates and steps."""
        return model(samples, progress=progress)

    @abstractmethod
    def valid_step(self, model: Any, samples: Mapping[str, Any]) -> list[Row]:
        """A row for each sample of a batch."""

    def evaluation(self, model: Any, batches: Iterable[Mapping[str, Any]]) -> list[Row]:
        """A row for each sample of this process's; tasks that compare samples override it.

        Args:
            batches: The runner's can be gone through more than once, and have a ``dataset``.
        """
        return [row for samples in batches for row in self.valid_step(model, samples)]

    def rows(self, model: Any, batches: Iterable[Mapping[str, Any]]) -> list[Row]:
        """The rows of a whole split, each ``key`` once; every process must call it.

        Args:
            batches: This process's part of the split. Those of lower ranks come first in the data
                set, so that the rows stand in its order however many processes there are.

        Returns:
            All processes' rows on rank 0, nothing elsewhere.
        """
        parts = dist.gather_objects(self.evaluation(model, batches))
        return self.unique(row for part in parts for row in part)

    def rehearse(self, model: Any, samples: Mapping[str, Any]) -> None:
        """Evaluate a batch of one before any work; a task that needs more samples overrides it."""
        self.evaluation(model, [samples])

    @abstractmethod
    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """Judge the rows of a whole split, ``agg_metrics`` among the scores; {} if it cannot be."""

    def files(self, rows: Sequence[Row]) -> dict[str, Any]:  # noqa: ARG002
        """What to write into the job's directory besides the rows: JSON by the file's name."""
        return {}

    def unique(self, rows: Iterable[Row]) -> list[Row]:
        """Drop rows that repeat an earlier one's ``key``."""
        found: dict[Any, Row] = {}
        for row in rows:
            found.setdefault(row[self.key], row)
        return list(found.values())
