"""ROUGE-L: how much of a caption and of a reference is their longest common subsequence."""

from __future__ import annotations

from collections.abc import Sequence

from lavis_clone.tasks.metrics.ngrams import Score, Tokens, check_pairs, mean_score

_NO_TOKENS = ("",)  # pycocoevalcap takes a caption without tokens for one empty token


def rouge_l(
    predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]], *, beta: float = 1.2
) -> Score:
    """ROUGE-L as in pycocoevalcap, between 0 and 1; overall, the mean.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL workshop 2004. Of several
    references the best precision and the best recall count, even from different ones. As in
    pycocoevalcap, two captions without tokens agree perfectly.

    Args:
        predictions: One caption per image, in tokens (``ptb.tokenize``).
        references: The image's references, in tokens; one or more.
        beta: Weight of recall against precision.

    Raises:
        ValueError: no captions, or a caption without references.
    """
    check_pairs(predictions, references)
    return mean_score(
        [
            _score(prediction or _NO_TOKENS, [ref or _NO_TOKENS for ref in own], beta)
            for prediction, own in zip(predictions, references, strict=True)
        ]
    )


def _score(prediction: Tokens, references: Sequence[Tokens], beta: float) -> float:
    places: dict[str, int] = {}  # bit i of places[t]: token t stands at i
    for i, token in enumerate(prediction):
        places[token] = places.get(token, 0) | 1 << i
    precision = recall = 0.0
    for reference in references:
        common = _common_subsequence(places, len(prediction), reference)
        precision = max(precision, common / len(prediction))
        recall = max(recall, common / len(reference))
    if precision == 0.0:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _common_subsequence(places: dict[str, int], length: int, other: Tokens) -> int:
    """Length of the longest common subsequence, a row of the usual table at a time.

    Hyyrö, "Bit-Parallel LCS-length Computation Revisited", 2004: bit i of ``row`` is 0 where the
    table grows from column i to i + 1.
    """
    every = (1 << length) - 1
    row = every
    for token in other:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & every
    return length - row.bit_count()
