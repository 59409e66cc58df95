"""A BERT whose upper layers read a text and visual tokens as one sequence, as in ALPRO.

Li et al., https://arxiv.org/abs/2112.09583. There is no cross-attention: the layers from
``fusion_layer`` on attend over the text's states with the visual tokens behind them.

Shapes: R text rows, B contexts (R = B * G: G rows share a context), T text tokens, N visual tokens,
D width of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lavis_clone.models.encoders.bert import BertModel, Context


@dataclass(frozen=True, kw_only=True)
class JoinedContext(Context):
    """Visual tokens that stand behind every text."""

    tokens: Tensor
    """``(B, N, D)``"""

    @property
    def num_joined(self) -> int:
        return self.tokens.shape[1]

    def contiguous(self) -> JoinedContext:
        return replace(self, tokens=self.tokens.contiguous())

    def select(self, contexts: Tensor) -> JoinedContext:
        mask = None if self.mask is None else self.mask.index_select(0, contexts)
        return replace(self, tokens=self.tokens.index_select(0, contexts), mask=mask)


class JointBertModel(BertModel):
    """Goes through the layers below ``fusion_layer`` with a text alone, then with what it sees."""

    @property
    def resumes(self) -> bool:
        return True

    @property
    def num_text_layers(self) -> int:
        return self.config.fusion_layer

    def see(self, tokens: Tensor, mask: Tensor | None = None) -> JoinedContext:
        """Keep ``tokens`` ``(B, N, D)`` to be read with texts.

        Args:
            mask: ``(B, N)`` bool, True where a token may be looked at.
        """
        return JoinedContext((), mask, tokens=tokens)

    def resume(
        self,
        states: Tensor,
        *,
        first: int,
        mask: Tensor | None,
        context: Context | None,
        summary: bool = False,
    ) -> Tensor:
        """Go through the layers from ``first`` on, with the context's tokens behind the text's.

        Args:
            states: ``(R, T, D)``
            mask: ``(R, T)`` bool, True on real tokens.
            context: From ``see``.
            summary: Give the first token's state alone; the last layer computes no other.

        Returns:
            ``(R, T + N, D)``, or ``(R, 1, D)``
        """
        if isinstance(context, JoinedContext):
            group = len(states) // len(context.tokens)
            tokens = context.tokens.repeat_interleave(group, dim=0)  # (R, N, D)
            mask = _joined_mask(mask, context.mask, states, tokens, group)
            states = torch.cat([states, tokens.to(states.dtype)], dim=1)
        return super().resume(states, first=first, mask=mask, context=None, summary=summary)


def _joined_mask(
    text: Tensor | None, visual: Tensor | None, states: Tensor, tokens: Tensor, group: int
) -> Tensor | None:
    """``(R, T + N)``; None when everything may be looked at."""
    if text is None and visual is None:
        return None
    if text is None:
        text = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    if visual is None:
        visual = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    else:
        visual = visual.repeat_interleave(group, dim=0)
    return torch.cat([text.bool(), visual.bool()], dim=1)
