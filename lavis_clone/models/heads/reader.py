"""Reads answers from a list, word by word, for one of them to be chosen.

Shapes: Q questions, G answers to each, R texts (R = Q * G), T tokens, H heads, K width of a head, V
vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lavis_clone.models.encoders.bert import Context
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.layers.attention import KeyValue
from lavis_clone.models.layers.cache import KeyValueCache


class Reader:
    """The ``AnswerReader`` of a language model: what all answers begin with is read once.

    Args:
        start: ``(Q, 1)`` the first token of every answer.
        context: Q questions.
    """

    def __init__(self, model: LanguageModel, start: Tensor, context: Context) -> None:
        self.model, self.start, self.context = model, start, context.contiguous()
        self.cache = SharedStart(model.bert.config.num_hidden_layers)

    def first(self) -> Tensor:
        states = self.model.bert(self.start, context=self.context, cache=self.cache)
        return self.model.cls.predictions(states[:, -1])

    def after(self, tokens: Tensor, needed: Tensor) -> Tensor:
        rows = tokens.flatten(0, 1)  # each G consecutive ones are about one question
        states = self.model.bert(rows, context=self.context, cache=self.cache)
        return self.model.cls.predictions(states[needed.flatten(0, 1)])


class SharedStart(KeyValueCache):
    """Keys and values of what several texts begin with, held once for all of them.

    Takes in what is read first. Texts that go on from there see it, and are not kept.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers, capacity=0)
        self._held: list[KeyValue] = []

    def append(self, layer: int, new: KeyValue) -> KeyValue:
        """``(R, H, t, K)`` behind the start: ``(R, H, start + t, K)``, R a multiple of its rows."""
        if not self.length:
            self._held.append(new)
            if layer == self.num_layers - 1:
                self.length = new.key.shape[2]
            return new
        start = self._held[layer]
        group = len(new.key) // len(start.key)
        return KeyValue(
            torch.cat([start.key.repeat_interleave(group, dim=0), new.key], dim=2),
            torch.cat([start.value.repeat_interleave(group, dim=0), new.value], dim=2),
        )
