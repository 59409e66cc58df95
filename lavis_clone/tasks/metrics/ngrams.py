"""What the metrics of captions share: their inputs, their result and the counting of n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

Tokens = Sequence[str]
NGram = tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """One metric of a set of captions.

    Attributes:
        overall: Of the whole set.
        per_item: Of each caption, in the order given.
    """

    overall: float
    per_item: list[float]


def mean_score(per_item: list[float]) -> Score:
    """The score that is the mean of the captions' (summed exactly: their order does not matter)."""
    return Score(fsum(per_item) / len(per_item), per_item)


def check_pairs(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    """Raise ``ValueError`` unless there is a prediction, and each has references of its own."""
    if not predictions:
        raise ValueError("there are no captions to score")
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} captions, but references for {len(references)}; expected as many"
        )
    without = [i for i, refs in enumerate(references) if not refs]
    if without:
        raise ValueError(f"caption {without[0]} has no reference ({len(without)} such captions)")


def count_ngrams(tokens: Tokens, max_order: int) -> list[Counter[NGram]]:
    """How often each n-gram occurs; the list's first entry counts 1-grams."""
    shifted = [tokens[i:] for i in range(max_order)]
    return [Counter(zip(*shifted[:n], strict=False)) for n in range(1, max_order + 1)]
