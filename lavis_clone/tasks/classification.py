"""Sort samples into classes: NLVR2, SNLI-VE, ImageNet, answers as classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.models.capabilities import Classifies, ClassifiesByName
from lavis_clone.tasks.base import AGGREGATE, BaseTask, Row
from lavis_clone.tasks.checks import label_of, require_one
from lavis_clone.tasks.metrics.accuracy import accuracy, accuracy_by_class

MOST_CLASSES = 20
"""Of so many at most, each one's accuracy is a score of its own."""


@registry.register_task("multimodal_classification")
class MultimodalClassificationTask(BaseTask):
    """Takes the likeliest class of each sample.

    A model that is given its classes by name is given those of the data set.

    Rows: ``instance_id``, ``prediction``, ``target`` (None where the data set gives none),
    ``confidence``. ``agg_metrics`` is the accuracy, 0 to 1.
    """

    name = "multimodal_classification"
    evaluates_with = Classifies
    key = "instance_id"

    needs_names: bool = False
    """Whether the model that was checked is to be given the names of classes."""

    def check(self, model: nn.Module | type[nn.Module], run: RunConfig) -> None:
        super().check(model, run)
        example = model.__new__(model) if isinstance(model, type) else model
        self.needs_names = isinstance(example, ClassifiesByName)

    def check_data(self, dataset: Any) -> None:
        require_one(dataset, task=self.name)  # each counts its instance_id from 0
        if self.needs_names and not getattr(dataset, "classnames", None):
            raise ValueError(
                f"{label_of(dataset)}the model sorts pictures by the names of their classes, but "
                "the data set names none; give it class_names"
            )

    def evaluation(self, model: Classifies, batches: Iterable[Mapping[str, Any]]) -> list[Row]:
        names = getattr(getattr(batches, "dataset", None), "classnames", None)
        if names and isinstance(model, ClassifiesByName):
            model.set_classes(names)
        return super().evaluation(model, batches)

    def rehearse(self, model: Classifies, samples: Mapping[str, Any]) -> None:
        """Evaluate a batch of one; the names of its classes do not matter."""
        if isinstance(model, ClassifiesByName):
            model.set_classes(["this", "that"])
        super().rehearse(model, samples)

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
