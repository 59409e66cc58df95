"""The losses of an epoch, kept on the device until somebody looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Keys = Sequence[tuple[str, int]]
"""The data set and the index of each sample of a batch."""


class TrainingFailed(RuntimeError):
    """Training cannot go on, e.g. because the loss is not a number."""


class BadLoss(TrainingFailed):
    """The loss of a batch is infinite or not a number.

    Args:
        told: What happened, in one line.
        batch: Which batch of the epoch it was, counted from 1.
        keys: Its samples, as far as they are known.
    """

    def __init__(self, told: str, *, value: float, batch: int, keys: Keys) -> None:
        super().__init__(told)
        self.value, self.batch, self.keys = value, batch, keys


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
        self._keys: list[Keys] = []

    def add(self, output: Any, keys: Keys = ()) -> None:
        """Add what a model returned for one batch: ``loss`` and whatever else is called so."""
        for name in output.keys():  # noqa: SIM118  # an Output is no dict
            if name.startswith("loss"):
                value = output[name].detach().float()
                self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._new.append(output["loss"].detach().float())
        self._keys.append(keys)
        self.num_batches += 1

    @property
    def num_new(self) -> int:
        """Batches since the last look."""
        return len(self._new)

    def check(self) -> list[float]:
        """The losses since the last look.

        Raises:
            BadLoss: one of them is infinite or not a number.
        """
        values: list[float] = torch.stack(self._new).tolist() if self._new else []
        for index, value in enumerate(values):
            if not math.isfinite(value):
                batch = self.num_batches - len(values) + 1 + index
                raise BadLoss(
                    f"the loss is {value} in epoch {self.epoch}, batch {batch}; a lower "
                    "run.init_lr, a longer warm-up or run.precision=fp32 may help",
                    value=value,
                    batch=batch,
                    keys=self._keys[index],
                )
        return values

    def look(self) -> float:
        """The mean loss of the batches since the last look, of which there must be some.

        Raises:
            BadLoss: one of them is infinite or not a number.
        """
        values = self.check()
        self._new, self._keys = [], []
        return math.fsum(values) / len(values)

    def means(self) -> dict[str, float]:
        """The mean over all batches, by name."""
        return {name: value.item() / self.num_batches for name, value in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """All of it but the samples' keys, on the CPU."""
        return {
            "epoch": self.epoch,
            "num_batches": self.num_batches,
            "sums": {name: value.cpu() for name, value in self._sums.items()},
            "new": [value.cpu() for value in self._new],
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from such a state."""
        self.epoch, self.num_batches = state["epoch"], state["num_batches"]
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._new = [value.to(device) for value in state["new"]]
        self._keys = [()] * len(self._new)
