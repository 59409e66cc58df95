"""Tasks: one step of training, and how a model's answers are asked for and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lavis_clone.common.registry import registry

if TYPE_CHECKING:
    from lavis_clone.common.schema import RunConfig
    from lavis_clone.tasks.base import BaseTask

__all__ = ["setup_task"]

registry.tasks.declare(
    {
        "aok_vqa": "lavis_clone.tasks.vqa",
        "captioning": "lavis_clone.tasks.captioning",
        "dialogue": "lavis_clone.tasks.dialogue",
        "gqa": "lavis_clone.tasks.vqa",
        "image_text_pretrain": "lavis_clone.tasks.pretraining",
        "multimodal_classification": "lavis_clone.tasks.classification",
        "retrieval": "lavis_clone.tasks.retrieval",
        "vqa": "lavis_clone.tasks.vqa",
    }
)


def setup_task(run: RunConfig) -> BaseTask:
    """The task that ``run.task`` names, with its options.

    Raises:
        UnknownName: No task has that name.
    """
    return registry.get_task_class(run.task).setup_task(run)
