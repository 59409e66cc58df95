"""TimeSformer: a Vision Transformer that looks at a video, by turns along time and within a frame.

Bertasius et al., https://arxiv.org/abs/2102.05095, "divided space-time attention"; with the mean
over the frames at the end, as in ALPRO (Li et al., https://arxiv.org/abs/2112.09583). Parameter
names are those of the ALPRO checkpoints; all but the temporal ones are timm's.

Shapes: B videos, T frames of H x W pixels, P patches of a frame, N = 1 + P tokens, E width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block, PatchEmbed
from torch import Tensor, nn

from lavis_clone.models.encoders.vit import TransformerConfig
from lavis_clone.models.layers.linear import make_linear_quick
from lavis_clone.models.layers.recompute import recompute_last
from lavis_clone.models.weights import load_weights, read_checkpoint

INITIAL_STD = 0.02
TEMPORAL = (r"\.temporal_(norm1|attn|fc)\.", r"^time_embed$")
"""Regexes of the weights that an image ViT does not have."""


@dataclass(frozen=True, kw_only=True)
class TimesformerConfig(TransformerConfig):
    """Sizes of the video tower."""

    num_frames: int = 8
    """Places in time that are learned; for another number of frames the nearest ones are taken."""
    drop_rate: float = 0.0
    """Dropout on tokens and on what the layers put out."""
    attn_drop_rate: float = 0.0
    """Dropout on attention weights."""
    drop_path_rate: float = 0.1
    """How often the last block's branches are left out; less in those below it."""
    weights: str | None = None
    """File or URL that the tower starts from: those of a TimeSformer under the names of this one,
    or an image ViT's, e.g. timm's, which then looks at each frame alone until it has learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames < 1:
            raise ValueError(f"num_frames ({self.num_frames}) must be at least 1")
        for name in ("drop_rate", "attn_drop_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 1)")


class DividedBlock(Block):
    """A ViT block that looks along time first, at what is in the same place in all frames."""

    def __init__(self, config: TimesformerConfig, drop_path: float) -> None:
        norm: Any = partial(nn.LayerNorm, eps=config.layer_norm_eps)
        super().__init__(
            config.embed_dim,
            config.num_heads,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=True,
            proj_drop=config.drop_rate,
            attn_drop=config.attn_drop_rate,
            drop_path=drop_path,
            norm_layer=norm,
        )
        self.temporal_norm1 = norm(config.embed_dim)
        self.temporal_attn = Attention(
            config.embed_dim,
            config.num_heads,
            qkv_bias=True,
            attn_drop=config.attn_drop_rate,
            proj_drop=config.drop_rate,
        )
        self.temporal_fc = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # tokens of a video
        """``(B, 1, E), (B, P, T, E) -> (B, 1, E), (B, P, T, E)``"""
        patches = patches + self.drop_path1(self._along_time(patches))
        seen_cls, seen = self._within_frames(cls, patches)
        tokens = torch.cat([cls + seen_cls, (patches + seen).flatten(1, 2)], dim=1)
        tokens = tokens + self.drop_path2(self.mlp(self.norm2(tokens)))
        return tokens[:, :1], tokens[:, 1:].unflatten(1, patches.shape[1:3])

    def _along_time(self, patches: Tensor) -> Tensor:
        """``(B, P, T, E)``: each place of a frame looks at itself in all frames."""
        attended = self.temporal_attn(self.temporal_norm1(patches).flatten(0, 1))
        return self.temporal_fc(attended).view_as(patches)

    def _within_frames(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Each frame looks at itself and [CLS], whose own views of the frames are averaged."""
        count, num_frames = len(patches), patches.shape[2]
        frames = patches.transpose(1, 2)  # (B, T, P, E)
        first = cls[:, None].expand(-1, num_frames, -1, -1)
        tokens = torch.cat([first, frames], dim=2).flatten(0, 1)  # (B * T, N, E)
        seen = self.attn(self.norm1(tokens)).unflatten(0, (count, num_frames))
        seen = self.drop_path1(seen)  # all frames of a video, or none
        return seen[:, :, 0].mean(dim=1, keepdim=True), seen[:, :, 1:].transpose(1, 2)


