"""How a model and its optimizer are spread over the processes of a job.

The loop knows nothing of processes but what stands here. ``Strategy`` is for one process;
``Replicated`` (DDP) gives every process all of the model, ``Sharded`` (FSDP2) a part of each
weight, of its gradient and of its optimizer's state. What a checkpoint holds is the same with each
of them, so that a run can go on with another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common import dist
from lavis_clone.common.context import RunContext
from lavis_clone.common.schema import RunConfig
from lavis_clone.common.shards import ShardWriter
from lavis_clone.runners.checkpoints import write_checkpoint


class Strategy:
    """One process has all of the model.

    Args:
        run: The ``run:`` block.
        context: Facts about this process.
    """

    def __init__(self, run: RunConfig, context: RunContext) -> None:
        self.run, self.context = run, context
        self._writer: ShardWriter | None = None

    @classmethod
    def of(cls, run: RunConfig, context: RunContext) -> Strategy:
        """The strategy that a run asks for; in one process all are the same."""
        if context.world_size == 1:
            return cls(run, context)
        if not run.strategy.startswith("fsdp"):
            return Replicated(run, context)
        from lavis_clone.runners.sharded import Sharded  # loads much of torch

        return Sharded(run, context)

    @staticmethod
    def problems(run: RunConfig, world_size: int) -> list[str]:
        """What ``run`` asks for that so many processes cannot do, one line each."""
        if world_size == 1 or run.evaluate or not run.train_splits:
            return []
        is_sharded = run.strategy.startswith("fsdp")
        told = [
            (
                f"strategy: none trains in one process, but there are {world_size}; take ddp, or "
                "start one",
                run.strategy == "none",
            ),
            (
                "precision: fp16 scales losses, which fsdp does not; take bf16, or strategy ddp",
                is_sharded and run.precision == "fp16",
            ),
            (
                f"optimizer: {run.optimizer} looks at whole weights, which fsdp spreads; take "
                "adamw or sgd, or strategy ddp",
                is_sharded and run.optimizer not in ("adamw", "sgd"),
            ),
            (
                "lora: is for strategy ddp; what it trains is small, so that fsdp spares little",
                is_sharded and run.lora is not None,
            ),
        ]
        return [line for line, holds in told if holds]

    def prepare(self, model: nn.Module) -> nn.Module:
        """What the training loop calls in place of ``model``, which is on its device already."""
        return model

    def unwrap(self, model: nn.Module) -> nn.Module:
        """The model that ``prepare`` was given."""
        return dist.unwrap(model)

    def accumulating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Backward passes in the block keep their gradients to this process."""
        return dist.no_sync(model)

    def clip_grad_norm(self, model: nn.Module, max_norm: float) -> Tensor:
        """Scale the gradients down to a norm of ``max_norm`` over all processes.

        Returns:
            The norm that they had; a scalar on the device, as reading it would wait for the GPU.
        """
        return nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    def evaluating(self, model: nn.Module) -> AbstractContextManager[None]:  # noqa: ARG002
        """Within the block each process can call any part of the model, as often as it likes.

        Every process must come to its end; weights must not change in it.
        """
        return nullcontext()

    def model_state(self, model: nn.Module) -> dict[str, Tensor]:
        """All weights and buffers by their public names, on the CPU, to be written at once.

        Every process must call it; only the main one gets the answer.
        """
        return self.whole(self.unwrap(model).state_dict())

    def optimizer_state(
        self,
        model: nn.Module,  # noqa: ARG002
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, Any]:
        """The whole state of the optimizer. Every process must call it."""
        return optimizer.state_dict()

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights, or what was made of them one by one, to be saved: whole, and on the CPU.

        With ``run.sharded_checkpoints`` each process has its part of them, and saves it. Every
        process must call it; otherwise only the main one gets the answer.
        """
        if self.run.sharded_checkpoints:
            return {name: value.detach() for name, value in tensors.items()}
        return {name: value.detach().cpu() for name, value in tensors.items()}

    def own(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """The opposite of ``whole``: this process's part of each, spread as ``like`` is.

        Args:
            tensors: Whole, in every process.
        """
        return dict(tensors)

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        state: Mapping[str, Any],
    ) -> None:
        """Put a checkpoint's ``model`` and, unless it is None, its ``optimizer`` in place.

        Raises:
            RuntimeError: the weights' names or shapes do not fit.
            ValueError: the optimizer's groups do not fit.
        """
        bare = self.unwrap(model)
        bare.load_state_dict(self.own(state["model"], bare.state_dict()))
        if optimizer is not None and state.get("optimizer") is not None:
            optimizer.load_state_dict(self._optimizer_part(optimizer, state["optimizer"]))

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a checkpoint; as a folder with ``run.sharded_checkpoints``. Every process must.

        Raises:
            NoSpace: it cannot be written.
        """
        if self.run.sharded_checkpoints:
            if self._writer is None:
                self._writer = ShardWriter(in_background=self.run.sharded_checkpoints == "async")
            self._writer.write(path, content)
        elif self.context.is_main:
            write_checkpoint(path, content)

    def settle(self) -> None:
        """Wait until what was saved is whole, for all to see. Every process must call it."""
        if self._writer is not None:
            self._writer.wait()
        self.barrier()

    def any(self, flags: Iterable[bool]) -> list[bool]:
        """For each flag whether it is up in any process. Every process must call it."""
        return dist.agree(flags)

    def barrier(self) -> None:
        """Wait for every process to come here."""
        dist.barrier()

    def _optimizer_part(
        self,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
        state: Mapping[str, Any],
    ) -> dict[str, Any]:
        """This process's part of an optimizer's whole state."""
        return dict(state)


class Replicated(Strategy):
    """Each process has all of the model; gradients are averaged (DDP)."""

    def prepare(self, model: nn.Module) -> nn.Module:
        return dist.replicate(model)

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        dist.average_statistics(model)
        yield

    def model_state(self, model: nn.Module) -> dict[str, Tensor]:
        dist.average_statistics(model)
        return super().model_state(model)
