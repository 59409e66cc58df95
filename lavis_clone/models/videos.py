"""Videos before models that look at images: frame by frame, all tokens one after another.

Li et al., https://arxiv.org/abs/2201.12086, section 5.6 (BLIP without training on videos).
Shapes: B videos, T frames, N tokens of a frame, E their width, F any width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def as_images(images: Tensor) -> Tensor:
    """Videos ``(B, 3, T, H, W)`` as images ``(B * T, 3, H, W)``; images as they are."""
    return images.transpose(1, 2).flatten(0, 1) if images.ndim == 5 else images


def by_video(tokens: Tensor, images: Tensor) -> Tensor:
    """Tokens ``(B * T, N, E)`` of ``as_images(images)`` as ``(B, T * N, E)``."""
    return tokens.unflatten(0, (len(images), -1)).flatten(1, 2) if images.ndim == 5 else tokens


def look(encoder: nn.Module, images: Tensor) -> Tensor:
    """The tokens of images ``(B, N, E)``, or of videos ``(B, T * N, E)``."""
    return by_video(encoder(as_images(images)), images)


def frame_mask(samples: Mapping[str, Any], tokens: Tensor) -> Tensor | None:
    """Which tokens of a batch of videos are not of frames that only repeat the last one.

    Args:
        samples: ``video`` ``(B, 3, T, H, W)`` and, if there may be such frames, ``num_frames``
            ``(B,)``: how many come before them.
        tokens: ``(B, T * N, E)``

    Returns:
        ``(B, T * N)`` bool; None when all count.

    Raises:
        ValueError: ``num_frames`` does not fit the videos.
    """
    counts = samples.get("num_frames")
    if counts is None or "video" not in samples:
        return None
    num_videos, total = len(tokens), samples["video"].shape[2]
    counts = torch.as_tensor(counts, device=tokens.device)
    if counts.shape != (num_videos,) or bool(((counts < 1) | (counts > total)).any()):
        raise ValueError(
            f"num_frames must be a number from 1 to {total} for each of the {num_videos} videos, "
            f"got {counts.tolist()}"
        )
    if bool((counts == total).all()):
        return None
    real = torch.arange(total, device=tokens.device) < counts[:, None]  # (B, T)
    return real.repeat_interleave(tokens.shape[1] // total, dim=1)


def mean_of_frames(states: Tensor, num_frames: int, mask: Tensor | None = None) -> Tensor:
    """The mean over the frames of each video: ``(B, T * N, F) -> (B, N, F)``.

    Args:
        num_frames: T
        mask: ``(B, T * N)`` bool, True where a token counts; None for everywhere.
    """
    if num_frames == 1:
        return states
    by_frame = states.unflatten(1, (num_frames, -1))  # (B, T, N, F)
    if mask is None:
        return by_frame.mean(dim=1)
    counted = mask.unflatten(1, (num_frames, -1))[..., None]
    return (by_frame * counted).sum(dim=1) / counted.sum(dim=1)