class Timesformer(nn.Module):
    """The tower: patches of all frames, blocks, and the mean over the frames.

    The maps that lead from attention along time into the tokens start at zero.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.embed_dim = dim
        self.patch_embed = PatchEmbed(
            config.img_size, patch_size=config.patch_size, embed_dim=dim, strict_img_size=False
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.patch_embed.num_patches, dim))
        self.time_embed = nn.Parameter(torch.zeros(1, config.num_frames, dim))
        self.pos_drop = nn.Dropout(config.drop_rate)
        rates = [config.drop_path_rate * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(DividedBlock(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self._initialise()

    def forward(self, videos: Tensor) -> Tensor:
        """``(B, 3, T, H, W) -> (B, N, E)``: [CLS] and one token per patch, for all frames."""
        cls, patches = self._embed(videos)
        for block in self.blocks:
            cls, patches = block(cls, patches)
        return torch.cat([self.norm(cls), self.norm(patches).mean(dim=2)], dim=1)

    def _embed(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, T, H, W) -> (B, 1, E), (B, P, T, E)``"""
        count, _, num_frames = videos.shape[:3]
        frames = self.patch_embed(videos.transpose(1, 2).flatten(0, 1))  # (B * T, P, E)
        frames = self.pos_drop(frames + self.pos_embed[:, 1:])
        times = nearest(self.time_embed, num_frames)  # (1, T, E)
        patches = frames.unflatten(0, (count, num_frames)).transpose(1, 2)  # (B, P, T, E)
        patches = self.pos_drop(patches + times[:, None])
        cls = self.pos_drop(self.cls_token + self.pos_embed[:, :1])
        return cls.expand(count, -1, -1), patches.contiguous()

    def _initialise(self) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=INITIAL_STD)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)
                if name.endswith("temporal_fc"):
                    nn.init.zeros_(module.weight)


class VideoEncoder(nn.Module):
    """Holds the tower under the name that checkpoints use."""

    def __init__(self, model: Timesformer) -> None:
        super().__init__()
        self.model = model
        self.embed_dim = model.embed_dim

    def forward(self, videos: Tensor) -> Tensor:
        """``(B, 3, T, H, W) -> (B, N, E)``"""
        return self.model(videos)


def build_video_encoder(config: TimesformerConfig) -> VideoEncoder:
    """Build a module that maps ``(B, 3, T, H, W)`` to tokens ``(B, N, E)``, E as ``embed_dim``.

    Raises:
        WeightError: ``config.weights`` do not fit.
    """
    model = Timesformer(config)
    if config.weights is not None:
        state = read_checkpoint(config.weights)
        for prefix in ("visual_encoder.", "model."):
            part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            state = part or state
        state = fit_positions(state, model)
        ignored = [r"^head(_dist)?\.", r"^dist_token$"]
        load_weights(model, state, may_stay_at_init=TEMPORAL, may_be_ignored=ignored)
    make_linear_quick(model)
    recompute_last(model.blocks, config.checkpoint_blocks, offload=config.checkpoint_offload)
    return VideoEncoder(model)


def nearest(positions: Tensor, length: int) -> Tensor:
    """Stretch or thin out ``(1, L, E)`` to ``(1, length, E)``, taking the nearest of each place."""
    if positions.shape[1] == length:
        return positions
    return F.interpolate(positions.transpose(1, 2), size=length, mode="nearest").transpose(1, 2)


def fit_positions(
    state: Mapping[str, Tensor], model: nn.Module, prefix: str = ""
) -> dict[str, Tensor]:
    """Fit the places in space and time of a checkpoint to a tower of another size.

    Both are lists of places, of which the nearest are taken, as LAVIS does; [CLS] keeps its own.

    Args:
        prefix: What stands before the tower's names, in ``state`` and in ``model``.
    """
    fitted, own = dict(state), model.state_dict()
    for name, num_extra in (("pos_embed", 1), ("time_embed", 0)):
        key = prefix + name
        if key not in state or key not in own or state[key].ndim != own[key].ndim:
            continue
        extra, places = state[key][:, :num_extra], state[key][:, num_extra:]
        length = own[key].shape[1] - num_extra
        if places.shape[1] and places.shape[2] == own[key].shape[2]:
            fitted[key] = torch.cat([extra, nearest(places, length)], dim=1)
    return fitted


def check_videos(videos: Tensor, *, size: int) -> None:
    """Refuse what the video tower cannot read.

    Args:
        videos: ``(B, 3, T, H, W)``
        size: The height and width of a frame.

    Raises:
        ValueError: naming the shape or the values that were found.
    """
    if videos.ndim != 5 or videos.shape[1] != 3 or not len(videos) or not videos.shape[2]:
        raise ValueError(f"videos must be (B, 3, T, H, W), got {tuple(videos.shape)}")
    if videos.shape[-2:] != (size, size):
        height, width = videos.shape[-2:]
        raise ValueError(
            f"the model takes frames of {size} x {size} pixels, got {height} x {width}; "
            "use the processors that come with it, or build it with timesformer.img_size"
        )
    if not torch.is_floating_point(videos):
        raise ValueError(f"videos must be floating point, got {videos.dtype}")
    if not torch.isfinite(videos).all():
        raise ValueError("videos hold NaN or infinite pixels")
