"""Which weights learn how fast, and which decay."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common import dist
from lavis_clone.common.muon import MuonWithAdamW
from lavis_clone.common.names import suggest
from lavis_clone.common.schema import RunConfig

BETA1 = 0.9
SGD_MOMENTUM, MUON_MOMENTUM = 0.9, 0.95
FUSED_DEVICES = {"cuda", "cpu", "mps", "xpu"}
LAYER = re.compile(r"^(?P<stack>(?:.+\.)?(?:resblocks|blocks|layers|layer))\.(?P<index>\d+)\.")
BELOW_LAYERS = re.compile(
    r"(^|\.)(\w*embeddings?|\w*_embed|cls_token|patch_embed|conv1|ln_pre|norm_pre)(\.|$)"
)


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    lr_layer_decay: float = 1.0,
    lr_scale: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Part the trainable weights into groups for an optimizer.

    Weight decay leaves out weights of fewer than two axes, biases, and whatever belongs to a
    normalisation. LAVIS left out every name with ``bias``, ``ln`` or ``bn`` in it: the same groups
    for all its models, but not for a module that happens to be called ``vlnet``.

    Args:
        lr_layer_decay: Factor on the learning rate of a layer for each one above it; the
            embeddings lie below the first, and everything else above the last. A stack of layers
            is recognised by names such as ``blocks.3.``.
        lr_scale: Factors for the weights whose names start so; the longest prefix counts.

    Returns:
        Groups with ``params``, ``weight_decay`` and ``lr_scale``, which ``set_lr`` respects.

    Raises:
        ValueError: nothing is trainable, or a prefix of ``lr_scale`` fits no weight.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise ValueError(f"{type(model).__name__} has no trainable weights")
    factors = _prefix_factors(list(named), lr_scale or {})
    depths = _depths(list(named), lr_layer_decay)
    of_norms = _ids_in_norms(model)
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in named.items():
        is_free = parameter.ndim < 2 or name.endswith("bias") or id(parameter) in of_norms
        decay, scale = 0.0 if is_free else weight_decay, factors[name] * depths[name]
        empty = {"params": [], "weight_decay": decay, "lr_scale": scale}
        is_scalar = not parameter.ndim  # FSDP leaves these whole, and no kernel takes both kinds
        groups.setdefault((decay, scale, is_scalar), empty)["params"].append(parameter)
    return list(groups.values())


def freeze(model: nn.Module, prefixes: Sequence[str]) -> list[nn.Module]:
    """Let the weights whose names start so learn nothing.

    Returns:
        The modules whose names start so. They belong into evaluation mode during training as well,
        or batch norm would go on collecting, and dropout disturb what cannot answer to it.

    Raises:
        ValueError: a prefix fits no weight.
    """
    for prefix in prefixes:
        found = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        if not found:
            known = {name.partition(".")[0] for name, _ in model.named_parameters()}
            raise ValueError(
                f"run.freeze: no weight's name starts with {prefix!r}{suggest(prefix, known)}"
            )
        for parameter in found:
            parameter.requires_grad_(False)
    return [m for name, m in model.named_modules() if name.startswith(tuple(prefixes))]


def build_optimizer(model: nn.Module, run: RunConfig) -> torch.optim.Optimizer:
    """The optimizer that ``run`` asks for, fused where torch can.

    Raises:
        ValueError: ``run.init_lr`` is not given, or see ``parameter_groups``.
    """
    if run.init_lr is None:
        raise ValueError("run.init_lr is required for training")
    groups = parameter_groups(
        model,
        weight_decay=run.weight_decay,
        lr_layer_decay=run.lr_layer_decay,
        lr_scale=run.lr_scale,
    )
    optimizer = _OPTIMIZERS[run.optimizer](model, groups, run)
    set_lr(optimizer, run.init_lr)
    return optimizer


def _adamw(_model: nn.Module, groups: list[dict[str, Any]], run: RunConfig) -> torch.optim.AdamW:
    betas, lr = (BETA1, run.beta2), run.init_lr or 0.0
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=_can_fuse(groups))


def _sgd(_model: nn.Module, groups: list[dict[str, Any]], run: RunConfig) -> torch.optim.SGD:
    momentum = SGD_MOMENTUM if run.momentum is None else run.momentum
    lr = run.init_lr or 0.0
    is_spread = any(dist.local(p) is not p for group in groups for p in group["params"])
    fused = None if is_spread else _can_fuse(groups)  # torch has no fused SGD for FSDP
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=fused)


def _adafactor(
    _model: nn.Module, groups: list[dict[str, Any]], run: RunConfig
) -> torch.optim.Adafactor:
    return torch.optim.Adafactor(groups, lr=run.init_lr or 0.0)


def _muon(model: nn.Module, groups: list[dict[str, Any]], run: RunConfig) -> MuonWithAdamW:
    momentum = MUON_MOMENTUM if run.momentum is None else run.momentum
    looked_up = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for p in module.parameters(recurse=False)
    }
    parted = []
    for group in groups:
        for is_matrix in (True, False):
            params = [
                p
                for p in group["params"]
                if (p.ndim == 2 and min(p.shape) > 1 and id(p) not in looked_up) == is_matrix
            ]
            if params:
                parted.append({**group, "params": params, "is_matrix": is_matrix})
    return MuonWithAdamW(parted, lr=run.init_lr or 0.0, momentum=momentum, betas=(BETA1, run.beta2))


_OPTIMIZERS: dict[str, Callable[[nn.Module, list[dict[str, Any]], RunConfig], Any]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "adafactor": _adafactor,
    "muon": _muon,
}


def _can_fuse(groups: list[dict[str, Any]]) -> bool | None:
    """True when all weights lie where torch has a fused kernel; None leaves it to torch."""
    weights = [p for group in groups for p in group["params"]]
    can = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in weights)
    return True if can else None


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group ``lr`` times its own ``lr_scale``; a rate that is a tensor stays one."""
    for group in optimizer.param_groups:
        own = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def _ids_in_norms(model: nn.Module) -> set[int]:
    norms = [m for m in model.modules() if "Norm" in type(m).__name__]
    return {id(p) for norm in norms for p in norm.parameters(recurse=False)}


