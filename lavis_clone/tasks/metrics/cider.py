"""CIDEr: how alike a caption and the references are in the n-grams that set the image apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log, sqrt
from typing import NamedTuple

from lavis_clone.tasks.metrics.ngrams import (
    NGram,
    Score,
    Tokens,
    check_pairs,
    count_ngrams,
    mean_score,
)

_SCALE = 10.0  # by which CIDEr is always multiplied


class _Vector(NamedTuple):
    """The n-grams of one order, by weight (TF-IDF), and the vector's length."""

    weights: dict[NGram, float]
    norm: float


def cider(
    predictions: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    max_order: int = 4,
    sigma: float = 6.0,
) -> Score:
    """CIDEr(-D) as in pycocoevalcap, between 0 and 10; overall, the mean.

    Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015, in its
    version D. N-grams are rare or common among the images given, so a score depends on the set
    that it is part of; a set of one image scores 0, since nothing sets that image apart.

    Args:
        predictions: One caption per image, in tokens (``ptb.tokenize``).
        references: The image's references, in tokens; one or more.
        max_order: Longest n-gram.
        sigma: Width of the penalty for a length other than the reference's.

    Raises:
        ValueError: no captions, or a caption without references.
    """
    check_pairs(predictions, references)
    counted = [[count_ngrams(ref, max_order) for ref in own] for own in references]
    log_images = log(len(references))
    rarity = {
        ngram: log_images - log(frequency)
        for ngram, frequency in _document_frequencies(counted).items()
    }
    per_item: list[float] = []
    for prediction, own_references, own_counts in zip(
        predictions, references, counted, strict=True
    ):
        own = _vectors(count_ngrams(prediction, max_order), rarity, log_images)
        total = 0.0
        for counts, reference in zip(own_counts, own_references, strict=True):
            others = _vectors(counts, rarity, log_images)
            # As in pycocoevalcap, length is counted in 2-grams: captions of 0 and 1 tokens agree.
            difference = max(0, len(prediction) - 1) - max(0, len(reference) - 1)
            likeness = sum(_likeness(a, b) for a, b in zip(own, others, strict=True))
            total += likeness * exp(-(difference**2) / (2 * sigma**2))
        per_item.append(_SCALE * total / max_order / len(own_counts))
    return mean_score(per_item)


def _document_frequencies(counted: Sequence[Sequence[list[Counter[NGram]]]]) -> Counter[NGram]:
    """In how many images' references each n-gram occurs."""
    frequencies: Counter[NGram] = Counter()
    for own_counts in counted:
        frequencies.update({ngram for orders in own_counts for c in orders for ngram in c})
    return frequencies


def _vectors(
    orders: Sequence[Counter[NGram]], rarity: dict[NGram, float], unseen: float
) -> list[_Vector]:
    """One vector per order; an n-gram of no reference is as rare as one of a single image."""
    vectors = []
    for counts in orders:
        weights = {ngram: n * rarity.get(ngram, unseen) for ngram, n in counts.items()}
        vectors.append(_Vector(weights, sqrt(sum(w * w for w in weights.values()))))
    return vectors


def _likeness(prediction: _Vector, reference: _Vector) -> float:
    """Cosine of two vectors, where a surplus of an n-gram in the prediction earns nothing."""
    norms = prediction.norm * reference.norm
    if norms == 0.0:
        return 0.0
    other = reference.weights
    product = sum(
        min(weight, other[ngram]) * other[ngram]
        for ngram, weight in prediction.weights.items()
        if ngram in other
    )
    return product / norms
