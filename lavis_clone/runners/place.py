"""Where a run stands, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Place:
    """Together with weights, data and random numbers, all that says what comes next."""

    step: int = 0
    """Optimizer steps that are done."""
    segment: int = 0
    """The running segment, counted from 0: an epoch, or an inner epoch."""
    is_over: bool = False
    """Whether the steps of the running segment are done, and its line is written."""
    rate: float = 0.0
    """The last learning rate."""
    validated: int = -1
    """The step at which validation was last done."""
    best_metric: float | None = None
    best_epoch: int | None = None
    """The segment of the best weights."""
    best_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
