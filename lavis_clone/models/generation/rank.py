"""Chooses from a closed list of answers the one that a model would most readily write.

A look at the scores of one next token keeps the answers that begin most likely; those are read in
full, and the one with the least loss wins. As all begin with the same token, that one is read once
for a question, and what would come after an end token is not asked.

It knows ids and scores, not images, tokenizers or families.
Shapes: B questions, A answers of the list, K of them compared, G of those read at once, T tokens, V
vocabulary.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TOKENS_AT_ONCE = 1024
"""Tokens that are read in one call; their scores of all words take V times 4 bytes each."""
FEW_TOKENS = 64
"""So many cost hardly more than one does: shorter answers are read along with them."""


class AnswerReader(Protocol):
    """Scores the words of answers to B questions, all of which begin with the same token."""

    def first(self) -> Tensor:
        """``(B, V)`` scores of the token after the start; called once, before ``after``."""

    def after(self, tokens: Tensor, needed: Tensor) -> Tensor:
        """Scores of what comes after each token.

        Args:
            tokens: ``(B, G, T)`` from the one after the start on.
            needed: ``(B, G, T)`` bool, with n True values.

        Returns:
            ``(n, V)`` scores after the needed ones.
        """


@dataclass(frozen=True)
class Ranking:
    """The answers that were chosen."""

    best: Tensor
    """``(B,)`` places in the list."""
    confidence: Tensor
    """``(B,)`` share among the answers that were compared: the softmax of minus their losses."""
    log_prob: Tensor
    """``(B,)`` log-probability of the whole answer, its end included."""


@torch.no_grad()
def rank(
    reader: AnswerReader,
    tokens: Tensor,
    lengths: Tensor,
    *,
    num_candidates: int,
    label_smoothing: float,
) -> Ranking:
    """Choose an answer to each question.

    Args:
        tokens: ``(A, T)`` ids of the list: start, answer, end, padding.
        lengths: ``(A,)`` tokens of each, with start and end.
        num_candidates: Answers to compare in full, chosen by their first token; of a shorter list
            all.
        label_smoothing: Share of the target that is spread over the vocabulary.

    Raises:
        ValueError: the list is empty, or ``num_candidates`` less than 1.
    """
    if not len(tokens):
        raise ValueError("the list of answers to choose from is empty")
    if num_candidates < 1:
        raise ValueError(f"num_ans_candidates must be at least 1, got {num_candidates}")
    first = reader.first().float()  # (B, V)
    begins = first.softmax(dim=1)[:, tokens[:, 1]]  # (B, A)
    compared = begins.topk(min(num_candidates, len(tokens)), dim=1).indices  # (B, K)
    order = lengths[compared].argsort(dim=1, descending=True, stable=True)
    compared = compared.gather(1, order)
    num_after = lengths[compared] - 2  # (B, K) tokens between start and end
    log_prob, spread = _log_probs(first, tokens[compared, 1])  # (B, K), and (B, 1)
    spread = spread.repeat(1, compared.shape[1])
    for columns, length in _portions(num_after.amax(dim=0).tolist(), len(first)):
        ids = tokens[compared[:, columns], 1 : length + 2]  # (B, G, T + 1)
        needed = torch.arange(length, device=ids.device) < num_after[:, columns, None]
        scores = reader.after(ids[..., :-1], needed).float()  # (n, V)
        parts = _log_probs(scores, ids[..., 1:][needed][:, None])
        for total, part in zip((log_prob, spread), parts, strict=True):
            at_each = torch.zeros(needed.shape, device=ids.device)
            at_each[needed] = part[:, 0]
            total[:, columns] += at_each.sum(dim=2)
    negative_loss = (1 - label_smoothing) * log_prob + label_smoothing * spread
    share, best = negative_loss.softmax(dim=1).max(dim=1)
    best = best[:, None]
    return Ranking(compared.gather(1, best)[:, 0], share, log_prob.gather(1, best)[:, 0])


def _log_probs(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of words, and on average over the vocabulary.

    Args:
        scores: ``(N, V)``
        targets: ``(N, K)`` words.

    Returns:
        ``(N, K)`` and ``(N, 1)``
    """
    total = scores.logsumexp(dim=1, keepdim=True)
    return scores.gather(1, targets) - total, scores.mean(dim=1, keepdim=True) - total


def _portions(lengths: Sequence[int], rows: int) -> Iterator[tuple[slice, int]]:
    """Parts of about equal length: columns, and the longest's length.

    Args:
        lengths: Tokens to be read in each column, falling; columns without any are left out.
        rows: B, answers in a column.
    """
    start = 0
    while start < len(lengths) and lengths[start]:
        length = lengths[start]
        alike = bisect_right(lengths, -length, lo=start, key=lambda other: -other)
        enough = start + -(-FEW_TOKENS // (rows * length))
        most = start + max(1, TOKENS_AT_ONCE // (rows * length))
        end = min(max(alike, enough), most, len(lengths))
        yield slice(start, end), length
        start = end
