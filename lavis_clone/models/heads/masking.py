"""Masked language modelling: some tokens of a text are hidden, to be guessed.

Devlin et al., https://arxiv.org/abs/1810.04805, section 3.1. Shapes: B texts, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lavis_clone.models.tokenizers import TokenBatch, Tokenizer

REPLACED, RANDOM = 0.8, 0.5
"""Share of the chosen tokens that become [MASK]; share of the others that become any token."""


@dataclass(frozen=True, kw_only=True)
class MaskingFields:
    """What the block of a model that guesses masked tokens may hold."""

    mlm_mask_prob: float = 0.15
    """Share of the tokens that are to be guessed."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # mixed into a TextConfig
        if not 0 < self.mlm_mask_prob < 1:
            raise ValueError(f"mlm_mask_prob ({self.mlm_mask_prob}) must lie between 0 and 1")


def hide_tokens(
    text: TokenBatch, tokenizer: Tokenizer, *, share: float
) -> tuple[TokenBatch, Tensor]:
    """Hide tokens at random, as BERT does: most become [MASK], some any token, some stay.

    Args:
        share: Of the tokens that are to be guessed.

    Returns:
        The text to read, and ``(B, T)`` bool: the tokens to guess, never [CLS] or padding.
    """
    ids = text.input_ids
    uniform = torch.rand(3, *ids.shape, device=ids.device)
    guessable = text.mask & (ids != tokenizer.cls_id)
    chosen = guessable & (uniform[0] < share)
    replaced = chosen & (uniform[1] < REPLACED)
    randomised = chosen & ~replaced & (uniform[2] < RANDOM)
    anything = torch.randint(len(tokenizer), ids.shape, device=ids.device)
    hidden = ids.masked_fill(replaced, tokenizer.id("[MASK]"))
    return TokenBatch(torch.where(randomised, anything, hidden), text.mask), chosen
