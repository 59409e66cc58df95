"""The base classes of tasks that were written for LAVIS.

A subclass has LAVIS's methods: ``setup_task(cfg)``, ``train_step(model, samples)``,
``valid_step(model, samples)``, ``before_evaluation``, ``after_evaluation(val_result, split_name,
epoch)``. The runner is ours, and calls ours: each of them is turned into the one or the other here.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from lavis_clone.common.files import write_atomic
from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.common.task_options import (
    TASK_OPTIONS,
    CaptioningOptions,
    DialogueOptions,
    NoOptions,
    RetrievalOptions,
    VqaOptions,
)
from lavis_clone.job import build_datasets
from lavis_clone.migration.adapting import run_block, takes_progress, with_progress
from lavis_clone.tasks import base
from lavis_clone.tasks.base import AGGREGATE, Row
from lavis_clone.tasks.captioning import CaptionTask as OwnCaptionTask
from lavis_clone.tasks.classification import MultimodalClassificationTask as OwnClassification
from lavis_clone.tasks.dialogue import DialogueTask as OwnDialogueTask
from lavis_clone.tasks.pretraining import ImageTextPretrainTask as OwnPretrainTask
from lavis_clone.tasks.retrieval import RetrievalTask as OwnRetrievalTask
from lavis_clone.tasks.vqa import AokVqaTask, GqaTask, VqaTask


@dataclass(frozen=True, kw_only=True)
class LavisOptions:
    """Keys of ``run:`` that a task of one's own may read, as LAVIS's tasks do."""

    num_beams: int = 5
    max_len: int = 30
    min_len: int = 1
    report_metric: bool = True
    inference_method: str = "rank"
    num_ans_candidates: int = 128
    prompt: str = ""
    k_test: int = 256


def setup_task(cfg: Any) -> Any:
    """The task that a run's config names.

    Args:
        cfg: LAVIS's ``Config``, or the ``run:`` block that ``load_config`` gives.

    Raises:
        UnknownName: no task has that name.
    """
    run = cfg if isinstance(cfg, RunConfig) else cfg.own.run
    task = registry.get_task_class(run.task).setup_task(run)
    if not isinstance(task, LavisMethods):  # one of ours, of which a script may ask the same
        task.build_model = build_model
        task.build_datasets = build_task_datasets
    return task


def build_model(cfg: Any) -> Any:
    """The model of a run's config."""
    return registry.get_model_class(cfg.own.model["arch"]).from_config(cfg.own.model)


def build_task_datasets(cfg: Any) -> dict[str, dict[str, Any]]:
    """The data sets of a run's config, by name and split."""
    splits = registry.get_runner_class(cfg.own.run.runner).splits(cfg.own.run)
    return build_datasets(cfg.own.datasets, splits)


class LavisMethods:
    """LAVIS's methods on a task of ours."""

    Options: ClassVar[type] = NoOptions
    """The keys of ``run:`` that it has."""
    inst_id_key = "instance_id"
    _split: Any = None
    _epoch: int = 0

    def __init__(self, options: Any = None, **given: Any) -> None:
        if options is None:
            known = self.Options.__dataclass_fields__  # type: ignore[attr-defined]  # a dataclass
            options = self.Options(**{key: given[key] for key in known if key in given})
        super().__init__(options)  # type: ignore[call-arg]  # of the task that stands behind it

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        found = vars(cls).get("setup_task")
        if isinstance(found, classmethod):
            setattr(cls, "setup_task", classmethod(_given_lavis_config(found.__func__)))  # noqa: B010
        step = vars(cls).get("train_step")
        if step is not None and not takes_progress(step):
            setattr(cls, "train_step", _told_progress(step))  # noqa: B010

    def build_model(self, cfg: Any) -> Any:
        """The model of a run's config."""
        return build_model(cfg)

    def build_datasets(self, cfg: Any) -> dict[str, dict[str, Any]]:
        """The data sets of a run's config, by name and split."""
        return build_task_datasets(cfg)

    def train_step(
        self, model: Any, samples: Mapping[str, Any], progress: Progress | None = None
    ) -> Any:
        """The loss of a batch; without ``progress``, as LAVIS gives it: and all losses by name."""
        output = model(samples) if progress is None else model(samples, progress=progress)
        if progress is not None:
            return output
        return output["loss"], {key: output[key] for key in output.keys() if "loss" in key}  # noqa: SIM118

    def before_training(self, model: Any = None, dataset: Any = None, **options: Any) -> None:
        """LAVIS's place for what is done once; the runner of ours does not come to it."""

    def before_evaluation(self, model: Any, dataset: Any, **options: Any) -> None:
        """LAVIS's place for what is done before a split is evaluated."""

    def evaluation(
        self,
        model: Any,
        data_loader: Iterable[Mapping[str, Any]],
        cuda_enabled: bool = True,  # noqa: ARG002  # the runner knows the device
    ) -> list[Row]:
        """A row for each sample."""
        self.before_evaluation(model=model, dataset=getattr(data_loader, "dataset", None))
        rows: list[Row] = super().evaluation(model, data_loader)  # type: ignore[misc]  # as above
        return rows

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """What ``after_evaluation`` says of the rows of a split."""
        self._split = dataset
        split = getattr(dataset, "split", "")
        found = self.after_evaluation(val_result=list(rows), split_name=split, epoch=self._epoch)
        return {key: float(value) for key, value in (found or {}).items()}

    def after_evaluation(self, val_result: list[Row], **_options: Any) -> Any:
        """The scores of a split, ``agg_metrics`` among them."""
        return super().score(val_result, self._split)  # type: ignore[misc]  # as above

    @staticmethod
    def save_result(
        result: list[Row], result_dir: str | Path, filename: str, remove_duplicate: str = ""
    ) -> str:
        """Write rows as JSON, and say where.

        Args:
            remove_duplicate: The field that tells rows apart, of which the first stays.
        """
        rows = result
        if remove_duplicate:
            first: dict[Any, Row] = {}
            for row in result:
                first.setdefault(row[remove_duplicate], row)
            rows = list(first.values())
        path = Path(result_dir) / f"{filename}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(rows))
        return str(path)