def _prefix_factors(names: list[str], lr_scale: Mapping[str, float]) -> dict[str, float]:
    for prefix in lr_scale:
        if not any(name.startswith(prefix) for name in names):
            known = {name.partition(".")[0] for name in names}
            raise ValueError(
                f"run.lr_scale: no trainable weight's name starts with {prefix!r}"
                f"{suggest(prefix, known)}"
            )
    longest_first = sorted(lr_scale, key=len, reverse=True)
    matches = {name: [p for p in longest_first if name.startswith(p)] for name in names}
    return {name: lr_scale[found[0]] if found else 1.0 for name, found in matches.items()}


def _depths(names: list[str], decay: float) -> dict[str, float]:
    """The factor of each weight by how far it lies below the top of its stack."""
    if decay == 1.0:
        return dict.fromkeys(names, 1.0)
    stacks: dict[str, int] = {}
    for name in names:
        if match := LAYER.match(name):
            num_layers = max(stacks.get(match["stack"], 0), int(match["index"]) + 1)
            stacks[match["stack"]] = num_layers
    return {name: decay ** _layers_above(name, stacks) for name in names}


def _layers_above(name: str, stacks: Mapping[str, int]) -> int:
    if match := LAYER.match(name):
        return stacks[match["stack"]] - int(match["index"])
    if not BELOW_LAYERS.search(name) or not stacks:
        return 0
    nearest = max(stacks, key=lambda stack: _num_shared(stack, name))
    return stacks[nearest] + 1 if _num_shared(nearest, name) or "." not in nearest else 0


def _num_shared(one: str, other: str) -> int:
    """How many parts two dotted names have in common at their start."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
