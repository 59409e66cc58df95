"""A scorer of next tokens that is a table, and beam search written as plainly as it can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lavis_clone.models.generation.options import GenerationOptions

EOS, PAD, NUM_STATES = 1, 0, 211


State = TypeVar("State", int, Tensor)


def next_state(state: State, token: State) -> State:
    """What a text's history is boiled down to; every token of it matters."""
    return (state * 31 + token + 7) % NUM_STATES


@dataclass
class Table:
    """Scores of the next token for each context and history. C contexts, V vocabulary."""

    scores: Tensor
    """``(C, NUM_STATES, V)``"""

    @classmethod
    def random(cls, seed: int, *, contexts: int, vocabulary: int, end_bonus: float) -> Table:
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(contexts, NUM_STATES, vocabulary, generator=generator) * 2
        scores[:, :, EOS] += end_bonus
        return cls(scores)

    def __getitem__(self, contexts: slice) -> Table:
        return Table(self.scores[contexts])

    def plain(self, context: int, tokens: Sequence[int]) -> np.ndarray:
        """``(V,)`` log-probabilities, from the whole history."""
        state = 0
        for token in tokens:
            state = next_state(state, token)
        return self.scores[context, state].log_softmax(dim=0).numpy()

    def scorer(self) -> TableScorer:
        return TableScorer(self.scores)


class TableScorer:
    """The table behind the protocol of ``TokenScorer``: it remembers each text's state."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.states = torch.zeros(len(scores), dtype=torch.long)
        self.rows_scored = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        assert len(tokens) == len(self.states), "as many rows as select_rows left"
        for column in tokens.unbind(dim=1):
            self.states = next_state(self.states, column)
        self.rows_scored += len(tokens)
        contexts = torch.arange(len(self.scores))
        contexts = contexts.repeat_interleave(len(tokens) // len(self.scores))
        return self.scores[contexts, self.states]

    def select_rows(self, rows: Tensor) -> None:
        self.states = self.states[rows]

    def select_contexts(self, contexts: Tensor) -> None:
        self.scores = self.scores[contexts]


@dataclass
class Text:
    """What a search ends with."""

    score: np.float32
    tokens: list[int]
    log_prob: np.float32
    ended: bool


@dataclass
class Pool:
    """The ``size`` best texts so far, best first."""

    size: int
    texts: list[Text] = field(default_factory=list)

    def add(self, text: Text) -> None:
        if len(self.texts) < self.size or text.score > self.texts[-1].score:
            self.texts.append(text)
            self.texts.sort(key=lambda t: -t.score)
            del self.texts[self.size :]

    def is_final(self, best_sum: np.float32, length: int, penalty: float) -> bool:
        full = len(self.texts) == self.size
        return full and bool(self.texts[-1].score >= best_sum / np.float32(length**penalty))


def penalise(plain: np.ndarray, tokens: Sequence[int], options: GenerationOptions) -> np.ndarray:
    """The repetition penalty and the minimal length, a token at a time."""
    scores, penalty = plain.copy(), np.float32(options.repetition_penalty)
    for token in set(tokens):
        scores[token] = plain[token] * penalty if plain[token] < 0 else plain[token] / penalty
    if len(tokens) < options.min_length:
        scores[EOS] = -np.inf
    return scores


def reference(
    table: Table, context: int, prompt: Sequence[int], options: GenerationOptions
) -> list[Text]:
    """Beam search for one prompt with lists, in float32, best text first."""
    width, penalty = options.num_beams, options.length_penalty
    pool, beams = Pool(width), [Text(np.float32(0), list(prompt), np.float32(0), False)]
    while True:
        length = len(beams[0].tokens)
        candidates = []
        for beam in beams:
            plain = table.plain(context, beam.tokens)
            scores = beam.score + penalise(plain, beam.tokens, options)
            sums = beam.log_prob + plain
            candidates += [(scores[v], sums[v], beam.tokens, v) for v in range(len(plain))]
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * width]
        beams = []
        for rank, (score, log_prob, tokens, token) in enumerate(candidates):
            if token == EOS:
                if rank < width:
                    pool.add(Text(score / np.float32(length**penalty), tokens, log_prob, True))
            elif len(beams) < width:
                beams.append(Text(score, [*tokens, token], log_prob, False))
        if pool.is_final(candidates[0][0], length, penalty):
            return pool.texts
        if length + 1 >= options.max_length:
            for beam in beams:
                ceiling = np.float32((length + 1) ** penalty)
                pool.add(Text(beam.score / ceiling, beam.tokens, beam.log_prob, False))
            return pool.texts
