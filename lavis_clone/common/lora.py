"""Low-rank adaptation by the ``peft`` package: where matrices go, and how they become weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common.training_options import Lora

ADAPTER = "default"
LAYERS = (nn.Linear, nn.Embedding, nn.Conv2d)
"""What can have such matrices."""


def lora_targets(model: nn.Module, lora: Lora) -> list[str]:
    """The names of the layers that ``lora`` speaks of.

    A layer of a momentum copy is one when that of its original is: the copies must be alike.

    Raises:
        ValueError: a pattern fits no layer, or ``also_train`` no weight.
    """
    copied = tuple(getattr(model, "copied", ()))
    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    plain = {name: _original(name, copied) for name in names}
    for pattern in lora.targets:
        if not any(re.fullmatch(pattern, name) for name in plain.values()):
            raise ValueError(
                f"run.lora.targets: no linear layer, embedding or convolution has a name like "
                f"{pattern!r}; there are {', '.join(names[:3])}, ..."
            )
    for prefix in lora.also_train:
        if not any(name.startswith(prefix) for name, _ in model.named_parameters()):
            raise ValueError(f"run.lora.also_train: no weight's name starts with {prefix!r}")
    return [n for n in names if any(re.fullmatch(p, plain[n]) for p in lora.targets)]


def add_lora(model: nn.Module, lora: Lora) -> None:
    """Put the matrices in, and let nothing learn but them and ``lora.also_train``.

    Raises:
        ValueError: see ``lora_targets``.
        ImportError: ``peft`` is not installed.
    """
    peft = _peft()
    targets = lora_targets(model, lora)
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="|".join(map(re.escape, targets)),
    )
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    copies = tuple(f"{name}_m." for name in getattr(model, "copied", ()))
    for name, parameter in model.named_parameters():
        also = name in learns and name.startswith(tuple(lora.also_train))
        is_matrix = ".lora_" in name and not name.startswith(copies)
        parameter.requires_grad_(is_matrix or also)
    state = model.state_dict()
    with torch.no_grad():
        for name in getattr(model, "copied", ()):
            for key in [k for k in state if k.startswith(f"{name}.") and ".lora_" in k]:
                state[f"{name}_m{key.removeprefix(name)}"].copy_(state[key])


def merged_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that ``model`` would have without matrices, their effect in its weights.

    Args:
        state: Of ``model`` itself.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
    }
    merged: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".lora_" in key:
            continue
        owner, _, rest = key.rpartition(".base_layer.")
        name = f"{owner}.{rest}" if owner in layers else key
        merged[name] = value
        if owner in layers and rest == "weight":
            with torch.no_grad():
                merged[name] = value + layers[owner].get_delta_weight(ADAPTER).to(value)
    return merged


def _original(name: str, copied: tuple[str, ...]) -> str:
    """The name of what a momentum copy is a copy of; of other things their own."""
    first, dot, rest = name.partition(".")
    part = first.removesuffix("_m")
    return f"{part}{dot}{rest}" if first != part and part in copied else name


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            "run.lora needs the Python package 'peft': pip install 'lavis_clone[train]'"
        ) from error
    return peft
