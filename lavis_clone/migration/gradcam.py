"""Draws on a picture where a model looked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from lavis_clone.models.heads import gradcam
from lavis_clone.models.tokenizers import TokenBatch

RAMP = np.array([(0, 0, 0.5), (0, 0.5, 1), (0.5, 1, 0.5), (1, 0.5, 0), (0.5, 0, 0)])
"""Colours at equal distances, from blue for little to red for much; between them they are mixed."""
BLUR = 0.02
"""The blur's standard deviation, as a share of the picture's longer side."""
SHARPEN = 0.7
"""The power of the map that a colour's opacity is."""


def compute_gradcam(
    model: Any,
    visual_input: Tensor,
    text_input: str | Sequence[str],
    tokenized_text: TokenBatch,
    block_num: int = 6,
) -> tuple[list[Tensor], Tensor]:
    """``heads.gradcam.compute_gradcam``, which a single text may be given without a list."""
    texts = [text_input] if isinstance(text_input, str) else list(text_input)
    return gradcam.compute_gradcam(model, visual_input, texts, tokenized_text, block_num)


def getAttMap(  # noqa: N802  # LAVIS's name
    img: np.ndarray[Any, Any],
    attMap: Any,
    blur: bool = True,
    overlap: bool = True,  # noqa: N803
) -> np.ndarray[Any, Any]:
    """Lay a map of attention over a picture.

    Args:
        img: ``(H, W, 3)`` from 0 to 1.
        attMap: ``(h, w)``, of any range.
        blur: Smooth the map at the picture's size.
        overlap: Lay its colours over the picture, the more opaque the more attention there is; else
            give the colours alone.

    Returns:
        ``(H, W, 3)`` from 0 to 1.
    """
    height, width = img.shape[:2]
    small = torch.as_tensor(np.asarray(attMap), dtype=torch.float32)[None, None]
    size = (height, width)
    weights = F.interpolate(_scaled(small), size, mode="bicubic", align_corners=False)
    weights = weights.clamp(0, 1)  # which cubic curves leave
    if blur:
        sigma = BLUR * max(size)
        reach = 2 * min(round(3 * sigma), (min(size) - 1) // 2) + 1
        weights = gaussian_blur(weights, [reach, reach], [sigma, sigma])
    strength = _scaled(weights)[0, 0].numpy()
    colours = _colours(strength)
    if not overlap:
        return colours
    opacity = strength[..., None] ** SHARPEN
    mixed: np.ndarray[Any, Any] = opacity * colours + (1 - opacity) * img
    return mixed


def _scaled(values: Tensor) -> Tensor:
    """To 0 to 1; all 0 where there is no difference."""
    values = values - values.min()
    highest = values.max()
    return values / highest if highest > 0 else values


def _colours(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``(H, W)`` from 0 to 1 to ``(H, W, 3)``"""
    places = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(weights, places, stops) for stops in RAMP.T], axis=-1)
