"""The one BERT: encoder, fusion encoder and decoder of every family.

Devlin et al., https://arxiv.org/abs/1810.04805; with cross-attention after self-attention in the
layers from ``fusion_layer`` on, as in BLIP's mixture of encoder and decoder
(https://arxiv.org/abs/2201.12086) and ALBEF's fusion layers (https://arxiv.org/abs/2107.07651).
Module names are those of the public checkpoints.

Shapes: R text rows, T text tokens, B contexts (R = B * G), N context tokens, D width, E context
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.models.layers.attention import AddNorm, Attention, KeyValue
from lavis_clone.models.layers.cache import KeyValueCache
from lavis_clone.models.layers.linear import Linear


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes of a BERT, under the key names of the public ``med_config.json`` files."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    pad_token_id: int = 0
    add_cross_attention: bool = True
    encoder_width: int = 768
    """E, width of the tokens that cross-attention looks at."""
    fusion_layer: int = 0
    """First layer with cross-attention, or where ALPRO joins text and video."""
    add_type_embeddings: bool = False
    type_vocab_size: int = 2
    architectures: list[str] | None = None
    """Read for compatibility with the public files, and not used."""
    model_type: str | None = None
    """Read for compatibility with the public files, and not used."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 1)")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of "
                f"num_attention_heads ({self.num_attention_heads})"
            )
        if not 0 <= self.fusion_layer <= self.num_hidden_layers:
            raise ValueError(
                f"fusion_layer ({self.fusion_layer}) must lie between 0 and "
                f"num_hidden_layers ({self.num_hidden_layers})"
            )

    def has_cross_attention(self, layer: int) -> bool:
        return self.add_cross_attention and layer >= self.fusion_layer


class BertEmbeddings(nn.Module):
    """Word, position and (ALPRO only) token type embeddings."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, dim, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, dim)
        if config.add_type_embeddings:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, *, start: int = 0) -> Tensor:
        """``(R, T) -> (R, T, D)``; the first token stands at position ``start``."""
        end = start + input_ids.shape[1]
        limit = self.position_embeddings.num_embeddings
        if end > limit:
            raise ValueError(f"a text of {end} tokens is longer than the {limit} positions")
        x = self.word_embeddings(input_ids) + self.position_embeddings.weight[start:end]
        if hasattr(self, "token_type_embeddings"):
            x = x + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(x))


class Intermediate(nn.Module):
    """The first half of the feed-forward part, with exact GELU."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


@dataclass(frozen=True)
class Context:
    """What cross-attention looks at: keys and values of every layer, computed once."""

    layers: Sequence[KeyValue | None]
    """Per layer ``(B, H, N, K)`` each; None where the layer has no cross-attention."""
    mask: Tensor | None = None
    """``(B, 1, 1, N)`` bool, True where a token may be looked at; None for everywhere."""

    @property
    def num_joined(self) -> int:
        """Tokens that every text takes into its own sequence."""
        return 0

    def contiguous(self) -> Context:
        """The same, laid out for being read many times."""
        layers = [kv and KeyValue(kv.key.contiguous(), kv.value.contiguous()) for kv in self.layers]
        return Context(layers, self.mask)

    def select(self, contexts: Tensor) -> Context:
        """Keep the contexts with these indices."""
        layers = [
            kv and KeyValue(kv.key.index_select(0, contexts), kv.value.index_select(0, contexts))
            for kv in self.layers
        ]
        mask = None if self.mask is None else self.mask.index_select(0, contexts)
        return Context(layers, mask)


class BertLayer(nn.Module):
    """Self-attention, cross-attention where the layer has one, feed-forward."""

    crossattention: Attention
    """Absent below ``fusion_layer``."""

    def __init__(self, config: BertConfig, index: int) -> None:
        super().__init__()
        self.attention = _attention(config, config.hidden_size)
        if config.has_cross_attention(index):
            self.crossattention = _attention(config, config.encoder_width)
        self.intermediate = Intermediate(config)
        self.output = AddNorm(
            config.intermediate_size,
            config.hidden_size,
            eps=config.layer_norm_eps,
            dropout=config.hidden_dropout_prob,
        )

    @property
    def has_cross_attention(self) -> bool:
        return hasattr(self, "crossattention")

    def forward(
        self,
        x: Tensor,
        seen: KeyValue,
        *,
        mask: Tensor | None,
        context: Context | None,
        index: int,
    ) -> Tensor:
        """
        Args:
            x: ``(R, T, D)``
            seen: What self-attention looks at.
            mask: Of self-attention; see ``attention_mask``.
            context: What cross-attention looks at; None to skip it.
            index: The layer's own position in the stack.

        Returns:
            ``(R, T, D)``
        """
        x = self.attention(x, seen, mask=mask)
        keys_values = None if context is None else context.layers[index]
        if context is not None and keys_values is not None:
            x = self.crossattention(x, keys_values, mask=context.mask)
        return self.output(self.intermediate(x), x)


