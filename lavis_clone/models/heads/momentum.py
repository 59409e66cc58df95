"""Copies of a model's parts that follow them slowly, and teach them.

He et al., https://arxiv.org/abs/1911.05722; as teachers: Li et al., https://arxiv.org/abs/2107.07651.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common import dist
from lavis_clone.common.progress import Progress, ramp_up
from lavis_clone.models.layers.recompute import keep_activations
from lavis_clone.models.weights import LoadReport


@dataclass(frozen=True, kw_only=True)
class MomentumFields:
    """What the block of a model with momentum copies may hold."""

    use_distill: bool = True
    """Whether the copies' opinions are part of the targets."""
    momentum: float = 0.995
    """Share of itself that a copy keeps at each step."""
    alpha: float = 0.4
    """Weight of the copies' opinions in the targets, once it has risen from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # mixed into a VisionTextConfig
        for name in ("momentum", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 1]")


class MomentumCopies(nn.Module):
    """Mixed into a model: each part ``x`` gets a copy ``x_m`` without gradients."""

    copied: tuple[str, ...]
    """Names of the parts."""
    follows_ahead: bool = False
    """Whether whoever calls the model updates the copies before, since within a step it cannot be
    done: the weights are spread over several processes."""
    config: Any

    def make_momentum_copies(self, *names: str) -> None:
        """Copy the parts with these names; call it when they are complete."""
        self.copied = names
        for name in names:
            twin = copy.deepcopy(getattr(self, name))
            keep_activations(twin)
            self.add_module(f"{name}_m", twin.requires_grad_(False))

    @property
    def needs_copies(self) -> bool:
        """Whether a step asks the copies."""
        return bool(self.config.use_distill)

    def follow(self) -> None:
        """Let the copies follow within a step, unless that was done before it."""
        if not self.follows_ahead:
            self.update_momentum()

    @torch.no_grad()
    def update_momentum(self) -> None:
        """Draw the copies a little towards the parts: ``m <- momentum m + (1 - momentum) x``."""
        pairs = list(self._pairs())
        copies = [dist.local(m) for _, m in pairs]
        parts = [dist.local(p.detach()) for p, _ in pairs]
        torch._foreach_lerp_(copies, parts, 1 - self.config.momentum)

    @torch.no_grad()
    def reset_momentum(self, *names: str) -> None:
        """Make the copies of these parts equal to them."""
        for name in names:
            part, twin = self.get_submodule(name), self.get_submodule(f"{name}_m")
            twin.load_state_dict(part.state_dict())

    def after_start(self) -> None:
        self.reset_momentum(*self.copied)

    def after_load(self, report: LoadReport) -> None:
        """Copies that a file does not hold whole start as equals of their parts."""
        left = {name.partition(".")[0] for name in report.left_at_init}
        self.reset_momentum(*(name for name in self.copied if f"{name}_m" in left))

    def distillation(
        self, samples: Mapping[str, Any], progress: Progress | None, *, epochs: float
    ) -> float:
        """The copies' weight in the targets, which rises linearly over the first ``epochs``."""
        if not self.config.use_distill:
            return 0.0
        progress = progress or Progress.of_samples(samples)
        ramp = 1.0 if progress is None else ramp_up(progress, epochs=epochs)
        alpha: float = self.config.alpha
        return alpha * ramp

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name in self.copied:
            part, twin = self.get_submodule(name), self.get_submodule(f"{name}_m")
            yield from zip(part.parameters(), twin.parameters(), strict=True)
