"""Muon for the matrices of a model, AdamW for the rest, as one optimizer.

Muon (Jordan et al., https://kellerjordan.github.io/posts/muon) is for the matrices between layers.
Its updates are scaled to AdamW's size (https://arxiv.org/abs/2502.16982), so that one learning rate
and one weight decay serve both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

SCALED = "match_rms_adamw"
"""torch's name for that size."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Steps both of torch's optimizers, each on its own groups; state and groups are held here.

    Args:
        groups: Each with ``params``, ``weight_decay`` and ``is_matrix``, which says whose it is.
        momentum: Muon's.
        betas: AdamW's.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
    ) -> None:
        self._parts: list[tuple[bool, torch.optim.Optimizer]] = []
        super().__init__(groups, {"lr": lr})
        makers: tuple[tuple[bool, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]], ...] = (
            (True, lambda g: torch.optim.Muon(g, lr=lr, momentum=momentum, adjust_lr_fn=SCALED)),
            (False, lambda g: torch.optim.AdamW(g, lr=lr, betas=betas)),
        )
        for is_matrix, make in makers:
            if own := self._of(is_matrix):
                self._parts.append((is_matrix, make(own)))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """One step of both."""
        if closure is not None:
            raise ValueError("this optimizer takes no closure")
        for is_matrix, part in self._parts:
            part.param_groups = self._of(is_matrix)  # loading a state puts new ones here
            part.state = self.state
            part.step()
        return None

    def _of(self, is_matrix: bool) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["is_matrix"] == is_matrix]
