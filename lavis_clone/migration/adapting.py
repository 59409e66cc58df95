"""Turns configs of ours into LAVIS's, and methods that were written for LAVIS into ours."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig

from lavis_clone.common.progress import Progress
from lavis_clone.common.reading import plain
from lavis_clone.common.schema import RunConfig


def as_omegaconf(block: Any) -> DictConfig:
    """A block whose keys are read as attributes, too; {} for None."""
    if isinstance(block, DictConfig):
        return block
    return DictConfig({} if block is None else plain(dict(block)))


def run_block(run: RunConfig) -> DictConfig:
    """The ``run:`` block as LAVIS has it: flat, with the task's keys in it."""
    own = {f.name: getattr(run, f.name) for f in dataclasses.fields(run)}
    options = own.pop("task_options")
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        own |= dataclasses.asdict(options)
    told = {key: value for key, value in own.items() if not dataclasses.is_dataclass(value)}
    told["output_dir"] = str(run.output_dir)
    return DictConfig(told, flags={"allow_objects": True})


def takes_configs(cls: type) -> None:
    """Let ``from_config`` of a class read its block as LAVIS's does: ``cfg.key``, ``cfg.get``."""
    found = vars(cls).get("from_config")
    if not isinstance(found, classmethod):
        return
    original: Callable[..., Any] = found.__func__

    @functools.wraps(original)
    def from_config(own: type, cfg: Any = None, **options: Any) -> Any:
        return original(own, cfg if cfg is None else as_omegaconf(cfg), **options)

    setattr(cls, "from_config", classmethod(from_config))  # noqa: B010  # its type is another


def takes_progress(function: Callable[..., Any]) -> bool:
    """Whether a function can be told how far training is."""
    return "progress" in inspect.signature(function).parameters


def with_progress(samples: Mapping[str, Any], progress: Progress | None) -> dict[str, Any]:
    """A batch that says how far training is, as LAVIS's runner writes it there."""
    if progress is None:
        return dict(samples)
    return {
        **samples,
        "epoch": progress.whole_epochs,
        "num_iters_per_epoch": progress.steps_per_epoch,
        "iters": progress.step_in_epoch,
    }
