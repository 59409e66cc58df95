"""A moving average of a model's weights, which is often better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lavis_clone.common import dist


class WeightAverage:
    """``average <- decay * average + (1 - decay) * weight`` for each weight that learns.

    It starts as the weights themselves, so that with a fresh model it lags by some
    ``1 / (1 - decay)`` steps. Buffers are the model's own.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.values: dict[str, Tensor] = {n: p.detach().clone() for n, p in self._weights.items()}
        self._draw = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Draw the average towards the weights; call it after each optimizer step."""
        weights = [dist.local(p.detach()) for p in self._weights.values()]
        self._draw([dist.local(value) for value in self.values.values()], weights, 0)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages within the block, and after it exactly what it had before."""
        before = {name: p.detach().clone() for name, p in self._weights.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(before)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take kept averages in place of its own."""
        with torch.no_grad():
            for name, own in self.values.items():
                own.copy_(values[name])

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])


def evaluated_state(
    model: nn.Module, state: Mapping[str, Tensor], averages: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """``state`` with averages in place of weights, under every name that a weight has."""
    names = {id(p): name for name, p in model.named_parameters()}
    own = model.state_dict(keep_vars=True)
    owners = {key: names.get(id(value), "") for key, value in own.items()}
    return {key: averages.get(owners.get(key, ""), value) for key, value in state.items()}
