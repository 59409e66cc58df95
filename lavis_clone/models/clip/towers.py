"""The towers of any CLIP that open_clip can build, and checkpoints for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import open_clip
from open_clip.convert import convert_state_dict
from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from open_clip.transformer import text_global_pool
from open_clip.utils import to_2tuple
from torch import Tensor, nn

DECODER = "text_decoder"
"""What CoCa has besides two towers, and CLIP has no use for."""
POOLED_AT_END = ("argmax", "eos")
"""Ways to read a text off its end token; what follows it then has no effect in a causal tower."""


def build_towers(architecture: Mapping[str, Any]) -> nn.Module:
    """A model of open_clip with fresh weights.

    Args:
        architecture: ``ClipConfig.architecture()``

    Raises:
        ValueError: open_clip cannot build such a thing.
    """
    given = copy.deepcopy(dict(architecture))
    given["vision_cfg"]["timm_model_pretrained"] = False
    given["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CustomTextCLIP if given.pop("custom_text") else open_clip.CLIP
    try:
        towers: nn.Module = _sized(kind(**given), given["vision_cfg"].get("image_size"))
        return towers
    except (AssertionError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise ValueError(f"open_clip cannot build this architecture: {error}") from error


def _sized(towers: Any, image_size: Any) -> Any:
    """Let a vision tower of timm's take pictures of another size than it was made for."""
    patches = getattr(getattr(towers.visual, "trunk", None), "patch_embed", None)
    made_for: tuple[int, int] | None = getattr(patches, "img_size", None)
    if made_for is not None and image_size and tuple(made_for) != to_2tuple(image_size):
        towers.visual.set_input_size(image_size)
    return towers


def adopt(model: nn.Module, towers: nn.Module) -> None:
    """Make the parts of a model of open_clip parts of ``model``, under the same names.

    The names in published checkpoints are then those of ``model``.
    """
    for name, child in towers.named_children():
        model.add_module(name, child)
    for name, parameter in towers.named_parameters(recurse=False):
        model.register_parameter(name, parameter)
    if getattr(towers, "logit_bias", None) is None:
        model.register_parameter("logit_bias", None)


class CausalReader(nn.Module):
    """Reads texts with the parts that open_clip's CLIP has at its top.

    Texts may be shorter than the tower's limit: what follows the end token has no effect, and work
    for it can be spared.

    Args:
        towers: An ``open_clip.CLIP``.
    """

    attn_mask: Tensor | None

    def __init__(self, towers: Any) -> None:
        super().__init__()
        self.register_buffer("attn_mask", towers.attn_mask, persistent=False)
        self.pool, self.end = towers.text_pool_type, towers.text_eos_id
        self.may_shorten = towers.attn_mask is not None and self.pool in POOLED_AT_END

    def forward(self, model: Any, ids: Tensor) -> Tensor:
        """Ids ``(R, T)`` to ``(R, F)``.

        Args:
            model: What adopted the towers.
        """
        length = ids.shape[1]
        mask = None if self.attn_mask is None else self.attn_mask[:length, :length]
        x = model.token_embedding(ids) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=mask)
        x = text_global_pool(model.ln_final(x), ids, self.pool, eos_token_id=self.end)
        projection = getattr(model, "text_projection", None)
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Module) else x @ projection


def to_own(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Turn a checkpoint of OpenAI, Apple or open_clip, or one of another size, into the model's.

    Args:
        model: What adopted the towers.
    """
    found = convert_state_dict(model, dict(state))
    if hasattr(model, "text"):
        found = convert_to_custom_text_state_dict(found)
    for name in ("logit_scale", "logit_bias"):
        own = getattr(model, name)
        if name in found and own is not None:
            found[name] = found[name].reshape(own.shape)
    resize_pos_embed(found, model)
    if hasattr(model, "positional_embedding") or hasattr(model.text, "positional_embedding"):
        resize_text_pos_embed(found, model)
    return found


def set_checkpointing(model: nn.Module) -> None:
    """Let both towers recompute their activations in the backward pass."""
    for name in ("visual", "text"):
        if hasattr(model, name):
            getattr(model, name).set_grad_checkpointing(True)
    if hasattr(model, "transformer"):
        model.transformer.grad_checkpointing = True  # type: ignore[union-attr]  # open_clip's


def first_of(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The features alone, of towers that give their tokens, too."""
    return output[0] if isinstance(output, tuple) else output
