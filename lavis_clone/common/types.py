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


class VideoCaptionBatch(TypedDict):
    """Videos with a caption each, to train on; to learn retrieval as well."""

    video: Tensor
    """``(B, 3, T, H, W)`` float32, T frames each, normalised as the model's processor does."""
    num_frames: NotRequired[Tensor]
    """``(B,)`` int64: behind so many frames a short video repeats its last one."""
    text_input: list[str]
    """B captions."""
    image_id: Tensor
    """``(B,)`` int64, the same for two captions of one video."""


class VideoCaptionEvalBatch(TypedDict):
    """Videos to describe."""

    video: Tensor
    """``(B, 3, T, H, W)`` float32, as in training."""
    num_frames: NotRequired[Tensor]
    """``(B,)`` int64, as in training."""
    image_id: list[str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class VideoRetrievalEvalBatch(TypedDict):
    """Videos to be found; the texts are attributes of the data set."""

    video: Tensor
    """``(B, 3, T, H, W)`` float32, as in training."""
    num_frames: NotRequired[Tensor]
    """``(B,)`` int64, as in training."""
    index: Tensor
    """``(B,)`` int64, the number of each video in the data set."""


class VideoQABatch(TypedDict):
    """Videos with a question each that has one answer."""

    video: Tensor
    """``(B, 3, T, H, W)`` float32, as for captions."""
    num_frames: NotRequired[Tensor]
    """``(B,)`` int64, as for captions."""
    text_input: list[str]
    """B questions."""
    answers: NotRequired[Tensor]
    """``(B,)`` int64, classes of the answers; the number of classes, where an answer is none."""
    answer: NotRequired[list[str | None]]
    """B answers, in evaluation; not there when no answer of the data set is known."""
    question_id: list[int | str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""


class PairBatch(TypedDict):
    """Images with a text each, to pre-train on."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B texts."""


class DialogueBatch(TypedDict):
    """Turns of dialogues about videos, as ``gpt_dialogue`` reads them; padding is at the ends.

    V frames, T tokens, F width of a frame's features. Of a dialogue about nothing, V is 0 and
    ``video_fts`` absent; about pictures, ``image`` stands in its place.
    """

    input_ids: Tensor
    """``(B, T)`` int64: caption, turns and answer."""
    labels: Tensor
    """``(B, T)`` int64: the ids of the answer, -1 elsewhere."""
    token_type_ids: Tensor
    """``(B, V + T)`` int64: what each frame and token is, or who speaks."""
    attn_mask: Tensor
    """``(B, V + T)`` bool, True on what is no padding."""
    video_fts: NotRequired[Tensor]
    """``(B, V, F)`` float32."""
    image: NotRequired[Tensor]
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    image_id: list[str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B numbers of turns in the data set."""


class DialogueTextBatch(TypedDict):
    """Turns of dialogues as texts."""

    text_input: list[str]
    """B dialogues: caption, turns and question."""
    answer: list[str]
    """B answers, empty where nobody's is known."""
    video_fts: NotRequired[Tensor]
    """``(B, V, F)`` float32."""
    image: NotRequired[Tensor]
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    image_id: list[str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B numbers of turns in the data set."""
