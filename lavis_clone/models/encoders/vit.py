"""The vision tower: timm's Vision Transformer, or any timm backbone, behind one function.

Dosovitskiy et al., https://arxiv.org/abs/2010.11929. timm's parameter names are those of the
BLIP and ALBEF checkpoints.

Shapes: B images, N tokens, E width, H x W pixels or cells of a feature map.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lavis_clone.common.names import suggest
from lavis_clone.models.foreign import efficientnet_to_timm, resize_position_embeddings
from lavis_clone.models.layers.linear import make_linear_quick
from lavis_clone.models.layers.recompute import recompute_last
from lavis_clone.models.weights import load_weights, read_checkpoint


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a Vision Transformer."""

    img_size: int = 224
    """Pixels on each side."""
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-6
    drop_path_rate: float = 0.0
    checkpoint_blocks: int = 0
    """Recompute the activations of this many last blocks in the backward pass, to save memory."""
    checkpoint_offload: bool = False
    """Keep what is recomputed from in the CPU's memory meanwhile; needs fairscale."""
    weights: str | None = None
    """File or URL that the tower starts from."""

    def __post_init__(self) -> None:
        for name in ("img_size", "patch_size", "embed_dim", "depth", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate ({self.drop_path_rate}) must lie in [0, 1)")
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim ({self.embed_dim}) must be a multiple of num_heads ({self.num_heads})"
            )
        if self.fixed_size is not None and self.img_size % self.patch_size:
            raise ValueError(
                f"img_size ({self.img_size}) must be a multiple of patch_size ({self.patch_size})"
            )

    @property
    def fixed_size(self) -> int | None:
        """The only height and width that the tower takes; None for any."""
        return self.img_size


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TransformerConfig):
    """Sizes of the vision tower; a Vision Transformer unless ``timm`` names another backbone."""

    timm: str | None = None
    """Name of a timm backbone, whose feature map becomes the tokens."""
    timm_options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.create_model``, e.g. ``drop_path_rate``."""
    token_dim: int | None = None
    """Width that the backbone's tokens are projected to; None for its own."""
    weights: str | None = None
    """File or URL that the tower starts from: timm's or DeiT's weights, those of a model of this
    library with the same tower, or an EfficientNet of the ``efficientnet_pytorch`` packages."""

    @property
    def fixed_size(self) -> int | None:
        return self.img_size if self.timm is None else None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint_offload and self.timm is not None:
            raise ValueError("checkpoint_offload is for a Vision Transformer, not a timm backbone")
        if self.token_dim is not None and self.timm is None:
            raise ValueError("token_dim is for a timm backbone, and none is named")
        if self.token_dim is not None and self.token_dim < 1:
            raise ValueError(f"token_dim ({self.token_dim}) must be at least 1")


SIZES: Mapping[str, Mapping[str, int | float]] = {
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "drop_path_rate": 0.1},
}
"""LAVIS's ``vit_type``; the drop path of ``large`` is v1.0.2's default and can be overridden."""

ViTType = Literal["base", "large"]


class BackboneTokens(nn.Module):
    """Any timm backbone as a source of tokens: the cells of its last feature map, normalised.

    Args:
        backbone: A timm model without classifier.
        dim: Width that the tokens are projected to; None for the backbone's own.
        summary: Put the mean of the tokens in front of them, where a ViT has [CLS].
    """

    def __init__(
        self, backbone: nn.Module, *, dim: int | None = None, summary: bool = False
    ) -> None:
        super().__init__()
        self.summary = summary
        self.backbone = backbone.to(memory_format=torch.channels_last)  # convolutions are faster so
        width: int = backbone.num_features  # type: ignore[assignment]  # an int in timm
        self.embed_dim = dim or width
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Identity() if dim is None else nn.Linear(width, dim)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W) -> (B, N, E)``"""
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.backbone.forward_features(images)  # type: ignore[operator]  # timm's API
        if features.ndim == 4:
            channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            features = features if channels_last else features.permute(0, 2, 3, 1)
            features = features.flatten(1, 2)
        tokens = self.proj(self.norm(features))
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1) if self.summary else tokens


def build_vision_encoder(config: VisionConfig, *, summary: bool = False) -> nn.Module:
    """Build a module that maps ``(B, 3, H, W)`` to tokens ``(B, N, E)``, with E as ``embed_dim``.

    A Vision Transformer gives [CLS] and one token per patch, after its last LayerNorm.

    Args:
        summary: Whether the first token must stand for the whole image: [CLS], or of a backbone
            that has none the mean of all.

    Raises:
        ValueError: timm knows no backbone of that name.
    """
    if config.timm is not None:
        return _backbone(config, summary=summary)
    encoder = VisionTransformer(
        img_size=config.img_size,
        patch_size=config.patch_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path_rate,
        norm_layer=partial(nn.LayerNorm, eps=config.layer_norm_eps),
        num_classes=0,
        global_pool="",
    )
    if config.weights is not None:
        state = _own_part(read_checkpoint(config.weights), "visual_encoder.")
        state = resize_position_embeddings(state, encoder, ("pos_embed",))
        load_weights(encoder, state, may_be_ignored=[r"^head(_dist)?\.", r"^dist_token$"])
    make_linear_quick(encoder)
    recompute_last(encoder.blocks, config.checkpoint_blocks, offload=config.checkpoint_offload)
    return encoder


def _backbone(config: VisionConfig, *, summary: bool) -> nn.Module:
    assert config.timm is not None
    known = timm.list_models()
    if config.timm not in known:
        hint = suggest(config.timm, known)
        raise ValueError(f"vit.timm: timm has no backbone {config.timm!r}{hint}")
    backbone = timm.create_model(config.timm, num_classes=0, **config.timm_options)
    if config.weights is not None:
        state = _own_part(read_checkpoint(config.weights), "visual_encoder.backbone.")
        if any(name.startswith("_blocks.") for name in state):
            state = efficientnet_to_timm(state, backbone)
        load_weights(backbone, state, may_be_ignored=_classifier(backbone))
    if config.checkpoint_blocks:
        backbone.set_grad_checkpointing()  # type: ignore[operator]  # timm's API
    return BackboneTokens(backbone, dim=config.token_dim, summary=summary)


def _classifier(backbone: nn.Module) -> list[str]:
    """Regexes of the weights that classify, which timm's files hold and the tower does not."""
    named: str | tuple[str, ...] = backbone.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr,operator]  # timm's API
    names = [named] if isinstance(named, str) else named
    return [rf"^{re.escape(name)}\." for name in names]


def _own_part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Of a whole model's checkpoint the vision tower, under its own names."""
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return part or state


def check_images(images: Tensor, *, size: int | None) -> None:
    """Refuse what no vision tower can read.

    Args:
        images: ``(B, 3, H, W)``
        size: The only height and width that will do; None for any.

    Raises:
        ValueError: naming the shape or the values that were found.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
    if size is not None and images.shape[-2:] != (size, size):
        height, width = images.shape[-2:]
        raise ValueError(
            f"the model takes images of {size} x {size} pixels, got {height} x {width}; "
            "use the processors that come with it, or build it with image_size"
        )
    if not torch.is_floating_point(images):
        raise ValueError(f"images must be floating point, got {images.dtype}")
    if not torch.isfinite(images).all():
        raise ValueError("images hold NaN or infinite pixels")
