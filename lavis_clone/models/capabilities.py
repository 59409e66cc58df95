"""What a task may ask of a model. A model offers a capability by having its methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lavis_clone.common.progress import Progress
from lavis_clone.models.outputs import (
    AnswerOutput,
    ClassOutput,
    FeatureOutput,
    GenerationOutput,
    ImageEmbeddings,
    ModelOutput,
    ReplyScores,
    TextEmbeddings,
)


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


@runtime_checkable
class Answers(Protocol):
    """Answers questions about pictures."""

    def predict_answers_with_confidence(
        self, samples: Mapping[str, Any], **options: Any
    ) -> AnswerOutput: ...


@runtime_checkable
class Replies(Protocol):
    """Takes the next turn of a dialogue, and says how likely a given one is."""

    def generate_replies(self, samples: Mapping[str, Any], **options: Any) -> GenerationOutput: ...

    def score_replies(self, samples: Mapping[str, Any]) -> ReplyScores: ...


@runtime_checkable
class Classifies(Protocol):
    """Sorts samples into classes."""

    def predict(self, samples: Mapping[str, Any]) -> ClassOutput: ...


@runtime_checkable
class ClassifiesByName(Classifies, Protocol):
    """Sorts pictures into any classes that are named to it."""

    def set_classes(self, names: Sequence[str]) -> None:
        """From now on ``predict`` gives a logit for each of these."""


@runtime_checkable
class ExtractsFeatures(Protocol):
    """Turns pictures and texts into vectors."""

    def extract_features(self, samples: Mapping[str, Any], mode: str = ...) -> FeatureOutput: ...


@runtime_checkable
class Embeds(Protocol):
    """Puts pictures and texts into one space, where their dot product says how alike they are."""

    def embed_images(self, images: Tensor) -> ImageEmbeddings:
        """``(B, 3, H, W)``"""

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """All texts are padded to the same length, so that batches can be put together."""


@runtime_checkable
class EmbedsVideos(Embeds, Protocol):
    """Does the same with videos."""

    def embed_videos(self, videos: Tensor, num_frames: Tensor | None = None) -> ImageEmbeddings:
        """``(B, 3, T, H, W)``; behind ``num_frames`` ``(B,)`` a video repeats its last frame."""


@runtime_checkable
class Matches(Embeds, Protocol):
    """Also judges a picture and a text together."""

    def match_pairs(self, tokens: Tensor, texts: TextEmbeddings) -> Tensor:
        """Judge one picture ``(N, E)`` against K texts: ``(K,)`` logits of "they match"."""


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
