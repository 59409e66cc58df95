"""BLEU: the share of a caption's n-grams that occur in a reference, less a penalty for brevity."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from lavis_clone.tasks.metrics.ngrams import Score, Tokens, check_pairs, count_ngrams

# COCO's guards against division by zero; they show in the scores of very short captions.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(
    predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]], *, max_order: int = 4
) -> list[Score]:
    """BLEU-1 to BLEU-``max_order`` as in pycocoevalcap, between 0 and 1.

    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002. The
    overall score adds up counts over all captions before it divides. The brevity penalty compares
    with the reference that is closest in length, the shorter of two equally close.

    Args:
        predictions: One caption per image, in tokens (``ptb.tokenize``).
        references: The image's references, in tokens; one or more.

    Returns:
        The scores of orders 1, 2, ..., ``max_order``.

    Raises:
        ValueError: no captions, or a caption without references.
    """
    check_pairs(predictions, references)
    per_item: list[list[float]] = []
    all_found, all_given = [0] * max_order, [0] * max_order
    length = reference_length = 0
    for prediction, own_references in zip(predictions, references, strict=True):
        size = len(prediction)
        found = _clipped_matches(prediction, own_references, max_order)
        given = [max(0, size - n) for n in range(max_order)]
        closest = min((abs(len(ref) - size), len(ref)) for ref in own_references)[1]
        per_item.append(_scores(found, given, size, closest))
        all_found = [a + b for a, b in zip(all_found, found, strict=True)]
        all_given = [a + b for a, b in zip(all_given, given, strict=True)]
        length += size
        reference_length += closest
    overall = _scores(all_found, all_given, length, reference_length)
    return [Score(overall[n], [item[n] for item in per_item]) for n in range(max_order)]


def _clipped_matches(prediction: Tokens, references: Sequence[Tokens], max_order: int) -> list[int]:
    """For each order: n-grams found, each at most as often as in the reference with most of it."""
    counted = [count_ngrams(reference, max_order) for reference in references]
    found = []
    for n, counts in enumerate(count_ngrams(prediction, max_order)):
        others = [orders[n] for orders in counted]
        found.append(
            sum(min(count, max(o[ngram] for o in others)) for ngram, count in counts.items())
        )
    return found


def _scores(
    found: Sequence[int], given: Sequence[int], length: int, reference_length: int
) -> list[float]:
    ratio = (length + _TINY) / (reference_length + _SMALL)
    penalty = exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n, (good, total) in enumerate(zip(found, given, strict=True), start=1):
        product *= (good + _TINY) / (total + _SMALL)
        scores.append(product ** (1 / n) * penalty)
    return scores
