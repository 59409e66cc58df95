"""What a batch holds, for each kind of data.

B is the number of samples. Nothing is in a batch that did not come from the data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from torch import Tensor


class CaptionBatch(TypedDict):
    """Images with a caption each, to train on."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B captions."""
    image_id: Tensor
    """``(B,)`` int64, the same for two captions of one image."""


class CaptionEvalBatch(TypedDict):
    """Images to describe."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    image_id: list[str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class RetrievalBatch(CaptionBatch):
    """Images with a text each, to train on."""

    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class RetrievalEvalBatch(TypedDict):
    """Images to be found; the texts are attributes of the data set."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    index: Tensor
    """``(B,)`` int64, the number of each image in the data set."""


class VqaBatch(TypedDict):
    """Images with a question each and its answers, to train on. N is the sum of ``n_answers``."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B questions."""
    answer: list[str]
    """N distinct answers: all of the first question, then all of the second, ..."""
    weight: Tensor
    """``(N,)`` float32, the share of people who gave the answer, times the data set's weight."""
    n_answers: Tensor
    """``(B,)`` int64."""


class VqaEvalBatch(TypedDict):
    """Images with a question each."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B questions."""
    question_id: list[int | str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class GqaEvalBatch(VqaEvalBatch):
    """Images with a question each that has one answer."""

    answer: NotRequired[list[str | None]]
    """B answers; not there when no answer of the data set is known."""


class AokVqaEvalBatch(VqaEvalBatch):
    """Images with a question each and answers to choose from. None where that is not known."""

    choices: list[list[str] | None]
    """B lists."""
    correct_choice_idx: list[int | None]
    """B numbers of right choices."""
    direct_answers: list[list[str] | None]
    """B lists of people's answers."""


class NlvrBatch(TypedDict):
    """Pairs of images with a sentence each."""

    image0: Tensor
    """``(B, 3, H, W)`` float32, the left images, normalised as the model's processor does."""
    image1: Tensor
    """``(B, 3, H, W)`` float32, the right images."""
    text_input: list[str]
    """B sentences."""
    label: Tensor
    """``(B,)`` int64: 1 where the sentence is true, else 0."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class ClassificationBatch(TypedDict):
    """Images with a text and a class each."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B texts, empty where there are none."""
    label: Tensor
    """``(B,)`` int64, numbers of classes."""
    image_id: list[str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class PairBatch(TypedDict):
    """Images with a text each, to pre-train on."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B texts."""
