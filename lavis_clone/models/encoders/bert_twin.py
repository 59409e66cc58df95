"""BERTs whose texts look at two images, for NLVR2.

BLIP's looks at both in every layer (https://arxiv.org/abs/2201.12086, section 5.4); ALBEF's at one
and the other in turn (https://arxiv.org/abs/2107.07651, section 5). ``see`` of either takes the
first images of all pairs, then the second ones. Module names are those of the public checkpoints.

Shapes: R text rows, B pairs of images (R = B * G: G rows share a pair), T text tokens, N image
tokens, D width, E image width, H heads, K width of a head (D = H * K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.models.encoders.bert import BertConfig, BertModel, Context
from lavis_clone.models.layers.attention import KeyValue, Projections
from lavis_clone.models.layers.linear import Linear


class TwinAddNorm(nn.Module):
    """Puts together what was seen in two images, then ends as every half of a BERT layer does.

    Args:
        merges: Put it together by a learned map, instead of taking the mean.
    """

    def __init__(self, dim: int, *, merges: bool, eps: float, dropout: float) -> None:
        super().__init__()
        self.dense0 = Linear(dim, dim)
        self.dense1 = Linear(dim, dim)
        self.merge_layer = Linear(2 * dim, dim) if merges else None
        self.LayerNorm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor, second: Tensor, residual: Tensor) -> Tensor:
        """``(R, T, D)`` each -> ``(R, T, D)``"""
        first, second = self.dense0(first), self.dense1(second)
        if self.merge_layer is None:
            merged = (first + second) / 2
        else:
            merged = self.merge_layer(torch.cat([first, second], dim=-1))
        return self.LayerNorm(residual + self.dropout(merged))


class TwinAttention(nn.Module):
    """Post-norm attention over two images, with weights of its own for each.

    The heads of both stand next to each other, so that one call serves the two.
    """

    def __init__(self, config: BertConfig, *, merges: bool) -> None:
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.self0 = Projections(dim, config.encoder_width)
        self.self1 = Projections(dim, config.encoder_width)
        self.output = TwinAddNorm(
            dim, merges=merges, eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob
        )

    def keys_values(self, context: Tensor) -> KeyValue:
        """``(2 B, N, E)`` -> keys and values ``(B, 2 H, N, K)``."""
        first, second = context.chunk(2)
        return KeyValue(
            self._heads(self.self0.key, first, self.self1.key, second),
            self._heads(self.self0.value, first, self.self1.value, second),
        )

    def forward(self, x: Tensor, seen: KeyValue, *, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            x: ``(R, T, D)``
            seen: From ``keys_values``.
            mask: bool, True where a query may look; broadcastable to ``(B, 2 H, G * T, N)``.

        Returns:
            ``(R, T, D)``
        """
        grouped = x.reshape(len(seen.key), -1, x.shape[-1])  # (B, G * T, D)
        query = self._heads(self.self0.query, grouped, self.self1.query, grouped)
        dropout = self.attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, seen.key, seen.value, attn_mask=mask, dropout_p=dropout
        )  # (B, 2 H, G * T, K)
        both = attended.transpose(1, 2).reshape(*x.shape[:2], -1)  # (R, T, 2 D)
        return self.output(*both.chunk(2, dim=-1), x)

    def _heads(
        self,
        first: Callable[[Tensor], Tensor],
        x: Tensor,
        second: Callable[[Tensor], Tensor],
        y: Tensor,
    ) -> Tensor:
        """``(B, N, E)`` twice -> the heads of both, ``(B, 2 H, N, K)``."""
        projected = torch.cat([first(x), second(y)], dim=-1)  # (B, N, 2 D)
        return projected.unflatten(-1, (2 * self.num_heads, -1)).transpose(1, 2)


class TwinBertModel(BertModel):
    """BLIP's: each layer looks at both images.

    Args:
        merge_from: First layer that puts together by a learned map what it saw; those below take
            the mean.
    """

    def __init__(self, config: BertConfig, *, merge_from: int) -> None:
        super().__init__(replace(config, add_cross_attention=False))
        self.config = config
        for index, layer in enumerate(self.encoder.layers()):
            if config.has_cross_attention(index):
                twin = TwinAttention(config, merges=index >= merge_from)
                layer.add_module("crossattention", twin.apply(self._initialise))


class AlternatingBertModel(BertModel):
    """ALBEF's: of each two consecutive layers one looks at the first image, one at the second.

    The two have their keys and values by the same weights.

    Raises:
        ValueError: a layer that looks at images is left without a second one.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        if (config.num_hidden_layers - config.fusion_layer) % 2:
            raise ValueError(
                f"num_hidden_layers ({config.num_hidden_layers}) and fusion_layer "
                f"({config.fusion_layer}) must leave an even number of layers for two images"
            )
        upper = list(self.encoder.layers())[config.fusion_layer :]
        for first, second in zip(upper[::2], upper[1::2], strict=True):
            shared = first.crossattention.self
            second.crossattention.self.key = shared.key
            second.crossattention.self.value = shared.value

    def see(self, tokens: Tensor, mask: Tensor | None = None) -> Context:
        """Compute each layer's keys and values of the image that it looks at, once.

        Args:
            tokens: ``(2 B, N, E)``
            mask: ``(B, N)`` bool, True where a token of either image may be looked at.
        """
        images, first = tokens.chunk(2), self.config.fusion_layer
        layers = [
            layer.see(images[(index - first) % 2])  # type: ignore[operator]  # a BertLayer
            for index, layer in enumerate(self.encoder.layer)
        ]
        return Context(layers, None if mask is None else mask[:, None, None, :])
