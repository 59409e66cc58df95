"""Public pre-trained files as what they hold, without their weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from tests.models.test_checkpoints import expected


def public_file(name: str, model_type: str) -> dict[str, Tensor]:
    """The entries of a checkpoint, as tensors without memory."""
    entries = {}
    for key, (dtype, *shape) in expected(name, model_type).items():
        sizes = [size for size in shape if not isinstance(size, str)]
        entries[key] = torch.empty(sizes, dtype=getattr(torch, dtype), device="meta")
    return entries


def assert_is_a_start(model: Any, file: dict[str, Tensor]) -> set[str]:
    """All that the file holds is used or known to be of no use; all that it lacks may stay.

    Returns:
        The names that stay at their initialisation.
    """
    found, own = model.convert(file, pretrained=True), model.state_dict()
    ignored = (*model.MAY_BE_IGNORED, *model.PRETRAINED_MAY_BE_IGNORED)
    may_stay = (*model.MAY_STAY, *model.PRETRAINED_MAY_STAY)
    left_over = [name for name in found.keys() - own.keys() if not _matches(name, ignored)]
    missing = own.keys() - found.keys()
    assert not left_over
    assert not [name for name in missing if not _matches(name, may_stay)]
    for name in found.keys() & own.keys():
        assert found[name].shape == own[name].shape, name
    return missing


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)
