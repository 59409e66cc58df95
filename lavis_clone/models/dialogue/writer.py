"""Writes replies: scores of next tokens by a GPT-2 that has read a dialogue once.

Shapes: B dialogues, R replies (several of one dialogue next to each other), L frames and tokens
read, t tokens written, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import DynamicCache


class ReplyWriter:
    """A scorer for ``generation``, whose prompt is one token that stands for the reply's start.

    That token is not read: what comes first is known from the dialogue.

    Args:
        transformer: transformers' GPT2Model.
        score: States ``(R, D)`` -> ``(R, V)``.
        type_id: Type of every token that is written.
    """

    def __init__(
        self, transformer: nn.Module, score: Callable[[Tensor], Tensor], *, type_id: int
    ) -> None:
        self.transformer, self.score, self.type_id = transformer, score, type_id
        self.cache = DynamicCache()
        self.mask = self.length = torch.empty(0)
        self._first: Tensor | None = None

    def read(self, embeds: Tensor, types: Tensor, mask: Tensor) -> None:
        """Read B dialogues.

        Args:
            embeds: ``(B, L, D)``
            types: ``(B, L)``
            mask: ``(B, L)`` bool, True on what is there; padding stands at the ends.
        """
        states = self.transformer(
            None,
            self.cache,  # called past_key_values or cache, as transformers' version has it
            attention_mask=mask,
            token_type_ids=types,
            inputs_embeds=embeds,
            use_cache=True,
        ).last_hidden_state
        self.mask, self.length = mask, mask.sum(dim=1)
        rows = torch.arange(len(states), device=states.device)
        self._first = self.score(states[rows, self.length - 1])

    def __call__(self, tokens: Tensor) -> Tensor:
        """``(R, 1)`` the token that comes next in each reply -> ``(R, V)`` scores after it."""
        if self._first is not None:
            logits, self._first = self._first, None
            return logits
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        states = self.transformer(
            tokens,
            self.cache,
            attention_mask=self.mask,
            token_type_ids=torch.full_like(tokens, self.type_id),
            position_ids=self.length[:, None],
            use_cache=True,
        ).last_hidden_state
        self.length = self.length + 1
        return self.score(states[:, -1])

    def select_rows(self, rows: Tensor) -> None:
        """Row i goes on from what row ``rows[i]`` holds."""
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # it says LongTensor for a type of dtype
        self.mask, self.length = self.mask[rows], self.length[rows]

    def select_contexts(self, contexts: Tensor) -> None:
        """Nothing to do: each row holds its dialogue itself, and ``select_rows`` follows."""
