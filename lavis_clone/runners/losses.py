"""The losses of an epoch, kept on the device until somebody looks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class TrainingFailed(RuntimeError):
    """Training cannot go on, e.g. because the loss is not a number."""


class EpochLosses:
    """Sums the losses of batches. Reading a number from a GPU waits for it, so that happens rarely.

    Args:
        epoch: For messages.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.num_batches = 0
        self._sums: dict[str, Tensor] = {}
        self._new: list[Tensor] = []

    def add(self, output: Any) -> None:
        """Add what a model returned for one batch: ``loss`` and whatever else is called so."""
        for name in output.keys():  # noqa: SIM118  # an Output is no dict
            if name.startswith("loss"):
                value = output[name].detach().float()
                self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._new.append(output["loss"].detach().float())
        self.num_batches += 1

    @property
    def num_new(self) -> int:
        """Batches since the last look."""
        return len(self._new)

    def look(self) -> float:
        """The mean loss of the batches since the last look, of which there must be some.

        Raises:
            TrainingFailed: one of them is infinite or not a number.
        """
        values = torch.stack(self._new).tolist()
        self._new = []
        for batch, value in enumerate(values, start=self.num_batches - len(values) + 1):
            if not math.isfinite(value):
                raise TrainingFailed(
                    f"the loss is {value} in epoch {self.epoch}, batch {batch}; a lower "
                    "run.init_lr, a longer warm-up or run.precision=fp32 may help"
                )
        return math.fsum(values) / len(values)

    def means(self) -> dict[str, float]:
        """The mean over all batches, by name."""
        return {name: value.item() / self.num_batches for name, value in self._sums.items()}
