"""A model that learns: one optimizer step after another, and all that they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common.context import RunContext
from lavis_clone.common.lora import add_lora, merged_state
from lavis_clone.common.optim import build_optimizer, freeze, set_lr
from lavis_clone.common.precision import autocast, grad_scaler
from lavis_clone.common.progress import Progress
from lavis_clone.common.schema import RunConfig
from lavis_clone.runners.averages import WeightAverage, evaluated_state
from lavis_clone.runners.feed import Fed, num_samples
from lavis_clone.runners.losses import EpochLosses, TrainingFailed
from lavis_clone.runners.strategy import Strategy
from lavis_clone.tasks.base import BaseTask

logger = logging.getLogger(__name__)

MAX_REASON = 200
"""Letters of torch's lists of names."""


def to_device(value: Any, device: torch.device) -> Any:
    """Move every tensor inside dicts, lists and tuples; the rest stays as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item, device) for item in value)
    return value


class Training:
    """The model as it is trained, its optimizer, scaler and average.

    Args:
        model: On its device. Weights that ``run`` freezes stop learning; ``run.lora`` adds layers.

    Raises:
        ValueError: ``run`` names weights or layers that the model does not have.
    """

    def __init__(
        self, run: RunConfig, *, task: BaseTask, model: nn.Module, context: RunContext
    ) -> None:
        self.run, self.device = run, context.device
        self.frozen = freeze(model, run.freeze)
        if run.lora is not None:
            add_lora(model, run.lora)
        self._train_step: Callable[..., Any] = task.train_step
        if run.compile == "model":
            model.compile()
        elif run.compile == "step":
            self._train_step = torch.compile(task.train_step)
        self.strategy = Strategy.of(run, context)
        self.model = self.strategy.prepare(model)
        self.bare = self.strategy.unwrap(self.model)
        self.optimizer = build_optimizer(self.bare, run)
        self.scaler = grad_scaler(context.device, run.precision)
        self.average = None if run.ema is None else WeightAverage(self.bare, run.ema)

    def to_train_mode(self) -> None:
        """Training mode for all but what is frozen."""
        self.model.train()
        for module in self.frozen:
            module.eval()

    def step(
        self, group: Sequence[Fed], progress: Progress, rate: float, losses: EpochLosses
    ) -> int:
        """One optimizer step on the mean loss over all samples of a group of batches.

        Args:
            rate: The learning rate, before any group's own factor.

        Returns:
            The number of samples.
        """
        set_lr(self.optimizer, rate)
        counts = [num_samples(fed.samples) for fed in group]
        for number, (fed, count) in enumerate(zip(group, counts, strict=True), start=1):
            is_last = number == len(group)
            with nullcontext() if is_last else self.strategy.accumulating(self.model):
                with autocast(self.device, self.run.precision):
                    samples = to_device(fed.samples, self.device)
                    output = self._train_step(self.model, samples, progress)
                share = count / sum(counts)
                self.scaler.scale(output["loss"] * share).backward()
            losses.add(output, fed.keys)
        if self.run.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            self.strategy.clip_grad_norm(self.model, self.run.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        return sum(counts)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Within the block the model has the weights that are judged."""
        averaged = nullcontext() if self.average is None else self.average.applied()
        with averaged, self.strategy.evaluating(self.model):
            yield

    # --- what is kept ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it; ``weights`` and ``average`` only if ``model`` is another.

        Every process must call it.
        """
        weights = self.strategy.model_state(self.model)
        average = None if self.average is None else self.strategy.whole(self.average.values)
        judged = weights if average is None else evaluated_state(self.bare, weights, average)
        if self.run.lora is not None:
            with self.evaluated():
                judged = merged_state(self.bare, judged)
        is_other = self.average is not None or self.run.lora is not None
        return {
            "model": judged,
            "optimizer": self.strategy.optimizer_state(self.model, self.optimizer),
            "scaler": self.scaler.state_dict() if self.scaler.is_enabled() else None,
            "weights": weights if is_other else None,
            "average": average,
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint holds.

        Raises:
            TrainingFailed: it does not fit the model, or what the run asks for.
        """
        self._load(content, self.optimizer)
        if self.scaler.is_enabled() and content["scaler"]:
            self.scaler.load_state_dict(content["scaler"])

    def load_weights(self, content: Mapping[str, Any]) -> None:
        """Take the weights and their average of a checkpoint, to be judged.

        Raises:
            TrainingFailed: they do not fit the model, or what the run asks for.
        """
        self._load(content, None)

    def _load(self, content: Mapping[str, Any], optimizer: torch.optim.Optimizer | None) -> None:
        resume = content["resume"]
        if (resume["average"] is None) != (self.average is None):
            raise TrainingFailed("run.ema: the checkpoint is of a run with it, or without it")
        weights = content["model"] if resume["weights"] is None else resume["weights"]
        state = {"model": weights, "optimizer": content["optimizer"]}
        try:
            self.strategy.load(self.model, optimizer, state)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:MAX_REASON]
            raise TrainingFailed(f"the checkpoint does not fit this run: {reason}") from error
        if self.average is not None:
            own = self.average.values
            self.average.load(self.strategy.own(resume["average"], own))

    def load_foreign(self, content: Mapping[str, Any]) -> None:
        """Take weights and, where it fits, the optimizer of a checkpoint that LAVIS wrote.

        It holds no weights that were frozen; those stay as they are.

        Raises:
            TrainingFailed: it lacks weights that learn, or has others.
        """
        own = self.bare.state_dict(keep_vars=True)
        missing = [n for n, v in own.items() if n not in content["model"] and v.requires_grad]
        extra = [name for name in content["model"] if name not in own]
        if missing or extra:
            raise TrainingFailed(
                f"the checkpoint does not fit this run: it lacks {len(missing)} weights that learn "
                f"and has {len(extra)} unknown ones, e.g. {[*missing, *extra][0]}"
            )
        try:
            weights = {**{k: v.detach() for k, v in own.items()}, **content["model"]}
            state = {"model": weights, "optimizer": content.get("optimizer")}
            self.strategy.load(self.model, self.optimizer, state)
        except ValueError as error:  # the weights are in place by then
            logger.warning("the optimizer starts anew, as its groups were others: %s", error)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:MAX_REASON]
            raise TrainingFailed(f"the checkpoint does not fit this run: {reason}") from error
        if self.average is not None:
            self.average = WeightAverage(self.bare, self.run.ema or 0.0)
