"""FSDP2: each process has a part of each weight, of its gradient and of its optimizer's state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common import dist, sharding
from lavis_clone.common.context import RunContext
from lavis_clone.common.schema import RunConfig
from lavis_clone.runners.strategy import Strategy

EPSILON = 1e-6
"""In the divisor of gradients that are clipped, as torch has it."""


class Sharded(Strategy):
    """Each process has a part of each weight, and gets the rest when it is needed (FSDP2).

    With ``fsdp_hybrid`` the processes of one machine share a copy of the model.
    """

    def __init__(self, run: RunConfig, context: RunContext) -> None:
        super().__init__(run, context)
        self._mesh = sharding.build_mesh(
            context.device.type, hybrid=run.strategy == "fsdp_hybrid", size=run.shard_size
        )
        self._averages = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Shard ``model``, which stays the same object.

        Scalars stay whole, with their gradients averaged here. Momentum copies are updated before
        each step, where weights and copies are in their parts.
        """
        dist.align(model)
        scalars = sharding.shard(model, self._mesh)
        for scalar in scalars:
            if scalar.requires_grad:
                scalar.register_post_accumulate_grad_hook(self._average)
        if hasattr(model, "update_momentum"):
            copied: Any = model
            copied.follows_ahead = True
            model.register_forward_pre_hook(_follow, prepend=True)
        return model

    def unwrap(self, model: nn.Module) -> nn.Module:
        return model

    @contextmanager
    def accumulating(self, model: nn.Module) -> Iterator[None]:
        self._averages = False
        sharding.set_gradient_sync(model, on=False)
        try:
            yield
        finally:
            self._averages = True
            sharding.set_gradient_sync(model, on=True)

    @torch.no_grad()
    def clip_grad_norm(self, model: nn.Module, max_norm: float) -> Tensor:
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norm = sharding.norm_of(grads)
        own = [dist.local(grad) for grad in grads]
        torch._foreach_mul_(own, (max_norm / (norm + EPSILON)).clamp(max=1.0))
        return norm

    def evaluating(self, model: nn.Module) -> AbstractContextManager[None]:
        """All processes have all weights within the block, as they may have different work."""
        dist.average_statistics(model)
        return sharding.gathered(model)

    def model_state(self, model: nn.Module) -> dict[str, Tensor]:
        dist.average_statistics(model)
        sharding.reshard(model)
        return super().model_state(model)

    def optimizer_state(
        self,
        model: nn.Module,  # noqa: ARG002
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, Any]:
        state = optimizer.state_dict()
        return state | {"state": {i: self._whole_or_not(s) for i, s in state["state"].items()}}

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.run.sharded_checkpoints:
            return super().whole(tensors)
        found = ((name, dist.whole(value.detach())) for name, value in tensors.items())
        if self.context.is_main:
            return {name: value.cpu() for name, value in found}
        for _ in found:  # one after the other, to be let go of
            pass
        return {}

    def own(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: sharding.spread(value, like[name]) if name in like else value
            for name, value in tensors.items()
        }

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        state: Mapping[str, Any],
    ) -> None:
        sharding.reshard(model)
        super().load(model, optimizer, state)

    def _optimizer_part(
        self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
    ) -> dict[str, Any]:
        weights = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
        return {
            **state,
            "state": {
                index: {
                    name: sharding.spread(value, weights[index])
                    if isinstance(value, Tensor) and index in weights
                    else value
                    for name, value in found.items()
                }
                for index, found in state["state"].items()
            },
        }

    def _whole_or_not(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of one weight, of which only some is as large as the weight."""
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        return {**state, **self.whole(tensors)}

    def _average(self, scalar: Tensor) -> None:
        """What was averaged before stays as it is, so that it may be called several times."""
        if self._averages and scalar.grad is not None:
            scalar.grad.copy_(dist.all_reduce_sum(scalar.grad) / dist.world_size())


def _follow(model: Any, _args: Any) -> None:
    """Before a step: nothing is gathered, and momentum copies follow part by part."""
    if model.training and model.needs_copies:
        sharding.reshard(model)
        model.update_momentum()
