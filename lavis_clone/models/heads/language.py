"""The language-modelling head, and a BERT that reads and writes with it.

Shapes: R text rows, T tokens, D width, V vocabulary, B contexts (R = B * G).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.models.encoders.bert import BertConfig, BertModel, Context
from lavis_clone.models.layers.cache import KeyValueCache
from lavis_clone.models.layers.linear import Linear
from lavis_clone.models.outputs import LanguageModelOutput

IGNORED = -100  # the label of a token that no loss is taken on


class Transform(nn.Module):
    """What happens to a state before it is compared with every word."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))


class Predictions(nn.Module):
    """Scores of every word; the word vectors are the embeddings themselves."""

    def __init__(self, config: BertConfig, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.decoder = Linear(config.hidden_size, config.vocab_size)
        self.decoder.weight = word_embeddings.weight  # tied
        nn.init.zeros_(self.decoder.bias)
        self.bias = self.decoder.bias  # its second name in checkpoints

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D) -> (..., V)``"""
        return self.decoder(self.transform(x))


class LanguageHead(nn.Module):
    """Holds the predictions under the name that checkpoints use."""

    def __init__(self, config: BertConfig, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        self.predictions = Predictions(config, word_embeddings)


class LanguageModel(nn.Module):
    """A BERT with a language-modelling head: a decoder, when used causally.

    Args:
        bert: None for an ordinary one of these sizes.
    """

    def __init__(self, config: BertConfig, bert: BertModel | None = None) -> None:
        super().__init__()
        self.bert = BertModel(config) if bert is None else bert
        self.cls = LanguageHead(config, self.bert.embeddings.word_embeddings)
        dense = self.cls.predictions.transform.dense
        nn.init.normal_(dense.weight, std=config.initializer_range)
        nn.init.zeros_(dense.bias)

    def forward(
        self,
        input_ids: Tensor,
        *,
        mask: Tensor,
        labels: Tensor,
        context: Context,
        label_smoothing: float = 0.1,
        reduction: Literal["mean", "sum_per_row"] = "mean",
    ) -> LanguageModelOutput:
        """Score a text that is known whole, and take the loss of each next token.

        Args:
            input_ids: ``(R, T)``
            mask: ``(R, T)`` bool, True on real tokens.
            labels: ``(R, T)``, -100 where no loss is taken.
            context: What the text is about.
            label_smoothing: Share of the target spread over the whole vocabulary.
            reduction: ``mean`` over all tokens that count, or each row's sum, ``(R,)``.
        """
        states = self.bert(input_ids, mask=mask, context=context, causal=True)
        logits = self.cls.predictions(states)  # (R, T, V)
        loss = F.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            labels[:, 1:].flatten(),
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="mean" if reduction == "mean" else "none",
        )
        if reduction == "sum_per_row":
            loss = loss.view(len(input_ids), -1).sum(dim=1)
        return LanguageModelOutput(logits=logits, loss=loss)

    def writer(self, context: Context, *, max_length: int) -> Writer:
        """A scorer of next tokens for ``generation``: it remembers what was written.

        Raises:
            ValueError: The model has no positions for ``max_length`` tokens.
        """
        limit = self.bert.config.max_position_embeddings
        if max_length > limit:
            raise ValueError(
                f"max_length ({max_length}) must be at most the model's {limit} positions"
            )
        return Writer(self, context, max_length=max_length)


class Writer:
    """Scores the next token of texts about a context, reading each token only once."""

    def __init__(self, model: LanguageModel, context: Context, *, max_length: int) -> None:
        self.model, self.context = model, context.contiguous()
        self.cache = KeyValueCache(model.bert.config.num_hidden_layers, max_length)

    def __call__(self, tokens: Tensor) -> Tensor:
        """``(R, t)`` tokens that come next -> ``(R, V)`` scores of the token after them."""
        states = self.model.bert(tokens, context=self.context, cache=self.cache)
        return self.model.cls.predictions(states[:, -1])

    def select_rows(self, rows: Tensor) -> None:
        """Row i goes on from what row ``rows[i]`` has written."""
        self.cache.select(rows)

    def select_contexts(self, contexts: Tensor) -> None:
        """Forget the contexts whose texts are finished."""
        self.context = self.context.select(contexts)
