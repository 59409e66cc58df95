"""Turns checkpoints of other sizes and other projects into ours, before they are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resize_position_embeddings(
    state: Mapping[str, Tensor], model: nn.Module, names: tuple[str, ...]
) -> dict[str, Tensor]:
    """Fit the position embeddings of a Vision Transformer to the model's image size.

    Args:
        state: A checkpoint.
        names: The entries to look at, e.g. ``("visual_encoder.pos_embed",)``; those that either
            side lacks, that fit already, or that are no square grid of the model's width, are left
            alone.
    """
    own = model.state_dict()
    resized = dict(state)
    for name in names:
        if name in state and name in own and state[name].shape != own[name].shape:
            num_patches, length = _num_patches(model, name), own[name].shape[1]
            if _is_square_grid(state[name], own[name], num_extra=length - num_patches):
                resized[name] = resize_grid(state[name], length, num_patches)
    return resized


def _is_square_grid(positions: Tensor, own: Tensor, *, num_extra: int) -> bool:
    if positions.ndim != 3 or positions.shape[::2] != own.shape[::2]:
        return False
    num_cells = positions.shape[1] - num_extra
    return num_cells > 0 and math.isqrt(num_cells) ** 2 == num_cells


def _num_patches(model: nn.Module, name: str) -> int:
    return model.get_submodule(name.rpartition(".")[0]).patch_embed.num_patches  # type: ignore[union-attr,return-value]  # timm's API


def resize_grid(positions: Tensor, length: int, num_patches: int) -> Tensor:
    """Interpolate a square grid of position embeddings, bicubically; extra tokens are kept.

    Args:
        positions: ``(1, X + n * n, E)`` with X extra tokens in front.
        length: X + m * m, the length that is wanted.
        num_patches: m * m.

    Returns:
        ``(1, length, E)``
    """
    num_extra = length - num_patches
    extra, grid = positions[:, :num_extra], positions[:, num_extra:]
    old, new = math.isqrt(grid.shape[1]), math.isqrt(num_patches)
    square = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)  # (1, E, n, n)
    square = F.interpolate(square.float(), (new, new), mode="bicubic", align_corners=False)
    grid = square.flatten(2).transpose(1, 2).to(positions.dtype)  # (1, m * m, E)
    return torch.cat([extra, grid], dim=1)


_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
}
_SQUEEZE_AND_EXCITE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE_AND_EXCITE,
}
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **_SQUEEZE_AND_EXCITE,
}


def efficientnet_to_timm(state: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Rename an EfficientNet of the ``efficientnet_pytorch`` packages to timm's names.

    There the blocks are numbered through; in timm they stand in stages. The classifier is left
    out, and a name of neither is kept as it is.

    Args:
        state: Names such as ``_blocks.3._project_conv.weight``.
        backbone: timm's model of the same architecture, whose stages give the numbers.
    """
    stages: list[nn.Module] = list(backbone.blocks)  # type: ignore[arg-type]  # timm's API
    places = [f"blocks.{i}.{j}" for i, stage in enumerate(stages) for j in range(len(stage))]  # type: ignore[arg-type]  # sequential
    renamed = {}
    for name, value in state.items():
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
        if block and int(block[1]) < len(places):
            number, layer, rest = int(block[1]), block[2], block[3]
            expanded = f"_blocks.{number}._expand_conv.weight" in state
            table = _EXPANDED if expanded else _SEPARABLE
            renamed[f"{places[number]}.{table.get(layer, layer)}.{rest}"] = value
        elif not name.startswith("_fc."):
            layer, _, rest = name.partition(".")
            renamed[f"{_STEM_AND_HEAD.get(layer, layer)}.{rest}"] = value
    return renamed
