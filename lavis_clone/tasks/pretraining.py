"""Learn from pairs of images and texts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.models.capabilities import Trains
from lavis_clone.tasks.base import BaseTask, Row

logger = logging.getLogger(__name__)


@registry.register_task("image_text_pretrain")
class ImageTextPretrainTask(BaseTask):
    """Only trains. What was learned is judged by the tasks that it was learned for."""

    name = "image_text_pretrain"
    evaluates_with = Trains
    key = "instance_id"

    def check(self, model: nn.Module | type[nn.Module], run: RunConfig) -> None:
        super().check(model, run)
        if run.evaluate:
            raise ValueError(f"run.evaluate: task {self.name!r} only trains")
        if splits := [*run.valid_splits, *run.test_splits]:
            logger.warning("task %r only trains; nothing is done with %s", self.name, splits)

    def valid_step(self, model: Any, samples: Mapping[str, Any]) -> list[Row]:  # noqa: ARG002
        return []

    def evaluation(self, model: Any, batches: Iterable[Mapping[str, Any]]) -> list[Row]:  # noqa: ARG002
        """No rows, and no batch is loaded."""
        return []

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:  # noqa: ARG002
        return {}
