"""The base class of models that were written for LAVIS."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lavis_clone.common.files import config_file
from lavis_clone.common.progress import Progress
from lavis_clone.migration.adapting import (
    as_omegaconf,
    takes_configs,
    takes_progress,
    with_progress,
)
from lavis_clone.models import base


class BaseModel(base.BaseModel):
    """A model whose ``from_config`` reads an OmegaConf, and whose ``forward`` takes a batch alone.

    In training the batch says how far training is: ``epoch``, ``iters``, ``num_iters_per_epoch``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        takes_configs(cls)
        forward = vars(cls).get("forward")
        if forward is not None and not takes_progress(forward):
            cls.forward = _told_progress(forward)

    @classmethod
    def default_config_path(cls, model_type: str) -> str:
        """The YAML file of a model type.

        Raises:
            KeyError, FileError: there is no such type, or no such file.
        """
        return str(config_file(cls.PRETRAINED_MODEL_CONFIG_DICT[model_type]))

    def load_checkpoint_from_config(self, cfg: Any, **_options: Any) -> None:
        """Load what a ``model:`` block names, the ``finetuned`` weights before the ``pretrained``.

        Raises:
            WeightError: they do not fit.
        """
        block = as_omegaconf(cfg)
        if block.get("load_finetuned", True) and block.get("finetuned"):
            self.load_checkpoint(block.finetuned)
        elif block.get("load_pretrained", True) and block.get("pretrained"):
            self.load_from_pretrained(block.pretrained)

    def get_optimizer_params(
        self, weight_decay: float, lr_scale: float = 1
    ) -> list[dict[str, Any]]:
        """The weights in two groups: matrices, and what is not decayed."""
        groups: list[dict[str, Any]] = [
            {"params": [], "weight_decay": decay, "lr_scale": lr_scale}
            for decay in (weight_decay, 0.0)
        ]
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                is_decayed = parameter.ndim > 1 and "bias" not in name
                groups[0 if is_decayed else 1]["params"].append(parameter)
        return groups

    def show_n_params(self, return_str: bool = True) -> str | int:
        """How many weights there are: a number, or in millions, e.g. ``"224.0M"``."""
        count = sum(parameter.numel() for parameter in self.parameters())
        if not return_str:
            return count
        return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}K"

    def before_training(self, **options: Any) -> None:
        """LAVIS's place for what is done once; a subclass may call it on its base."""

    def before_evaluation(self, **options: Any) -> None:
        """The same before an evaluation."""


def tile(x: Tensor, dim: int, n_tile: int) -> Tensor:
    """Repeat each slice of one axis ``n_tile`` times, copies side by side."""
    return x.repeat_interleave(n_tile, dim=dim)


def _told_progress(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def told(
        self: nn.Module,
        samples: Mapping[str, Any],
        *arguments: Any,
        progress: Progress | None = None,
        **options: Any,
    ) -> Any:
        given = samples if progress is None else with_progress(samples, progress)
        return forward(self, given, *arguments, **options)

    return told
