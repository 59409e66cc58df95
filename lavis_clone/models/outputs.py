"""What models return, one set for all families. A new field gets a name here before it is used.

Shapes: B images, N image tokens, T text tokens, D width, V vocabulary, R generated texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


class Output:
    """Gives a dataclass the reading half of a mapping: ``out["loss"]`` is ``out.loss``.

    Fields that are None are absent: ``keys()`` leaves them out and ``out["x"]`` raises KeyError.
    """

    def keys(self) -> Iterator[str]:
        return (f.name for f in fields(self) if getattr(self, f.name) is not None)  # type: ignore[arg-type]  # subclasses are dataclasses

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in set(self.keys())

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def items(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.keys())

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.keys() else default


@dataclass
class LanguageModelOutput(Output):
    """What a text decoder says about a text that it was shown whole."""

    logits: Tensor
    """``(B, T, V)``; the scores at position t are for the token at t + 1."""
    loss: Tensor | None = None
    """Cross entropy; scalar, or ``(B,)`` sums when asked for unreduced."""


@dataclass
class IntermediateOutput(Output):
    """What a training step went through, for inspection."""

    image_embeds: Tensor | None = None
    """``(B, N, D)`` image tokens."""
    decoder_output: LanguageModelOutput | None = None
    decoder_labels: Tensor | None = None
    """``(B, T)`` token ids; -100 where no loss is taken."""


@dataclass
class ModelOutput(Output):
    """The result of a training step."""

    loss: Tensor
    """Scalar to differentiate: the sum of the ``loss_*`` fields."""
    loss_lm: Tensor | None = None
    """Language modelling."""
    intermediate_output: IntermediateOutput | None = None


@dataclass
class GenerationOutput(Output):
    """Texts that a model wrote, each with how sure it was."""

    text: list[str]
    """R texts; several of one image stand next to each other, best first."""
    confidence: Tensor
    """``(R,)`` geometric mean of the probabilities of the written tokens, in (0, 1]."""
    log_prob: Tensor
    """``(R,)`` log-probability of the whole text under the model, its end included."""
    token_ids: Tensor
    """``(R, T)`` prompt and text; padded after the end."""
