"""Learning rates as functions of how far training has come.

The formulas are v1.0.2's. They count in whole epochs: the rate rises during the first epoch, step
by step, and is constant within each later one. ``runner_iter`` counts its inner epochs. With
``run.lr_per: step`` the rate changes with each step after warm-up, which may then take more than an
epoch: the cosine goes from the end of warm-up to the last step, and decay counts parts of epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry


class ScheduleConfig(Protocol):
    """What a schedule reads of ``RunConfig``."""

    @property
    def init_lr(self) -> float | None: ...
    @property
    def min_lr(self) -> float: ...
    @property
    def warmup_lr(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def lr_decay_rate(self) -> float | None: ...
    @property
    def num_epochs(self) -> int: ...
    @property
    def lr_per(self) -> Literal["epoch", "step"]: ...


Schedule = Callable[[Progress, ScheduleConfig], float]
"""The learning rate of the next optimizer step, before any group's own factor."""


@registry.register_lr_scheduler("constant_lr")
def constant_lr(_progress: Progress, config: ScheduleConfig) -> float:
    """``init_lr`` throughout; there is no warm-up."""
    return _peak(config)


@registry.register_lr_scheduler("linear_warmup_cosine_lr")
def linear_warmup_cosine_lr(progress: Progress, config: ScheduleConfig) -> float:
    """From ``init_lr`` to ``min_lr`` along half a cosine, after warm-up."""
    peak = _peak(config)
    if is_warming_up(progress, config):
        return warmup(progress, config)
    share = progress.whole_epochs / config.num_epochs
    if config.lr_per == "step":
        left = max(1, progress.total_steps - config.warmup_steps)
        share = (progress.step - config.warmup_steps) / left
    falling = 0.5 * (1.0 + math.cos(math.pi * share))
    return (peak - config.min_lr) * falling + config.min_lr


@registry.register_lr_scheduler("linear_warmup_step_lr")
def linear_warmup_step_lr(progress: Progress, config: ScheduleConfig) -> float:
    """``init_lr`` times ``lr_decay_rate`` to the power of the epoch, after warm-up.

    Raises:
        ValueError: ``lr_decay_rate`` is not given.
    """
    if is_warming_up(progress, config):
        return warmup(progress, config)
    epoch = progress.epoch if config.lr_per == "step" else progress.whole_epochs
    if config.lr_decay_rate is None:
        raise ValueError("run.lr_decay_rate is required by linear_warmup_step_lr")
    return max(config.min_lr, _peak(config) * config.lr_decay_rate**epoch)


def is_warming_up(progress: Progress, config: ScheduleConfig) -> bool:
    """Whether warm-up decides: during the first epoch, or with ``lr_per: step`` while it lasts."""
    if config.lr_per == "step":
        return progress.step < config.warmup_steps
    return progress.whole_epochs == 0


def warmup(progress: Progress, config: ScheduleConfig) -> float:
    """From ``warmup_lr`` to ``init_lr`` in ``warmup_steps``, and no further."""
    peak = _peak(config)
    start = peak if config.warmup_lr < 0 else config.warmup_lr
    step = progress.step if config.lr_per == "step" else progress.step_in_epoch
    share = step / max(config.warmup_steps, 1)
    return min(peak, start + (peak - start) * share)


def _peak(config: ScheduleConfig) -> float:
    if config.init_lr is None:
        raise ValueError("run.init_lr is required for training")
    return config.init_lr
