"""What ``run:`` may say about training beyond LAVIS: its smaller blocks, and their rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

OptimizerName = Literal["adamw", "sgd", "adafactor", "muon"]
LoggerName = Literal["tensorboard", "wandb"]
Compile = Literal["off", "model", "step"]

MINUTES = re.compile(r"(\d+(?:\.\d+)?) ?(?:m|min|minutes?)")


@dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """When validation counts as having come to an end."""

    patience: int = 3
    """Validations in a row without anything better."""
    min_delta: float = 0.0
    """By how much a score must be better to count."""

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience ({self.patience}) must be at least 1")
        if self.min_delta < 0:
            raise ValueError(f"min_delta ({self.min_delta}) must be at least 0")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank matrices that learn in place of weights (Hu et al., arxiv.org/abs/2106.09685)."""

    targets: list[str]
    """Regular expressions; the linear layers, embeddings and convolutions whose whole names one of
    them matches get such matrices, e.g. ``text_decoder.*(query|value)``."""
    rank: int = 8
    alpha: float = 16.0
    """The matrices' product is scaled by ``alpha / rank``."""
    dropout: float = 0.0
    """Share of a layer's input that its matrices do not see, in training."""
    also_train: list[str] = field(default_factory=list)
    """The weights whose names start so learn as well, e.g. a head."""

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets must name at least one pattern")
        for pattern in self.targets:
            try:
                re.compile(pattern)
            except re.error as error:
                told = f"targets: {pattern!r} is no regular expression: {error}"
                raise ValueError(told) from error
        if self.rank < 1:
            raise ValueError(f"rank ({self.rank}) must be at least 1")
        if self.alpha <= 0:
            raise ValueError(f"alpha ({self.alpha}) must be more than 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must lie in [0, 1)")


def interval(text: int | str | None) -> tuple[int | None, float | None]:
    """Steps and seconds of ``run.save_every``.

    >>> interval(500), interval("10m"), interval("1.5 minutes"), interval("200"), interval(None)
    ((500, None), (None, 600.0), (None, 90.0), (200, None), (None, None))

    Raises:
        ValueError: it is neither a number of steps nor one of minutes, or not positive.
    """
    if text is None:
        return None, None
    found = MINUTES.fullmatch(str(text))
    if found and float(found[1]) > 0:
        return None, 60 * float(found[1])
    if str(text).isdigit() and int(text) > 0:
        return int(text), None
    raise ValueError(f"save_every must be steps (500) or minutes (10m), got {text!r}")


def broken_training(run: Any) -> list[str]:
    """A line for each rule that the fields of a ``RunConfig`` about training break."""
    is_trained = bool(run.train_splits) and not run.evaluate
    told = [
        (f"ema ({run.ema}) must lie in (0, 1)", run.ema is not None and not 0 < run.ema < 1),
        (
            f"grad_clip ({run.grad_clip}) must be more than 0",
            run.grad_clip is not None and run.grad_clip <= 0,
        ),
        (
            f"momentum ({run.momentum}) must lie in [0, 1)",
            run.momentum is not None and not 0 <= run.momentum < 1,
        ),
        (
            f"momentum: optimizer {run.optimizer!r} has none",
            run.momentum is not None and run.optimizer not in ("sgd", "muon"),
        ),
        (
            "early_stop: nothing is validated; name a split in valid_splits",
            run.early_stop is not None and is_trained and not run.valid_splits,
        ),
        (
            "val_every: nothing is validated; name a split in valid_splits",
            run.val_every is not None and is_trained and not run.valid_splits,
        ),
        (
            "resume, resume_ckpt_path: are two words for one thing; give one",
            run.resume is not None and run.resume_ckpt_path is not None,
        ),
    ]
    problems = [line for line, holds in told if holds]
    try:
        interval(run.save_every)
    except ValueError as error:
        problems.append(str(error))
    return problems
