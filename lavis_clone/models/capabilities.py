"""What a task may ask of a model. A model offers a capability by having its methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lavis_clone.common.progress import Progress
from lavis_clone.models.outputs import GenerationOutput, ModelOutput


@runtime_checkable
class Trains(Protocol):
    """Gives a loss for a batch."""

    def forward(
        self, samples: Mapping[str, Any], progress: Progress | None = None
    ) -> ModelOutput: ...


@runtime_checkable
class Captions(Protocol):
    """Describes pictures in words."""

    def generate_with_confidence(
        self, samples: Mapping[str, Any], **options: Any
    ) -> GenerationOutput: ...


def require(model: object, capability: type, *, task: str) -> None:
    """Stop before any work if ``model`` cannot do what ``task`` needs.

    Raises:
        TypeError: naming the methods that are absent.
    """
    if not isinstance(model, capability):
        names = [n for n in vars(capability) if not n.startswith("_") and not hasattr(model, n)]
        raise TypeError(
            f"task {task!r} needs a model with {', '.join(f'{n}()' for n in names)}, "
            f"which {type(model).__name__} does not have"
        )
