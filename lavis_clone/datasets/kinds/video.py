"""Videos with captions, with texts that are to find them, and with questions.

A record is ``{"video": "folder/file.mp4", "caption": "text" or ["text", ...], "image_id": ...}``,
or ``{"video": ..., "question": "text", "answer": "text", "question_id": ...}``.

``video`` is ``(3, T, S, S)`` as processed, and with the processors of this library ``num_frames``
int says how many of its T frames are no repetition; without a processor it is the file's path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lavis_clone.datasets.annotations import AnnotationError, Record, read_json
from lavis_clone.datasets.base import BaseDataset, Sample, Scalar
from lavis_clone.datasets.kinds.caption import CaptionDataset, CaptionEvalDataset
from lavis_clone.datasets.kinds.retrieval import RetrievalEvalDataset
from lavis_clone.datasets.kinds.vqa import (
    check_one_answer,
    check_question,
    collate_lists,
    question_id_of,
)
from lavis_clone.datasets.skip import SampleError
from lavis_clone.processors.frames import VideoError
from lavis_clone.processors.video import AlproVideoBaseProcessor


class VideoDataset(BaseDataset):
    """Base of the data sets whose records name videos."""

    media = "video"

    def load_media(self, record: Record) -> dict[str, Any]:
        """Read a video under ``vis_root`` and process it.

        Raises:
            SampleError: it cannot be read.
        """
        path = str(self.vis_root / record["video"])
        try:
            if isinstance(self.vis_processor, AlproVideoBaseProcessor):
                video = self.vis_processor.load(path)
                return {"video": video.frames, "num_frames": video.num_frames}
            return {"video": self.vis_processor(path)}
        except VideoError as error:
            raise SampleError(str(error)) from error

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a batch.

        Raises:
            ValueError: the videos differ in shape.
        """
        check_shapes(samples)
        return super().collater(samples)


class VideoCaptionDataset(VideoDataset, CaptionDataset):
    """For training. ``video``, ``text_input`` str, ``image_id`` int, as of pictures."""

    required = ("video", "caption")


class VideoCaptionEvalDataset(VideoDataset, CaptionEvalDataset):
    """For evaluation. ``video``, ``image_id`` str, ``instance_id`` str."""

    required = ("video",)


class VideoRetrievalDataset(VideoCaptionDataset):
    """For training: as captions are."""


class VideoRetrievalEvalDataset(VideoDataset, RetrievalEvalDataset):
    """For evaluation. ``video``, ``index`` int; texts and files are where those of pictures are."""

    required = ("video", "caption")


class VideoQADataset(VideoDataset):
    """For training on questions with one answer each.

    ``video``, ``text_input`` str, ``answers`` int (the class of the answer; one more than the last
    if it is none), ``question_id`` and ``instance_id`` str. Without classes there is no
    ``answers``.

    Args:
        ans2label: A JSON file of answers and the numbers of their classes, counted from 0.
        class_names: The answers in the order of their classes, in place of such a file.

    Raises:
        AnnotationError: a file cannot be used.
    """

    required: ClassVar[tuple[str, ...]] = ("video", "question", "answer")
    told_keys = ("answer",)

    classnames: list[str]
    """The answer of each class; empty without classes."""
    answer_list: list[str] | None
    """The same, to choose from; None without classes."""

    def __init__(  # noqa: PLR0913  # those of all data sets, and where its classes are
        self,
        vis_processor: Any = None,
        text_processor: Any = None,
        vis_root: str | Path | None = None,
        ann_paths: Sequence[str | Path] = (),
        *,
        ans2label: str | Path | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if ans2label is not None and class_names is not None:
            raise ValueError("ans2label and class_names both say which classes there are")
        names = list(class_names or ()) if ans2label is None else read_classes(ans2label)
        self.classnames, self.answer_list = names, names or None
        self._numbers = {name: number for number, name in enumerate(names)}
        super().__init__(vis_processor, text_processor, vis_root, ann_paths)

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_question(record, cls.media) or check_one_answer(record)

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        sample = {
            **self.load_media(record),
            "text_input": self.text_processor(record["question"]),
            "question_id": question_id_of(record),
            "instance_id": record["instance_id"],
        }
        if self.classnames and self.is_answered:
            sample["answers"] = self._numbers.get(record.get("answer", ""), len(self.classnames))
        return sample

    @cached_property
    def is_answered(self) -> bool:
        """Whether any record has an answer."""
        return any(record.get("answer") for record in self.annotation)

    def ids_in(self, record: Record) -> Mapping[str, Scalar]:
        return {"question_id": question_id_of(record)}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"question": [record["question"]]}

    def answers_in(self, record: Record) -> Mapping[str, float]:
        answer = record.get("answer")
        return {answer: 1.0} if answer else {}

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a ``VideoQABatch``."""
        check_shapes(samples)
        batch = collate_lists(samples)
        for name in ("answers", "num_frames"):
            if name in batch:
                batch[name] = torch.tensor(batch[name])
        return batch


class VideoQAEvalDataset(VideoQADataset):
    """For evaluation: as for training, with ``answer`` str, or None where it is not known."""

    required = ("video", "question")

    def __getitem__(self, index: int) -> Sample:
        known = {"answer": self.annotation[index].get("answer") or None} if self.is_answered else {}
        return {**super().__getitem__(index), **known}


def read_classes(path: str | Path) -> list[str]:
    """Answers in the order of their classes, from a JSON file of answers and numbers.

    Raises:
        AnnotationError: it is no such file, or the numbers are not 0 to one less than there are.
    """
    numbers = read_json(path)
    if not isinstance(numbers, dict) or not numbers:
        raise AnnotationError(f"{path}: must be a mapping of answers to numbers of classes")
    if sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
        raise AnnotationError(
            f"{path}: the {len(numbers)} answers must have the numbers 0 to {len(numbers) - 1}, "
            "each once"
        )
    return sorted(numbers, key=lambda answer: int(numbers[answer]))


def check_shapes(samples: Sequence[Sample]) -> None:
    """Refuse videos that make no batch.

    Raises:
        ValueError: naming the shapes.
    """
    videos = [sample["video"] for sample in samples]
    shapes = sorted({tuple(video.shape) for video in videos if isinstance(video, Tensor)})
    if len(shapes) > 1:
        raise ValueError(
            f"the videos of a batch differ in shape, e.g. {shapes[0]} and {shapes[-1]}: give the "
            "processor n_frms, the number of frames"
        )
