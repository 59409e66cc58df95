"""Rebuilds the weights and inputs of a reference case from its JSON file.

Every number is drawn from numpy's frozen RandomState, seeded by a checksum of the case's
salt and the entry's name, so the file holds names and shapes instead of weights.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def draw(salt: str, name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 numbers of ``shape`` that depend on ``salt`` and ``name`` alone."""
    random = np.random.RandomState(zlib.crc32(f"{salt}:{name}".encode()))
    return torch.from_numpy(random.standard_normal(tuple(shape)).astype("float32"))


def state_dict(case: dict[str, Any]) -> dict[str, Tensor]:
    """The case's checkpoint, under the names that the public checkpoints use."""
    state: dict[str, Tensor] = {}
    for name, entry in case["state"].items():
        shape, dtype = entry["shape"], getattr(torch, entry["dtype"])
        if "same_as" in entry:  # two names of one tensor
            state[name] = state[entry["same_as"]]
        elif entry.get("value") == "arange":
            state[name] = torch.arange(int(np.prod(shape))).reshape(shape).to(dtype)
        elif "value" in entry:
            state[name] = torch.tensor(entry["value"]).reshape(shape).to(dtype)
        elif entry.get("columns_normalised"):
            state[name] = torch.nn.functional.normalize(draw(case["salt"], name, shape), dim=0)
        elif entry.get("one_plus_0.2_abs"):
            state[name] = 1 + 0.2 * draw(case["salt"], name, shape).abs()
        else:
            state[name] = entry["mean"] + entry["std"] * draw(case["salt"], name, shape)
    return state


def samples(case: dict[str, Any], run: str) -> dict[str, Any]:
    """The inputs of one run; images and videos are drawn like the weights."""
    given = case["inputs"][run]["samples"]
    return {
        key: draw(case["salt"], value["draw"], value["shape"])
        if isinstance(value, dict) and "draw" in value
        else value
        for key, value in given.items()
    }


def load(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The case and its expected tensors, named ``<run>.<field>``."""
    from safetensors.torch import load_file

    return json.loads((folder / f"{name}.json").read_text()), load_file(
        folder / f"{name}.safetensors"
    )