def _attention(config: BertConfig, context_dim: int) -> Attention:
    return Attention(
        config.hidden_size,
        context_dim=context_dim,
        num_heads=config.num_attention_heads,
        eps=config.layer_norm_eps,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
    )


class BertEncoder(nn.Module):
    """Holds the layers under the name that checkpoints use."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config, i) for i in range(config.num_hidden_layers))

    def layers(self) -> Iterator[BertLayer]:
        return cast("Iterator[BertLayer]", iter(self.layer))


class BertModel(nn.Module):
    """A stack of layers over token embeddings, without a pooler."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.apply(self._initialise)

    @property
    def resumes(self) -> bool:
        """Whether a text that looks at a context begins with what it is alone."""
        return bool(self.config.fusion_layer)

    @property
    def num_text_layers(self) -> int:
        """Layers that a text alone goes through: those below the fusion layer, or all."""
        return self.config.fusion_layer or self.config.num_hidden_layers

    def forward(
        self,
        input_ids: Tensor,
        *,
        mask: Tensor | None = None,
        context: Context | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        num_layers: int | None = None,
        summary: bool = False,
    ) -> Tensor:
        """Encode text, alone or looking at a context.

        Args:
            input_ids: ``(R, T)``; with a cache, only the tokens that it does not hold.
            mask: ``(R, T)`` bool, True on real tokens. Not used together with a cache.
            context: From ``see``; without one, cross-attention is skipped.
            causal: Token t looks at tokens up to t only.
            cache: Holds the earlier tokens of each row, and takes the new ones; implies causal.
            num_layers: Stop after this many layers; None for all.
            summary: Give the first token's state alone; the last layer computes no other.

        Returns:
            ``(R, T, D)``, or ``(R, 1, D)``
        """
        start = 0 if cache is None else cache.length
        x = self.embeddings(input_ids, start=start)
        mask = attention_mask(input_ids, mask, causal=causal or cache is not None, start=start)
        for index, layer in enumerate(islice(self.encoder.layers(), num_layers)):
            seen = layer.attention.keys_values(x)
            if cache is not None:
                seen = cache.append(index, seen)
            queries = x[:, :1] if summary and layer is self.encoder.layer[-1] else x
            x = layer(queries, seen, mask=mask, context=context, index=index)
        return x

    def resume(
        self,
        states: Tensor,
        *,
        first: int,
        mask: Tensor | None,
        context: Context | None,
        summary: bool = False,
    ) -> Tensor:
        """Go through the layers from ``first`` on, with the states that the one before has given.

        Args:
            states: ``(R, T, D)``
            mask: ``(R, T)`` bool, True on real tokens.
            context: From ``see``.
            summary: Give the first token's state alone; the last layer computes no other.

        Returns:
            ``(R, T, D)``, or ``(R, 1, D)``
        """
        allowed = None if mask is None else mask.bool()[:, None, None, :]
        for index, layer in islice(enumerate(self.encoder.layers()), first, None):
            seen = layer.attention.keys_values(states)
            queries = states[:, :1] if summary and layer is self.encoder.layer[-1] else states
            states = layer(queries, seen, mask=allowed, context=context, index=index)
        return states

    def see(self, tokens: Tensor, mask: Tensor | None = None) -> Context:
        """Compute each layer's cross-attention keys and values of ``tokens``, once.

        Args:
            tokens: ``(B, N, E)``
            mask: ``(B, N)`` bool, True where a token may be looked at.
        """
        layers = [
            layer.crossattention.keys_values(tokens) if layer.has_cross_attention else None
            for layer in self.encoder.layers()
        ]
        return Context(layers, None if mask is None else mask[:, None, None, :])

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def attention_mask(
    input_ids: Tensor, mask: Tensor | None, *, causal: bool, start: int = 0
) -> Tensor | None:
    """Who may look at whom in self-attention.

    Args:
        input_ids: ``(R, T)``, the tokens at positions ``start`` to ``start + T``.
        mask: ``(R, T)`` bool, True on real tokens; None when all are.
        causal: Whether a token sees only itself and what stands before it.

    Returns:
        bool, True where the query (third axis) may look at the key (last axis), broadcastable to
        ``(R, H, T, start + T)``; None when everything may be seen.
    """
    length = input_ids.shape[1]
    allowed = None if mask is None else mask.bool()[:, None, None, :]  # (R, 1, 1, T)
    if not causal or length == 1:
        return allowed
    position = torch.arange(start + length, device=input_ids.device)
    triangle = position[None, :] <= position[start:, None]  # (T, start + T)
    return triangle if allowed is None else triangle & allowed
