"""The scores of the COCO caption challenge.

Equal to pycocoevalcap's on the same captions in the same order, but faster and, METEOR and SPICE
aside, without Java. References: Chen et al., "Microsoft COCO Captions: Data Collection and
Evaluation Server", 2015, and the papers named at each metric.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lavis_clone.tasks.metrics.bleu import bleu
from lavis_clone.tasks.metrics.cider import cider
from lavis_clone.tasks.metrics.java import NotComputed, meteor, spice
from lavis_clone.tasks.metrics.ngrams import Score, Tokens
from lavis_clone.tasks.metrics.ptb import tokenize_all
from lavis_clone.tasks.metrics.rouge import rouge_l

__all__ = [
    "METRICS",
    "CaptionScores",
    "bleu",
    "cider",
    "meteor",
    "rouge_l",
    "score_captions",
    "spice",
]

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")

Id = TypeVar("Id", bound=Hashable)
_Metric = Callable[[Sequence[Tokens], Sequence[Sequence[Tokens]]], Score]
_JAVA_METRICS: dict[str, _Metric] = {"METEOR": meteor, "SPICE": spice}


@dataclass(frozen=True)
class CaptionScores:
    """Scores by the names that COCO gives the metrics, in COCO's order.

    Attributes:
        overall: Of the whole set.
        per_item: Of each image's caption, by its id.
        not_computed: Metrics that were asked for but lack something, each with the reason.
    """

    overall: dict[str, float]
    per_item: dict[str, dict[Hashable, float]]
    not_computed: dict[str, str]


def score_captions(
    predictions: Mapping[Id, str],
    references: Mapping[Id, Sequence[str]],
    *,
    metrics: Sequence[str] | None = None,
) -> CaptionScores:
    """Score one caption per image against the image's references.

    The texts are taken as people or models wrote them: they are tokenized here, as pycocoevalcap
    does. An empty prediction scores 0 in everything (ROUGE-L: 1 beside an empty reference). CIDEr
    depends on the whole set.

    Args:
        predictions: A caption for each image id. Their order does not matter.
        references: One or more captions for each image id. Their order matters as little as in
            pycocoevalcap: see ``ptb.tokenize_all``.
        metrics: Which of ``METRICS`` to compute; None for all.

    Raises:
        ValueError: an unknown metric, no images, an image without prediction or references, or
            something else than text.
    """
    wanted = METRICS if metrics is None else tuple(metrics)
    for name in wanted:
        if name not in METRICS:
            raise ValueError(f"unknown caption metric {name!r}, expected {', '.join(METRICS)}")
    _check(predictions, references)
    ids = list(references)
    given = tokenize_all([predictions[i] for i in ids])
    flat = iter(tokenize_all([text for i in ids for text in references[i]]))
    expected = [[next(flat) for _ in references[i]] for i in ids]

    scores, not_computed = _compute(wanted, given, expected)
    return CaptionScores(
        overall={name: score.overall for name, score in scores.items()},
        per_item={
            name: dict(zip(ids, score.per_item, strict=True)) for name, score in scores.items()
        },
        not_computed=not_computed,
    )


def _compute(
    wanted: Sequence[str], predictions: list[list[str]], references: list[list[list[str]]]
) -> tuple[dict[str, Score], dict[str, str]]:
    """Scores by name in COCO's order, and the reasons of those that there are not."""
    scores: dict[str, Score] = {}
    reasons: dict[str, str] = {}
    words = [_words(tokens) for tokens in predictions]
    reference_words = [[_words(tokens) for tokens in own] for own in references]
    if any(name.startswith("Bleu") for name in wanted):
        for order, score in enumerate(bleu(words, reference_words), start=1):
            scores[f"Bleu_{order}"] = score
    if "ROUGE_L" in wanted:
        scores["ROUGE_L"] = rouge_l(predictions, references)
    if "CIDEr" in wanted:
        scores["CIDEr"] = cider(words, reference_words)
    for name, metric in _JAVA_METRICS.items():
        if name not in wanted:
            continue
        try:
            scores[name] = metric(predictions, references)
        except NotComputed as error:
            reasons[name] = str(error)
    return {name: scores[name] for name in METRICS if name in wanted and name in scores}, reasons


def _words(tokens: list[str]) -> list[str]:
    """Tokens as pycocoevalcap's BLEU and CIDEr see them: a space inside a token divides it."""
    return " ".join(tokens).split()


def _check(predictions: Mapping[Id, str], references: Mapping[Id, Sequence[str]]) -> None:
    if not references and not predictions:
        raise ValueError("there are no captions to score")
    lonely = [i for i in predictions if i not in references]
    silent = [i for i in references if i not in predictions]
    for ids, problem in (
        (lonely, "predictions have no references"),
        (silent, "images have no prediction"),
    ):
        if ids:
            raise ValueError(f"{len(ids)} {problem}, e.g. {ids[0]!r}{_type_hint(lonely, silent)}")
    for i, caption in predictions.items():
        if not isinstance(caption, str):
            raise ValueError(f"the prediction of {i!r} is {caption!r}, expected one text")
        texts = references[i]
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the references of {i!r} are {texts!r}, expected a list of texts")
        if not texts:
            raise ValueError(f"image {i!r} has no references, expected one or more")


def _type_hint(lonely: Sequence[Hashable], silent: Sequence[Hashable]) -> str:
    """Point out ids that differ in their type alone, such as 7 and "7"."""
    if lonely and {str(i) for i in lonely} & {str(i) for i in silent}:
        kinds = (type(lonely[0]).__name__, type(silent[0]).__name__)
        return f" (ids of predictions are {kinds[0]}, of references {kinds[1]})"
    return ""
