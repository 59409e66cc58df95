"""Multi-head attention with the module names of BERT checkpoints.

Shapes: R text rows, B contexts (R = B * G: G rows share a context), T text tokens, N context
tokens, D width, E context width, H heads, K width of a head (D = H * K).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.models.layers.linear import Linear


class KeyValue(NamedTuple):
    """What queries look at."""

    key: Tensor
    """``(B, H, N, K)``"""
    value: Tensor
    """``(B, H, N, K)``"""


class Projections(nn.Module):
    """The three linear maps of an attention layer."""

    def __init__(self, dim: int, context_dim: int) -> None:
        super().__init__()
        self.query = Linear(dim, dim)
        self.key = Linear(context_dim, dim)
        self.value = Linear(context_dim, dim)


class AddNorm(nn.Module):
    """A linear map, dropout, the residual, and LayerNorm: how every half of a BERT layer ends."""

    def __init__(self, in_dim: int, dim: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(in_dim, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """``(..., in_dim), (..., D) -> (..., D)``"""
        return self.LayerNorm(residual + self.dropout(self.dense(x)))


class Attention(nn.Module):
    """Post-norm attention of text over itself or over a context.

    Args:
        dim: D.
        context_dim: E, the width of what is looked at; D for self-attention.
        num_heads: H.
        eps: LayerNorm's epsilon.
        dropout: On the output.
        attention_dropout: On the attention weights.
    """

    def __init__(
        self,
        dim: int,
        *,
        context_dim: int,
        num_heads: int,
        eps: float,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"hidden_size ({dim}) must be a multiple of the {num_heads} heads")
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.watched: list[Tensor] | None = None
        self.self = Projections(dim, context_dim)
        self.output = AddNorm(dim, dim, eps=eps, dropout=dropout)

    def keys_values(self, context: Tensor) -> KeyValue:
        """``(B, N, E)`` -> keys and values, to be computed once however many rows use them."""
        return KeyValue(self._split(self.self.key(context)), self._split(self.self.value(context)))

    def forward(self, x: Tensor, seen: KeyValue, *, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            x: ``(R, T, D)``
            seen: ``(B, H, N, K)`` each. With R = B * G, each G consecutive rows look at one
                context: they become queries of a single call, and the context is not repeated.
            mask: bool, True where a query may look; broadcastable to ``(B, H, G * T, N)``.

        Returns:
            ``(R, T, D)``
        """
        rows, length, dim = x.shape
        query = self._split(self.self.query(x).view(len(seen.key), -1, dim))  # (B, H, G * T, K)
        if self.watched is not None:
            attended = self._watched(query, seen, mask)
        else:
            attended = F.scaled_dot_product_attention(
                query,
                seen.key,
                seen.value,
                attn_mask=mask,
                dropout_p=self.attention_dropout if self.training else 0.0,
            )  # (B, H, G * T, K)
        merged = attended.transpose(1, 2).reshape(rows, length, dim)
        return self.output(merged, x)

    @contextmanager
    def watch(self) -> Iterator[list[Tensor]]:
        """Collect the attention weights ``(B, H, G * T, N)`` of each call, with their gradients."""
        self.watched = []
        try:
            yield self.watched
        finally:
            self.watched = None

    def _watched(self, query: Tensor, seen: KeyValue, mask: Tensor | None) -> Tensor:
        """Attention in steps, so that its weights are there to be seen."""
        scores = query @ seen.key.transpose(2, 3) / query.shape[-1] ** 0.5  # (B, H, G * T, N)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(dim=-1)
        assert self.watched is not None
        self.watched.append(weights)
        return weights @ seen.value

    def _split(self, x: Tensor) -> Tensor:
        """``(B, N, D) -> (B, H, N, K)``"""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
