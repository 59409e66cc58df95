"""What changes the scores of next tokens before one is chosen.

Shapes: R texts, T tokens so far, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lavis_clone.models.generation.options import GenerationOptions


def penalised(scores: Tensor, tokens: Tensor, *, options: GenerationOptions, eos_id: int) -> Tensor:
    """Apply the repetition penalty and the minimal length.

    Args:
        scores: ``(R, V)`` logits or log-probabilities.
        tokens: ``(R, T)`` what each text holds so far.
    """
    if options.repetition_penalty != 1:
        held = scores.gather(1, tokens)
        penalty = options.repetition_penalty
        scores = scores.scatter(1, tokens, torch.where(held < 0, held * penalty, held / penalty))
    if tokens.shape[1] < options.min_length:
        scores = scores.clone()
        scores[:, eos_id] = -torch.inf
    return scores


def nucleus(logits: Tensor, *, options: GenerationOptions) -> Tensor:
    """Mask what is outside the top k and the top p (Holtzman et al., arXiv:1904.09751).

    Args:
        logits: ``(R, V)``

    Returns:
        ``(R, V)`` logits divided by the temperature, minus infinity on what is never drawn. The
        best token always stays.
    """
    logits = logits / options.temperature
    if 0 < options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    ordered, order = logits.sort(dim=1, descending=True)
    probs = ordered.softmax(dim=1)
    before = probs.cumsum(dim=1) - probs  # mass of the tokens that come first
    outside = torch.zeros_like(probs, dtype=torch.bool).scatter(1, order, before >= options.top_p)
    return logits.masked_fill(outside, -torch.inf)
