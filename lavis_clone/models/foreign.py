"""Turns checkpoints of other sizes and other projects into ours, before they are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

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
    owner = name.rpartition(".")[0]  # "" is the model itself
    return model.get_submodule(owner).patch_embed.num_patches  # type: ignore[union-attr,return-value]  # timm's API


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


def bert_to_own(
    state: Mapping[str, Tensor], bert: nn.Module, *, tokens: Sequence[str], own: Sequence[str]
) -> dict[str, Tensor]:
    """Turn a published BERT into the weights that a text tower of its width can start from.

    Layers and positions that the tower lacks are left out, and so are the pooler and the heads. The
    type embedding that BERT adds to every token becomes part of the positions, where the tower has
    none of its own. A token is found by its text, so that the two may have other vocabularies.

    Args:
        state: Names such as ``bert.encoder.layer.0...`` or ``encoder.layer.0...``.
        bert: The tower, a ``BertModel``.
        tokens: The vocabulary of ``state``.
        own: The tower's.

    Returns:
        What both have. Cross-attention, and tokens that ``state`` does not know, keep their values.

    Raises:
        ValueError: ``state`` is no BERT, or one of another width.
    """
    names = {re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", n)): n for n in state}
    found = {name.removeprefix("bert."): state[old] for name, old in names.items()}
    current = {name: value.detach() for name, value in bert.state_dict().items()}
    source = found.get("embeddings.word_embeddings.weight")
    width = current["embeddings.word_embeddings.weight"].shape[1]
    if source is None:
        raise ValueError("holds no BERT")
    if source.shape[1] != width:
        raise ValueError(f"holds a BERT of hidden_size {source.shape[1]}, not of {width}")
    if len(source) != len(tokens):
        raise ValueError(f"holds a BERT of {len(source)} tokens, not of {len(tokens)}")
    types = found.get("embeddings.token_type_embeddings.weight")
    if types is not None and "embeddings.token_type_embeddings.weight" not in current:
        positions = found["embeddings.position_embeddings.weight"]
        found["embeddings.position_embeddings.weight"] = positions + types[0]
    places = {token: index for index, token in enumerate(tokens)}
    known = [(i, places[token]) for i, token in enumerate(own) if token in places]
    words = current["embeddings.word_embeddings.weight"].clone()
    rows, sources = (list(part) for part in zip(*known, strict=True))
    words[rows] = source[sources].to(words)
    length = len(current["embeddings.position_embeddings.weight"])
    found["embeddings.word_embeddings.weight"] = words
    found["embeddings.position_embeddings.weight"] = found["embeddings.position_embeddings.weight"][
        :length
    ]
    return {name: value for name, value in found.items() if name in current}


def without_bert_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn an ALBEF pre-training file's text tower into one without a language-modelling head.

    There the encoder stands under ``text_encoder.bert.``, here under ``text_encoder.``.
    """
    return {
        re.sub(r"^(text_encoder(?:_m)?)\.bert\.", r"\1.", name): value
        for name, value in state.items()
    }


def with_twin_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let a BLIP text encoder look at two images: each gets a copy of the cross-attention.

    What cross-attention to one image is called ``self`` and ``output.dense`` is ``self0``,
    ``self1`` and ``output.dense0``, ``output.dense1`` with two; they share the LayerNorm.
    """
    single = re.compile(r"^(text_encoder(?:_m)?\..*\.crossattention\.(?:self|output\.dense))\.")
    twins: dict[str, Tensor] = {}
    for name, value in state.items():
        if single.match(name):
            twins |= {single.sub(rf"\g<1>{image}.", name): value for image in (0, 1)}
        else:
            twins[name] = value
    return twins


def with_doubled_layers(state: Mapping[str, Tensor], *, first: int, num: int) -> dict[str, Tensor]:
    """Let an ALBEF text encoder look at two images: each layer that looks becomes two equal ones.

    A file that has all layers already is left as it is.

    Args:
        first: The first layer that looks at images.
        num: Layers of the text encoder when doubled.
    """
    pattern = re.compile(r"^(text_encoder(?:_m)?\.encoder\.layer\.)(\d+)(\..+)$")
    places = [(name, pattern.match(name)) for name in state]
    if first + num != 2 * (1 + max((int(found[2]) for _, found in places if found), default=0)):
        return dict(state)
    doubled = {}
    for name, found in places:
        index = int(found[2]) if found else -1
        if found is None or index < first:
            doubled[name] = state[name]
            continue
        for second in (0, 1):
            layer = first + 2 * (index - first) + second
            doubled[f"{found[1]}{layer}{found[3]}"] = state[name]
    return doubled


def with_answer_decoder(state: Mapping[str, Tensor], *, first: int) -> dict[str, Tensor]:
    """Make of an ALBEF pre-training file's text tower one that reads questions, and a decoder.

    The tower ``text_encoder.bert.`` becomes ``text_encoder.`` as it is; from ``first`` on its
    layers, with embeddings and head, become ``text_decoder.``, too. The same for momentum copies.

    Args:
        first: The tower's layer that becomes the decoder's layer 0.
    """
    converted = {}
    for name, value in state.items():
        found = re.match(r"text_encoder(_m)?\.(bert|cls)\.(.+)$", name)
        if found is None:
            converted[name] = value
            continue
        copy, part, rest = found[1] or "", found[2], found[3]
        if part == "bert":
            converted[f"text_encoder{copy}.{rest}"] = value
        layer = re.match(r"encoder\.layer\.(\d+)(\..+)$", rest)
        if layer is not None:
            rest = f"encoder.layer.{int(layer[1]) - first}{layer[2]}"
        if layer is None or int(layer[1]) >= first:
            converted[f"text_decoder{copy}.{part}.{rest}"] = value
    return converted


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
