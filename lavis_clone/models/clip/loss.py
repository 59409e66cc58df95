"""What CLIP and SigLIP learn from: pairs that belong together, among all that do not.

Shapes: B pairs of this process, A of all processes, F width of the common space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lavis_clone.common import dist


@dataclass(frozen=True)
class Contrast:
    """Which pairs are compared.

    With several processes the loss is this process's part: their mean, and the mean of their
    gradients, are those of one process with all pairs.
    """

    gather: bool = True
    """Compare with the pairs of all processes, each of which has as many."""
    local: bool = False
    """With ``gather``: compute the logits of this process's pairs alone. All processes together
    then compute each logit once, instead of each of them all."""
    sigmoid: bool = False
    """Judge each image and text alone, as SigLIP does; always local."""

    def __call__(
        self, images: Tensor, texts: Tensor, *, scale: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """The mean loss of a pair.

        Args:
            images: ``(B, F)`` of length 1
            texts: ``(B, F)`` of length 1
            scale: What cosines are multiplied by.
            bias: What is added to the logits.
        """
        first = dist.rank() * len(images) if self.gather else 0
        if self.sigmoid:
            others = dist.gather(texts) if self.gather else texts
            return sigmoid_loss(images, others, scale=scale, bias=bias, first=first)
        if not self.gather:
            return softmax_loss(images, texts, images, texts, scale=scale, first=0)
        all_images, all_texts = dist.gather(images), dist.gather(texts)
        if not self.local:
            images, texts, first = all_images, all_texts, 0
        return softmax_loss(images, texts, all_images, all_texts, scale=scale, first=first)


def softmax_loss(
    images: Tensor,
    texts: Tensor,
    all_images: Tensor,
    all_texts: Tensor,
    *,
    scale: Tensor,
    first: int,
) -> Tensor:
    """Find each image's text among all, and each text's image.

    Radford et al., https://arxiv.org/abs/2103.00020, figure 3.

    Args:
        images: ``(B, F)``, whose partners stand at ``first`` and after in ``all_texts``.
        texts: ``(B, F)``
        all_images: ``(A, F)``
        all_texts: ``(A, F)``
    """
    right = torch.arange(first, first + len(images), device=images.device)
    found = F.cross_entropy(scale * images @ all_texts.t(), right)
    return (found + F.cross_entropy(scale * texts @ all_images.t(), right)) / 2


def sigmoid_loss(
    images: Tensor, texts: Tensor, *, scale: Tensor, bias: Tensor | None, first: int
) -> Tensor:
    """Say of each image and text whether they belong together.

    Zhai et al., https://arxiv.org/abs/2303.15343, algorithm 1.

    Args:
        images: ``(B, F)``, whose partners stand at ``first`` and after in ``texts``.
        texts: ``(A, F)``
    """
    logits = scale * images @ texts.t()
    if bias is not None:
        logits = logits + bias
    signs = torch.full_like(logits, -1)
    signs[torch.arange(len(images)), torch.arange(first, first + len(images))] = 1
    return -F.logsigmoid(signs * logits).sum() / len(images)
