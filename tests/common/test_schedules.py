from __future__ import annotations

import math
from typing import Any

import pytest

from lavis_clone.common.progress import Progress, ramp_up
from lavis_clone.common.registry import registry
from lavis_clone.common.schedules import (
    constant_lr,
    linear_warmup_cosine_lr,
    linear_warmup_step_lr,
)
from lavis_clone.common.schema import RunConfig


def run(**keys: Any) -> RunConfig:
    fixed = {"task": "captioning", "batch_size_train": 1, "batch_size_eval": 1, "num_workers": 0}
    return RunConfig(**{**fixed, "init_lr": 1.0, "max_epoch": 4, **keys})


def at(epoch: int, step: int = 0) -> Progress:
    return Progress(step=epoch * 10 + step, steps_per_epoch=10, total_steps=40)


def test_warm_up_rises_in_the_first_epoch_and_stops_at_the_peak() -> None:
    config = run(warmup_lr=0.2, warmup_steps=4)
    for schedule in (linear_warmup_cosine_lr, linear_warmup_step_lr):
        rates = [schedule(at(0, step), config) for step in range(6)]
        assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_without_warm_up_the_first_epoch_is_at_the_peak() -> None:
    assert [linear_warmup_cosine_lr(at(0, step), run()) for step in (0, 9)] == [1.0, 1.0]
    assert linear_warmup_cosine_lr(at(0), run(warmup_lr=0.5)) == 0.5
    assert linear_warmup_cosine_lr(at(0, 1), run(warmup_lr=0.5)) == 1.0


def test_the_cosine_falls_from_epoch_to_epoch() -> None:
    config = run(min_lr=0.1, warmup_steps=30)
    assert linear_warmup_cosine_lr(at(2), config) == pytest.approx(0.55)
    assert linear_warmup_cosine_lr(at(2, 9), config) == pytest.approx(0.55)
    assert linear_warmup_cosine_lr(at(1), config) == pytest.approx(
        0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))
    )
    assert linear_warmup_cosine_lr(at(4), config) == pytest.approx(0.1)


def test_steps_decay_down_to_the_floor() -> None:
    config = run(lr_decay_rate=0.5, min_lr=0.2)
    rates = [linear_warmup_step_lr(at(epoch), config) for epoch in range(4)]
    assert rates == [1.0, 0.5, 0.25, 0.2]
    with pytest.raises(ValueError, match="lr_decay_rate"):
        linear_warmup_step_lr(at(1), run())


def test_by_step_the_rate_changes_at_each_step_and_warm_up_may_take_longer() -> None:
    config = run(lr_per="step", warmup_lr=0.0, warmup_steps=20)
    cosine = [linear_warmup_cosine_lr(at(0, step), config) for step in (0, 10, 19, 20, 30, 40)]
    assert cosine == pytest.approx([0.0, 0.5, 0.95, 1.0, 0.5, 0.0])
    config = run(lr_per="step", lr_decay_rate=0.25)
    assert [linear_warmup_step_lr(at(0, step), config) for step in (0, 5, 10)] == [1.0, 0.5, 0.25]
    assert constant_lr(at(3, 3), config) == 1.0


def test_the_constant_schedule_ignores_warm_up() -> None:
    assert constant_lr(at(0), run(warmup_lr=0.1, warmup_steps=5)) == 1.0


def test_schedules_need_a_peak() -> None:
    with pytest.raises(ValueError, match="init_lr"):
        constant_lr(at(0), run(init_lr=None))


def test_the_registry_knows_the_schedules_by_name() -> None:
    assert registry.list_lr_schedulers() == [
        "constant_lr",
        "linear_warmup_cosine_lr",
        "linear_warmup_step_lr",
    ]
    assert registry.get_lr_scheduler_class("constant_lr") is constant_lr


def test_progress_counts_epochs_in_parts_and_in_whole() -> None:
    progress = at(1, 5)
    assert (progress.epoch, progress.whole_epochs, progress.step_in_epoch) == (1.5, 1, 5)
    assert [ramp_up(p, epochs=2) for p in (at(0), at(1), at(1, 5), at(3))] == [0, 0.5, 0.75, 1]
    assert ramp_up(at(0), epochs=0) == 1.0


@pytest.mark.parametrize(("step", "per_epoch"), [(-1, 10), (41, 10), (0, 0)])
def test_progress_that_cannot_be(step: int, per_epoch: int) -> None:
    with pytest.raises(ValueError, match="must"):
        Progress(step=step, steps_per_epoch=per_epoch, total_steps=40)
