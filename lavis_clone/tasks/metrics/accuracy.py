"""Accuracy: the share of answers that are the right one, between 0 and 1."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Class = TypeVar("Class", bound=Hashable)


def accuracy(predictions: Sequence[Hashable], targets: Sequence[Hashable]) -> float:
    """The share of predictions that equal their target.

    Raises:
        ValueError: none at all, or not as many of one as of the other.
    """
    if not predictions:
        raise ValueError("there are no predictions to score")
    pairs = zip(predictions, targets, strict=True)
    return sum(prediction == target for prediction, target in pairs) / len(predictions)


def accuracy_by_class(
    predictions: Sequence[Hashable], targets: Sequence[Class]
) -> dict[Class, float]:
    """The accuracy among the samples of each class that occurs, by class, in order.

    Raises:
        ValueError: none at all, or not as many of one as of the other.
    """
    hits: dict[Class, list[bool]] = {}
    for prediction, target in zip(predictions, targets, strict=True):
        hits.setdefault(target, []).append(prediction == target)
    if not hits:
        raise ValueError("there are no predictions to score")
    return {target: sum(hits[target]) / len(hits[target]) for target in sorted(hits)}  # type: ignore[type-var]  # classes are numbers or names
