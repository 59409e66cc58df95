"""Where training stands, as a value that is handed to whoever needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far training has come, counted in optimizer steps from 0."""

    step: int
    """Optimizer steps that are done."""
    steps_per_epoch: int
    total_steps: int

    def __post_init__(self) -> None:
        if self.steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch ({self.steps_per_epoch}) must be at least 1")
        if not 0 <= self.step <= self.total_steps:
            raise ValueError(f"step ({self.step}) must lie in 0..total_steps ({self.total_steps})")

    @classmethod
    def of_samples(cls, samples: Mapping[str, Any]) -> Progress | None:
        """What LAVIS writes into a batch: ``epoch``, ``iters`` and ``num_iters_per_epoch``.

        Returns:
            None when one of them is absent. Where training ends is not known, so it is now.
        """
        if not {"epoch", "iters", "num_iters_per_epoch"} <= samples.keys():
            return None
        steps = int(samples["num_iters_per_epoch"])
        done = int(samples["epoch"]) * steps + int(samples["iters"])
        return cls(step=done, steps_per_epoch=steps, total_steps=done)

    @property
    def epoch(self) -> float:
        """Epochs that are done, with the fraction of the running one."""
        return self.step / self.steps_per_epoch

    @property
    def whole_epochs(self) -> int:
        """The running epoch, counted from 0."""
        return self.step // self.steps_per_epoch

    @property
    def step_in_epoch(self) -> int:
        """Steps that are done within the running epoch."""
        return self.step % self.steps_per_epoch


def ramp_up(progress: Progress, *, epochs: float) -> float:
    """Rise linearly from 0 to 1 over the first ``epochs`` epochs, then stay at 1."""
    return 1.0 if progress.epoch >= epochs else progress.epoch / epochs
