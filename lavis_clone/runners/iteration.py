"""Trains by optimizer steps over data without end, with validations every so many steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

from lavis_clone.common.registry import registry
from lavis_clone.runners.base import RunnerBase
from lavis_clone.runners.feed import Fed, grouped


@registry.register_runner("runner_iter")
class RunnerIter(RunnerBase):
    """Runs a task on a model by ``run.max_iters`` optimizer steps.

    A segment is an *inner epoch* of ``run.iters_per_inner_epoch`` steps; the last one may be
    shorter. It is what LAVIS's keys and log call an epoch, whatever the passes over the data; a
    group of batches for one step may reach from one pass into the next. Checkpoints that are kept
    are ``checkpoint_<steps>.pth``.
    """

    by_steps: ClassVar[bool] = True
    _stream: Iterator[list[Fed]] | None = None

    def total_steps(self) -> int:
        return self.run.max_iters or 0

    def steps_per_segment(self) -> int:
        return self.run.iters_per_inner_epoch or 1

    def batches_in_segment(self) -> int:
        return self._steps_in_segment() * self.run.accum_grad_iters

    def groups(self) -> Iterator[list[Fed]]:
        place = self.session.place
        if self._stream is None:
            self._stream = grouped(self.session.feed.endless(), self.run.accum_grad_iters)
        end = place.segment * self.steps_per_segment() + self._steps_in_segment()
        return itertools.islice(self._stream, end - place.step)

    def align(self) -> None:
        """The count is right: data without end has a batch for each step."""

    def number(self) -> int:
        return self.session.place.step

    def _steps_in_segment(self) -> int:
        per_segment = self.steps_per_segment()
        return min(per_segment, self.total_steps() - self.session.place.segment * per_segment)
