"""How a model is spread over processes."""

from __future__ import annotations

from typing import Any

import pytest

from lavis_clone.runners.strategy import Strategy
from tests.common.processes import run_distributed
from tests.runners.toys import run_config

SCRIPTS = "tests.runners.dist_scripts"


@pytest.mark.slow
def test_two_processes() -> None:
    run_distributed(
        SCRIPTS,
        "statistics",
        "meshes",
        "replicas_are_accumulation",
        "momentum_and_queue",
        "gradients_are_collected_and_clipped",
        "what_is_kept_fits_another_strategy",
        "uneven_evaluation",
        "shards_are_replicas",
    )


@pytest.mark.parametrize(
    ("changes", "world_size", "told"),
    [
        ({"strategy": "none"}, 2, "strategy: none trains in one process, but there are 2"),
        ({"strategy": "fsdp", "precision": "fp16"}, 2, "precision: fp16 scales losses"),
        ({"strategy": "fsdp_hybrid", "optimizer": "muon"}, 4, "optimizer: muon looks at whole"),
        ({"strategy": "fsdp", "lora": {"targets": ["x"]}}, 2, "lora: is for strategy ddp"),
    ],
)
def test_what_cannot_be_done_is_told(changes: Any, world_size: int, told: str) -> None:
    run = run_config(**changes)
    (problem,) = Strategy.problems(run, world_size)
    assert problem.startswith(told)
    assert Strategy.problems(run, 1) == []
    assert Strategy.problems(run_config(**changes, evaluate=True), world_size) == []


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_what_can_be_done_is_not(strategy: str) -> None:
    run = run_config(strategy=strategy, precision="bf16", optimizer="sgd", ema=0.9)
    assert Strategy.problems(run, 8) == []
