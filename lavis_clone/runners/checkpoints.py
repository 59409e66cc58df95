"""Checkpoints of a run, in LAVIS's format, written whole or not at all.

A file holds ``model`` (state dict), ``optimizer``, ``config`` (a plain dict), ``scaler`` (None
unless fp16) and ``epoch``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lavis_clone.common.files import atomic_path

BEST = "checkpoint_best.pth"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    *,
    epoch: int,
    optimizer: torch.optim.Optimizer | None = None,
    scaler: torch.amp.GradScaler | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint under a temporary name and rename it."""
    content = {
        "model": model.state_dict(),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "config": dict(config or {}),
        "scaler": scaler.state_dict() if scaler is not None and scaler.is_enabled() else None,
        "epoch": epoch,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return path


def load_model_state(path: Path, model: nn.Module) -> int:
    """Put a checkpoint's weights into ``model``, strictly, and return its epoch."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(content["model"])
    return int(content["epoch"])
