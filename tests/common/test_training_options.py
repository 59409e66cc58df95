"""What ``run:`` may say about training, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from lavis_clone.common.reading import ConfigError
from lavis_clone.common.schema import read_run
from lavis_clone.common.training_options import EarlyStop, Lora, interval

RUN: dict[str, Any] = {
    "task": "captioning",
    "batch_size_train": 1,
    "batch_size_eval": 1,
    "num_workers": 0,
    "lr_sched": "constant_lr",
    "init_lr": 1e-5,
    "max_epoch": 1,
    "train_splits": ["train"],
    "valid_splits": ["val"],
}


def problems(**keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as told:
        read_run({**RUN, **keys})
    return str(told.value).splitlines()


def test_blocks_within_the_block_are_read() -> None:
    run = read_run({**RUN, "early_stop": {"patience": 5}, "lora": {"targets": ["a.*"]}})
    assert run.early_stop == EarlyStop(patience=5)
    assert run.lora == Lora(targets=["a.*"])


@pytest.mark.parametrize(
    ("told", "meant"),
    [("off", "off"), (False, "off"), (True, "model"), ("model", "model"), ("step", "step")],
)
def test_yaml_reads_off_as_false(told: Any, meant: str) -> None:
    assert read_run({**RUN, "compile": told}).compile == meant


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, (None, None)),
        (500, (500, None)),
        ("500", (500, None)),
        ("10m", (None, 600.0)),
        ("1 minute", (None, 60.0)),
        ("0.5 min", (None, 30.0)),
    ],
)
def test_steps_and_minutes(text: Any, found: tuple[Any, Any]) -> None:
    assert interval(text) == found
    assert read_run({**RUN, "save_every": text}).save_interval == found


@pytest.mark.parametrize("text", ["0", "0m", "often", "-5", "m"])
def test_what_is_no_interval(text: str) -> None:
    assert problems(save_every=text) == [
        f"run: save_every must be steps (500) or minutes (10m), got {text!r}"
    ]


def test_two_words_for_a_place_to_go_on_from() -> None:
    assert read_run({**RUN, "resume_ckpt_path": "x"}).resume_from == "x"
    assert read_run({**RUN, "resume": "auto"}).resume_from == "auto"
    assert problems(resume="a", resume_ckpt_path="b") == [
        "run: resume, resume_ckpt_path: are two words for one thing; give one"
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"ema": 1.0}, "run: ema (1.0) must lie in (0, 1)"),
        ({"grad_clip": 0.0}, "run: grad_clip (0.0) must be more than 0"),
        ({"optimizer": "sgd", "momentum": 1.0}, "run: momentum (1.0) must lie in [0, 1)"),
        ({"momentum": 0.5}, "run: momentum: optimizer 'adamw' has none"),
        ({"keep_last": 0}, "run: keep_last (0) must be at least 1"),
        ({"early_stop": {"patience": 0}}, "run.early_stop: patience (0) must be at least 1"),
        ({"early_stop": {"min_delta": -1}}, "run.early_stop: min_delta (-1.0) must be at least 0"),
        ({"lora": {"targets": []}}, "run.lora: targets must name at least one pattern"),
        ({"lora": {"targets": ["a"], "rank": 0}}, "run.lora: rank (0) must be at least 1"),
        ({"lora": {"targets": ["a"], "alpha": 0}}, "run.lora: alpha (0.0) must be more than 0"),
        ({"lora": {"targets": ["a"], "dropout": 1}}, "run.lora: dropout (1.0) must lie in [0, 1)"),
        (
            {"lora": {"targets": ["("]}},
            "run.lora: targets: '(' is no regular expression: missing ), unterminated subpattern "
            "at position 0",
        ),
    ],
)
def test_what_is_out_of_range(keys: dict[str, Any], told: str) -> None:
    assert problems(**keys) == [told]


def test_what_needs_validation() -> None:
    assert problems(valid_splits=[], early_stop={}, val_every=5) == [
        "run: early_stop: nothing is validated; name a split in valid_splits",
        "run: val_every: nothing is validated; name a split in valid_splits",
    ]
    keys = {"valid_splits": [], "early_stop": {}, "evaluate": True, "test_splits": ["test"]}
    read_run({**RUN, **keys})  # evaluate.py of a recipe that trains
