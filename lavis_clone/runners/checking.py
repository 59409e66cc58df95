"""What a runner refuses, told before any work."""

from __future__ import annotations

import importlib.util

from lavis_clone.common.reading import ConfigError
from lavis_clone.common.schema import RunConfig

TRAIN = "train"
"""The one split that data sets make for training."""
DECIDING = "val"
"""The split whose score decides what is best; without it the first of ``run.valid_splits``."""


def check_run(run: RunConfig, *, by_steps: bool) -> None:
    """
    Args:
        by_steps: Whether the runner counts optimizer steps (``runner_iter``) or epochs.

    Raises:
        ConfigError: with a line for each thing that the runner does not do.
    """
    told = [*_of_segments(run, by_steps), *_of_splits(run), *_of_packages(run)]
    if problems := [f"run.{line}" for line, holds in told if holds]:
        raise ConfigError.of(problems)


def _of_segments(run: RunConfig, by_steps: bool) -> list[tuple[str, bool]]:
    if by_steps:
        return [
            (
                "max_epoch: belongs to runner_base; runner_iter counts steps, run.max_iters",
                run.max_epoch is not None,
            ),
        ]
    return [
        (
            "train_dataset_ratios: belongs to runner_iter; runner_base goes through all data "
            "sets once in an epoch",
            run.train_dataset_ratios is not None,
        ),
        (
            "max_iters, iters_per_inner_epoch: belong to runner_iter; runner_base counts "
            "epochs, run.max_epoch",
            run.max_iters is not None or run.iters_per_inner_epoch is not None,
        ),
    ]


def _of_splits(run: RunConfig) -> list[tuple[str, bool]]:
    evaluated = [*run.valid_splits, *run.test_splits]
    return [
        (
            f"train_splits: must be [{TRAIN}], the only split that data sets make for "
            f"training, got {run.train_splits}",
            run.train_splits not in ([], [TRAIN]),
        ),
        (
            "train_splits: names no split to train on; run.evaluate=True trains nothing",
            not run.train_splits and not run.evaluate,
        ),
        (
            f"valid_splits, test_splits: cannot hold {TRAIN!r}, which is made for training",
            TRAIN in evaluated,
        ),
        (
            "test_splits: names no split to evaluate, and neither does valid_splits",
            run.evaluate and not evaluated,
        ),
    ]


def _of_packages(run: RunConfig) -> list[tuple[str, bool]]:
    if run.evaluate:
        return []
    needed = [(f"loggers: {name}", str(name), "log") for name in run.loggers]
    needed += [("lora", "peft", "train")] if run.lora is not None else []
    return [
        (
            f"{key} needs the Python package {package!r}: pip install 'lavis_clone[{extra}]'",
            importlib.util.find_spec(package) is None,
        )
        for key, package, extra in needed
    ]
