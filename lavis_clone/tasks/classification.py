"""Sort samples into classes: NLVR2, SNLI-VE, ImageNet, answers as classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.models.capabilities import Classifies
from lavis_clone.tasks.base import AGGREGATE, BaseTask, Row
from lavis_clone.tasks.checks import require_one
from lavis_clone.tasks.metrics.accuracy import accuracy, accuracy_by_class

MOST_CLASSES = 20
"""Of so many at most, each one's accuracy is a score of its own."""


@registry.register_task("multimodal_classification")
class MultimodalClassificationTask(BaseTask):
    """Takes the likeliest class of each sample.

    Rows: ``instance_id``, ``prediction``, ``target`` (None where the data set gives none),
    ``confidence``. ``agg_metrics`` is the accuracy, 0 to 1.
    """

    name = "multimodal_classification"
    evaluates_with = Classifies
    key = "instance_id"

    def check_data(self, dataset: Any) -> None:
        require_one(dataset, task=self.name)  # each counts its instance_id from 0

    def valid_step(self, model: Classifies, samples: Mapping[str, Any]) -> list[Row]:
        output = model.predict(samples)
        predictions = output.predictions.argmax(dim=1).tolist()
        given = output.targets if output.targets is not None else samples.get("label")
        targets = [None] * len(predictions) if given is None else given.tolist()
        columns = (samples["instance_id"], predictions, targets, output.confidence.tolist())
        return [
            {"instance_id": i, "prediction": p, "target": t, "confidence": round(c, 6)}
            for i, p, t, c in zip(*columns, strict=True)
        ]

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """``acc``, ``class_acc`` (the mean over classes) and, of few classes, ``acc/<name>``.

        {} without ground truth.
        """
        known = [row for row in rows if row["target"] is not None]
        if not known:
            return {}
        pairs = [row["prediction"] for row in known], [row["target"] for row in known]
        overall, by_class = accuracy(*pairs), accuracy_by_class(*pairs)
        scores = {AGGREGATE: overall, "acc": overall}
        scores["class_acc"] = sum(by_class.values()) / len(by_class)
        if len(by_class) <= MOST_CLASSES:
            names = dict(enumerate(getattr(dataset, "classnames", ())))
            scores |= {f"acc/{names.get(c, c)}": value for c, value in by_class.items()}
        return scores
