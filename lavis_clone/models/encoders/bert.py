"""The one BERT: encoder, fusion encoder and decoder of every family.

Devlin et al., https://arxiv.org/abs/1810.04805; with cross-attention after self-attention in the
layers from ``fusion_layer`` on, as in BLIP's mixture of encoder and decoder
(https://arxiv.org/abs/2201.12086) and ALBEF's fusion layers (https://arxiv.org/abs/2107.07651).
Module names are those of the public checkpoints.

Shapes: R text rows, T text tokens, B contexts (R = B * G), N context tokens, D width, E context
width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.models.layers.attention import AddNorm, Attention, KeyValue
from lavis_clone.models.layers.cache import KeyValueCache
from lavis_clone.models.layers.linear import Linear
from lavis_clone.models.layers.recompute import recompute_last


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
    checkpoint_layers: int = 0
    """Recompute the activations of this many last layers in the backward pass, to save memory."""
    checkpoint_offload: bool = False
    """Keep what is recomputed from in the CPU's memory meanwhile; needs fairscale."""
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

    ENTRANCES = ("see",)
    """What is called from outside besides ``forward``, and needs the layer's weights."""
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
        *context: Tensor,
        mask: Tensor | None,
        context_mask: Tensor | None = None,
        keep: Callable[[KeyValue], KeyValue] | None = None,
        summary: bool = False,
    ) -> Tensor:
        """
        Args:
            x: ``(R, T, D)``
            context: What cross-attention looks at, the key and the value of ``see``, one by one for
                who recomputes; nothing to skip it.
            mask: Of self-attention; see ``attention_mask``.
            context_mask: bool, True where it may look; broadcastable to ``(B, H, G * T, N)``.
            keep: Takes the keys and values of x, and gives those of earlier tokens with them.
            summary: Give the first token's state alone.

        Returns:
            ``(R, T, D)``, or ``(R, 1, D)``
        """
        seen = self.attention.keys_values(x)
        if keep is not None:
            seen = keep(seen)
        x = self.attention(x[:, :1] if summary else x, seen, mask=mask)
        if context:
            x = self.crossattention(x, KeyValue(*context), mask=context_mask)
        return self.output(self.intermediate(x), x)

    def see(self, tokens: Tensor) -> KeyValue | None:
        """Cross-attention's keys and values of ``(B, N, E)``; None if the layer has none."""
        return self.crossattention.keys_values(tokens) if self.has_cross_attention else None


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
        recompute_last(self.layer, config.checkpoint_layers, offload=config.checkpoint_offload)

    def layers(self) -> Iterator[BertLayer]:
        """The layers themselves; ``layer`` holds what is to be called in their place."""
        bare = (getattr(layer, "_checkpoint_wrapped_module", layer) for layer in self.layer)
        return cast("Iterator[BertLayer]", bare)


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
        for index, layer in enumerate(islice(self.encoder.layer, num_layers)):
            x = layer(
                x,
                *_seen_by(index, context),
                mask=mask,
                context_mask=None if context is None else context.mask,
                keep=None if cache is None else partial(cache.append, index),
                summary=summary and layer is self.encoder.layer[-1],
            )
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
        for index, layer in islice(enumerate(self.encoder.layer), first, None):
            is_summary = summary and layer is self.encoder.layer[-1]
            states = layer(
                states,
                *_seen_by(index, context),
                mask=allowed,
                context_mask=None if context is None else context.mask,
                summary=is_summary,
            )
        return states

    def see(self, tokens: Tensor, mask: Tensor | None = None) -> Context:
        """Compute each layer's cross-attention keys and values of ``tokens``, once.

        Args:
            tokens: ``(B, N, E)``
            mask: ``(B, N)`` bool, True where a token may be looked at.
        """
        layers = [layer.see(tokens) for layer in cast("Iterator[BertLayer]", self.encoder.layer)]
        return Context(layers, None if mask is None else mask[:, None, None, :])

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def _seen_by(index: int, context: Context | None) -> tuple[Tensor, ...]:
    """What a layer's cross-attention looks at: key and value, or nothing."""
    seen = None if context is None else context.layers[index]
    return () if seen is None else tuple(seen)


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
