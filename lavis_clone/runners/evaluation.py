"""Answers and scores of a split, and the files that they go to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lavis_clone.common import dist
from lavis_clone.common.context import RunContext
from lavis_clone.common.files import write_atomic
from lavis_clone.common.precision import autocast
from lavis_clone.common.schema import RunConfig
from lavis_clone.runners.feed import Loader
from lavis_clone.runners.hooks import progress_bar
from lavis_clone.runners.training import to_device
from lavis_clone.tasks.base import BaseTask

logger = logging.getLogger(__name__)


class Evaluation:
    """Lets a task judge a model on the splits of a run.

    Args:
        loaders: Batches by split.
    """

    def __init__(
        self,
        run: RunConfig,
        *,
        task: BaseTask,
        loaders: Mapping[str, Loader],
        context: RunContext,
    ) -> None:
        self.run, self.task, self.loaders, self.context = run, task, loaders, context

    def split(self, model: nn.Module, split: str, *, label: str) -> dict[str, float]:
        """Answer and score a split.

        Args:
            label: For the name of the result file, after the split's.
        """
        loader = self.loaders[split]
        model.eval()
        with torch.no_grad(), autocast(self.context.device, self.run.precision):
            rows = self.task.rows(model, DeviceBatches(loader, split, self.context.device))
        scores: dict[str, float] = {}
        if self.context.is_main:
            self._write({f"result/{split}_{label}.json": rows, **self.task.files(rows)})
            scores = self.task.score(rows, loader.dataset)
            logger.info("%s: %s", split, {k: round(v, 4) for k, v in scores.items()})
        return dist.broadcast(scores)

    def _write(self, files: Mapping[str, Any]) -> None:
        for name, content in files.items():
            text = json.dumps(content, ensure_ascii=False, default=str)
            write_atomic(self.context.output_dir / name, text)


class DeviceBatches:
    """A split's batches on a device, as often as they are asked for."""

    def __init__(self, loader: Loader, label: str, device: torch.device) -> None:
        self._loader, self._label, self._device = loader, label, device
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        with progress_bar(self._label, total=len(self._loader)) as bar:
            for samples in self._loader:
                yield to_device(samples, self._device)
                bar.update()
