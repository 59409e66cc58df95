from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lavis_clone.common import schema
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import Registry
from lavis_clone.common.schema import RunConfig, read_run
from lavis_clone.common.task_options import TASK_OPTIONS, CaptioningOptions, VqaOptions

EVAL = {
    "task": "captioning",
    "batch_size_train": 4,
    "batch_size_eval": 8,
    "num_workers": 0,
    "evaluate": True,
    "test_splits": ["test"],
}
TRAIN = {
    **EVAL,
    "evaluate": False,
    "train_splits": ["train"],
    "lr_sched": "linear_warmup_cosine_lr",
    "init_lr": "1e-5",
    "max_epoch": 5,
}


def problems_of(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_run(raw)
    return str(caught.value).splitlines()


def test_the_keys_of_run_and_task_are_parted() -> None:
    run = read_run({**TRAIN, "max_len": 30, "num_beams": 5, "report_metric": False})
    assert run.init_lr == 1e-5
    assert run.task_options == CaptioningOptions(max_len=30, num_beams=5, report_metric=False)


def test_defaults_are_those_of_v1_0_2() -> None:
    run = read_run(EVAL)
    assert (run.weight_decay, run.beta2, run.warmup_lr, run.warmup_steps) == (0.05, 0.999, -1, 0)
    assert (run.accum_grad_iters, run.log_freq, run.seed) == (1, 50, 42)
    assert (run.use_dist_eval_sampler, run.runner, run.precision) == (True, "runner_base", "fp32")
    assert read_run({**EVAL, "task": "vqa"}).task_options == VqaOptions(
        num_beams=3, max_len=10, min_len=1, inference_method="rank", num_ans_candidates=128
    )


def test_the_distributed_keys_of_a_lavis_file_are_accepted() -> None:
    keys = {"device": "cuda", "world_size": 1, "dist_url": "env://", "distributed": True}
    run = read_run({**EVAL, **keys, "seed": 7, "output_dir": "output/BLIP"})
    assert run.device == "cuda" and run.output_dir == Path("output/BLIP")


def test_unknown_keys_are_matched_with_both_parts_and_other_tasks() -> None:
    assert problems_of({**EVAL, "num_beam": 3, "max_epocs": 1, "k_test": 2}) == [
        "run.num_beam: unknown key; did you mean 'num_beams'?",
        "run.max_epocs: unknown key; did you mean 'max_epoch'?",
        "run.k_test: task 'captioning' has no such key (it belongs to retrieval)",
    ]


def test_problems_of_both_parts_are_told_together() -> None:
    assert problems_of({**EVAL, "min_len": 9, "max_len": 3, "num_workers": -1, "beta2": 1}) == [
        "run: min_len (9) must not be more than max_len (3)",
        "run: num_workers (-1) must be at least 0",
        "run: beta2 (1.0) must lie in [0, 1)",
    ]


def test_training_needs_more_than_evaluation() -> None:
    bare = {**EVAL, "evaluate": False, "train_splits": ["train"]}
    assert problems_of(bare) == [
        "run: lr_sched is required for training",
        "run: init_lr is required for training",
        "run: max_epoch is required for training",
    ]
    by_step = {**TRAIN, "max_epoch": None, "runner": "runner_iter", "max_iters": "2e4"}
    assert problems_of(by_step) == ["run: iters_per_inner_epoch is required for training"]
    assert read_run({**by_step, "iters_per_inner_epoch": "2e3"}).num_epochs == 10
    assert problems_of({**TRAIN, "lr_sched": "linear_warmup_step_lr"}) == [
        "run: lr_decay_rate is required for training"
    ]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "fp32"),
        ({"amp": False}, "fp32"),
        ({"amp": True}, "fp16"),
        ({"amp": False, "precision": "bf16"}, "bf16"),
        ({"amp": True, "precision": "bf16"}, "bf16"),
    ],
)
def test_amp_is_a_word_for_a_precision(keys: dict[str, Any], expected: str) -> None:
    assert read_run({**EVAL, **keys}).precision == expected


def test_amp_that_contradicts_the_precision() -> None:
    assert problems_of({**EVAL, "amp": True, "precision": "fp32"}) == [
        "run.amp: true contradicts precision 'fp32'"
    ]


def test_unknown_devices_and_rates_out_of_range() -> None:
    keys = {"device": "gpu", "min_lr": 1.0, "warmup_lr": -2, "lr_scale": {"vit": -1}}
    assert problems_of({**TRAIN, **keys}) == [
        "run: device must be auto, cpu, cuda, cuda:<n> or mps, got 'gpu'",
        "run: lr_scale.vit (-1.0) must be at least 0",
        "run: warmup_lr (-2.0) must be at least 0, or -1 for init_lr",
        "run: min_lr (1.0) must not be more than init_lr (1e-05)",
    ]


def test_a_task_outside_the_library_brings_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: Registry[Any] = Registry("task")
    monkeypatch.setattr(schema.registry, "tasks", tasks)

    @tasks.register("grounding")
    class Grounding:
        @dataclass(frozen=True)
        class Options:
            threshold: float = 0.5

    run = read_run({**EVAL, "task": "grounding", "threshold": 0.25})
    assert run.task_options == Grounding.Options(0.25)
    assert problems_of({**EVAL, "task": "grounding", "treshold": 1}) == [
        "run.treshold: unknown key; did you mean 'threshold'?"
    ]
    assert problems_of({**EVAL, "task": "groundin"})[0].startswith(
        "run.task: unknown task 'groundin'; did you mean 'grounding'?"
    )


def test_a_missing_task_and_an_empty_block() -> None:
    assert "run.task: required, but not given" in problems_of({})


@pytest.mark.parametrize("task", sorted(TASK_OPTIONS))
def test_every_task_of_v1_0_2_has_options_with_defaults(task: str) -> None:
    run = RunConfig(task=task, batch_size_train=1, batch_size_eval=1, num_workers=0)
    assert run.task_options == TASK_OPTIONS[task]()
