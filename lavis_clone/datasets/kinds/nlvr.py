"""Sentences that are true of two pictures, or not (NLVR2).

A record is ``{"images": ["left.png", "right.png"], "sentence": "text", "label": "True"}``.
Instead of ``images`` it may have ``image0`` (left) and ``image1``, as a CSV file's columns.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample

_LABELS = {"false": 0, "true": 1, "0": 0, "1": 1}
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER_SIDE = {
    **{"left": "right", "Left": "Right", "LEFT": "RIGHT"},
    **{"right": "left", "Right": "Left", "RIGHT": "LEFT"},
}


def swap_sides(sentence: str) -> str:
    """Put ``right`` for each ``left``, and the reverse; only whole words.

    >>> swap_sides("Left of the bright lamp, not right.")
    'Right of the bright lamp, not left.'
    """
    return _SIDE.sub(
        lambda found: _OTHER_SIDE.get(found[0], _OTHER_SIDE[found[0].lower()]), sentence
    )


def label_of(record: Record) -> int | None:
    """1 for a true sentence, 0 for a false one, None for neither."""
    return _LABELS.get(str(record["label"]).lower())


def pictures_of(record: Record) -> Any:
    """What a record gives as its two files, left and right; None when it gives none."""
    images = record.get("images")
    columns = [record.get("image0"), record.get("image1")]
    return columns if images is None and columns != [None, None] else images


class NlvrEvalDataset(BaseDataset):
    """For evaluation.

    ``image0`` (left) and ``image1`` as processed, ``text_input`` str, ``label`` int (1 is true),
    ``instance_id`` str.
    """

    required = ("sentence", "label")
    told_keys = ("label",)

    @staticmethod
    def check_record(record: Record) -> str | None:
        images, sentence = pictures_of(record), record["sentence"]
        if images is None:
            return "has neither 'images' nor 'image0' and 'image1'"
        if not isinstance(images, list) or [type(name) for name in images] != [str, str]:
            return f"images must be two file names, left and right, got {images!r:.80}"
        if not isinstance(sentence, str):
            return f"sentence must be text, got {sentence!r:.80}"
        if label_of(record) is None:
            return f"label must be True or False, got {record['label']!r:.80}"
        return None

    def __getitem__(self, index: int) -> Sample:
        return self._sample(self.annotation[index])

    def media_in(self, record: Record) -> Mapping[str, str]:
        left, right = pictures_of(record)
        return {"image0": left, "image1": right}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"sentence": [record["sentence"]]}

    def labels_in(self, record: Record) -> Sequence[str]:
        return ["True" if label_of(record) else "False"]

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        record = self.annotation[index]
        return OrderedDict({"file": " ".join(pictures_of(record)), **record, **self[index]})

    def _sample(self, record: Record, *, mirrored: bool = False) -> Sample:
        images = pictures_of(record)
        left, right = reversed(images) if mirrored else images
        sentence = swap_sides(record["sentence"]) if mirrored else record["sentence"]
        return {
            "image0": self.load_picture(left),
            "image1": self.load_picture(right),
            "text_input": self.text_processor(sentence),
            "label": label_of(record),
            "instance_id": record["instance_id"],
        }


class NlvrDataset(NlvrEvalDataset):
    """For training. Half of the samples, drawn from torch's generator, are mirrored.

    The pictures change places, and the sentence's words ``left`` and ``right`` too.
    """

    def __getitem__(self, index: int) -> Sample:
        return self._sample(self.annotation[index], mirrored=bool(torch.rand(()) < 0.5))