class BaseTask(LavisMethods, base.BaseTask):
    """A task of one's own. All models and data sets will do for it."""

    name = "task"
    evaluates_with = object
    Options = LavisOptions

    def valid_step(self, model: Any, samples: Mapping[str, Any]) -> list[Row]:
        raise NotImplementedError(f"{type(self).__name__} must define valid_step")

    def after_evaluation(self, val_result: list[Row], **_options: Any) -> Any:  # noqa: ARG002
        return {AGGREGATE: 0.0}

    def unique(self, rows: Iterable[Row]) -> list[Row]:
        """All of them: ``save_result`` takes out what is there twice."""
        return list(rows)


class CaptionTask(LavisMethods, OwnCaptionTask):
    """Captions."""

    Options = CaptioningOptions


class DialogueTask(LavisMethods, OwnDialogueTask):
    """Dialogue."""

    Options = DialogueOptions


class ImageTextPretrainTask(LavisMethods, OwnPretrainTask):
    """Pre-training."""

    Options = TASK_OPTIONS.get("image_text_pretrain", NoOptions)


class MultimodalClassificationTask(LavisMethods, OwnClassification):
    """Classes."""

    Options = TASK_OPTIONS.get("multimodal_classification", NoOptions)


class RetrievalTask(LavisMethods, OwnRetrievalTask):
    """Retrieval."""

    Options = RetrievalOptions


class VQATask(LavisMethods, VqaTask):
    """Answers."""

    Options = VqaOptions


class AOKVQATask(LavisMethods, AokVqaTask):
    """Answers of A-OKVQA."""

    Options = VqaOptions


class GQATask(LavisMethods, GqaTask):
    """Answers of GQA."""

    Options = VqaOptions


def _given_lavis_config(original: Callable[..., Any]) -> Callable[..., Any]:
    """``setup_task(cfg)`` that finds ``cfg.run_cfg``, whoever calls it."""

    @functools.wraps(original)
    def setup(cls: type, cfg: Any = None, **options: Any) -> Any:
        if isinstance(cfg, RunConfig):
            cfg = SimpleNamespace(own=SimpleNamespace(run=cfg), run_cfg=run_block(cfg))
        return original(cls, cfg=cfg, **options)

    return setup


def _told_progress(step: Callable[..., Any]) -> Callable[..., Any]:
    """``train_step(model, samples)`` that gives what the runner of ours takes."""

    @functools.wraps(step)
    def told(
        self: Any, model: Any, samples: Mapping[str, Any], progress: Progress | None = None
    ) -> Any:
        if progress is None:
            return step(self, model, samples)
        self._epoch = progress.whole_epochs
        found = step(self, model, with_progress(samples, progress))
        if not isinstance(found, tuple):
            return {"loss": found}
        loss, parts = found
        return {**parts, "loss": loss}

    return told
