"""Where in an image a model looks when it says that a text describes it.

Grad-CAM (Selvaraju et al., https://arxiv.org/abs/1610.02391) on the cross-attention of a text
layer, as in Li et al., https://arxiv.org/abs/2107.07651.

Shapes: B pairs, H heads, T text tokens, N image tokens, g x g patches.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lavis_clone.models.tokenizers import TokenBatch


@torch.enable_grad()
def compute_gradcam(
    model: Any,
    visual_input: Tensor,
    text_input: list[str],
    tokenized_text: TokenBatch,
    block_num: int = 6,
) -> tuple[list[Tensor], Tensor]:
    """Weigh a layer's attention by how much it speaks for a match.

    Args:
        model: A ``BlipITM``.
        visual_input: ``(B, 3, H, W)``
        text_input: B texts.
        tokenized_text: ``model.tokenize(text_input)``.
        block_num: The text layer, counted from 0.

    Returns:
        A map ``(T + 1, g, g)`` per pair: of the first token, the mean over all words, then one for
        each token after the first; padding has zeros. And the logits ``(B, 2)``.

    Raises:
        ValueError: the text tower has no such layer, or the image tokens are no square grid.
    """
    layers = list(model.bert.encoder.layers())
    if not 0 <= block_num < len(layers) or not layers[block_num].has_cross_attention:
        raise ValueError(f"block_num ({block_num}) must be one of the {len(layers)} text layers")
    with layers[block_num].crossattention.watch() as watched:
        logits: Tensor = model({"image": visual_input, "text_input": text_input}, match_head="itm")
    (weights,) = watched  # (B, H, T, N)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), weights)
    cells = weights.shape[-1] - 1  # without [CLS]
    side = math.isqrt(cells)
    if side * side != cells:
        raise ValueError(f"{cells} image tokens are no square grid")
    maps = (weights * gradient.clamp(min=0))[..., 1:].mean(dim=1)  # (B, T, g * g)
    mask = tokenized_text.mask.to(maps.device)
    maps = (maps * mask[..., None]).unflatten(-1, (side, side)).detach().cpu()
    return [_with_mean(rows, int(count)) for rows, count in zip(maps, mask.sum(1), strict=True)], (
        logits.detach()
    )


def _with_mean(rows: Tensor, num_tokens: int) -> Tensor:
    """Put the mean over the words, which leaves out the first and the last token, second."""
    words = rows[1 : num_tokens - 1].sum(dim=0, keepdim=True) / max(num_tokens - 2, 1)
    return torch.cat([rows[:1], words, rows[1:]])
