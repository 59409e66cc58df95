"""Describe images in words."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import CaptioningOptions
from lavis_clone.models.capabilities import Captions
from lavis_clone.tasks.base import AGGREGATE, BaseTask, Row
from lavis_clone.tasks.metrics.caption import METRICS, score_captions

logger = logging.getLogger(__name__)

WITHOUT_JAVA = tuple(name for name in METRICS if name not in ("METEOR", "SPICE"))


@registry.register_task("captioning")
class CaptionTask(BaseTask):
    """Asks for captions and scores them against the references that the data set offers.

    Rows: ``image_id``, ``caption``, ``confidence``. ``agg_metrics`` is CIDEr + BLEU-4.
    """

    name = "captioning"
    evaluates_with = Captions
    key = "image_id"
    options: CaptioningOptions

    def check_data(self, dataset: Any) -> None:
        if not self.options.report_metric:
            return
        label = f"{getattr(dataset, 'name', '')}/{getattr(dataset, 'split', '')}".strip("/")
        shown = dataset.field_by_image(getattr(dataset, "media", "image"))
        without = sorted(shown.keys() - dataset.references().keys())
        if without:
            raise ValueError(
                f"{label}: {len(without)} pictures have no caption to compare with, e.g. "
                f"image_id {without[0]!r}; run.report_metric=False only writes captions"
            )
        if self.options.score_by is not None:
            try:
                dataset.field_by_image(self.options.score_by)
            except ValueError as error:
                raise ValueError(f"{label}: run.score_by: {error}") from error

    def valid_step(self, model: Captions, samples: Mapping[str, Any]) -> list[Row]:
        output = model.generate_with_confidence(
            samples,
            num_beams=self.options.num_beams,
            max_length=self.options.max_len,
            min_length=self.options.min_len,
        )
        ids, confidences = samples["image_id"], output.confidence.tolist()
        return [
            {"image_id": row_id(image_id), "caption": caption, "confidence": round(confidence, 6)}
            for image_id, caption, confidence in zip(ids, output.text, confidences, strict=True)
        ]

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """COCO's metrics, and ``exact_match``, the share of captions that are a reference.

        With ``score_by``, each value of that annotation field is scored apart, too, under names
        like ``seen=True/CIDEr``, but for the metrics that start Java. Without ``report_metric``
        nothing is scored.
        """
        if not self.options.report_metric:
            return {}
        references = {row_id(i): texts for i, texts in dataset.references().items()}
        scores = _scores(rows, references)
        name = self.options.score_by
        if name is not None:
            groups = {row_id(i): value for i, value in dataset.field_by_image(name).items()}
            for value in sorted(set(groups.values()), key=str):
                part = [row for row in rows if groups[row["image_id"]] == value]
                named = _scores(part, references, metrics=WITHOUT_JAVA) if part else {}
                scores |= {f"{name}={value}/{k}": v for k, v in named.items()}
        return scores


def row_id(image_id: Any) -> int | str:
    """An ``image_id`` as result files have it: COCO's are numbers, without zeros in front.

    >>> row_id("000000391895"), row_id("noto_1f600")
    (391895, 'noto_1f600')
    """
    text = str(image_id)
    return int(text) if text.isascii() and text.isdecimal() else text


def _scores(
    rows: Sequence[Row],
    references: Mapping[int | str, Sequence[str]],
    *,
    metrics: Sequence[str] | None = None,
) -> dict[str, float]:
    captions = {str(row["image_id"]): row["caption"] for row in rows}
    truths = {str(row["image_id"]): references[row["image_id"]] for row in rows}
    scores = text_scores(captions, truths, metrics=metrics)
    scores[AGGREGATE] = scores["CIDEr"] + scores["Bleu_4"]
    return scores


def text_scores(
    texts: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] | None = None,
) -> dict[str, float]:
    """COCO's metrics, and ``exact_match``, the share of texts that are a reference.

    Args:
        texts: What a model wrote, by id.
        references: What people wrote, by the same ids.
        metrics: Which of COCO's; None for all that can be computed here.
    """
    scored = score_captions(texts, references, metrics=metrics)
    for metric, reason in scored.not_computed.items():
        logger.info("%s is not computed: %s", metric, reason)
    scores = {name: float(value) for name, value in scored.overall.items()}
    matches = [_bare(text) in map(_bare, references[i]) for i, text in texts.items()]
    scores["exact_match"] = sum(matches) / len(matches)
    return scores


def _bare(text: str) -> str:
    """Without case and punctuation, which text processors take from what a model learns."""
    return " ".join(re.findall(r"\w+", text.lower()))
