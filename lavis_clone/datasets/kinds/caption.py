"""Pictures with captions.

A record is ``{"image": "folder/file.jpg", "caption": "text" or ["text", ...], "image_id": ...}``;
other keys are kept in ``annotation`` and not used here.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from pathlib import PurePosixPath
from typing import Any

import torch

from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample


def captions_of(record: Record) -> list[str]:
    """A record's captions; none when it has no ``caption``."""
    caption = record.get("caption")
    if caption is None:
        return []
    return [caption] if isinstance(caption, str) else list(caption)


def image_id_of(record: Record) -> str:
    """The record's ``image_id`` or, as in NoCaps, ``img_id``, else the end of the file's stem.

    A stem's end is what follows its last ``_``; of videos it is the whole stem.

    >>> image_id_of({"image": "val2014/COCO_val2014_000000391895.jpg"})
    '000000391895'
    """
    for key in ("image_id", "img_id"):
        if record.get(key) is not None:
            return str(record[key])
    if "video" in record:
        return PurePosixPath(str(record["video"])).stem
    return PurePosixPath(str(record["image"])).stem.rpartition("_")[2]


def _check_file(record: Record, media: str) -> str | None:
    if not isinstance(record[media], str) or not record[media]:
        return f"{media} must be a file name, got {record[media]!r}"
    return None


def _check_caption(record: Record) -> str | None:
    caption = record.get("caption")
    if caption is None or isinstance(caption, str):
        return None
    if isinstance(caption, list) and caption and all(isinstance(c, str) for c in caption):
        return None
    return f"caption must be text or a list of texts, got {caption!r:.80}"


def check_captioned(record: Record, media: str = "image") -> str | None:
    """What is wrong with a record of a picture or video and its captions, or None."""
    return _check_file(record, media) or _check_caption(record)


class CaptionDataset(BaseDataset):
    """For training. ``image`` as processed, ``text_input`` str, ``image_id`` int.

    ``image_id`` counts the distinct ids (or files, where there are no ids) in the order of the
    records. Of several captions one is drawn at each access, from torch's generator.
    """

    required = ("image", "caption")

    def prepare(self) -> None:
        self.img_ids: dict[Any, int] = {}
        self._ids = array("q")  # by record; workers share it, the dict they would copy
        for record in self.annotation:
            image_id = record.get("image_id")
            image_id = record[self.media] if image_id is None else image_id
            self._ids.append(self.img_ids.setdefault(image_id, len(self.img_ids)))

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_captioned(record, cls.media)

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        captions = captions_of(record)
        choice = int(torch.randint(len(captions), ())) if len(captions) > 1 else 0
        return {
            **self.load_media(record),
            "text_input": self.text_processor(captions[choice]),
            "image_id": self._ids[index],
        }

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        return _shown(self.annotation[index], self[index], self.media)


class CaptionEvalDataset(BaseDataset):
    """For evaluation. ``image`` as processed, ``image_id`` str, ``instance_id`` str."""

    required = ("image",)

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_captioned(record, cls.media)

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        return {
            **self.load_media(record),
            "image_id": image_id_of(record),
            "instance_id": record["instance_id"],
        }

    def references(self) -> dict[str, list[str]]:
        """The captions that people wrote, unprocessed, by ``image_id``; only where there are any.

        Records of one ``image_id`` are put together.
        """
        found: dict[str, list[str]] = {}
        for record in self.annotation:
            if captions := captions_of(record):
                found.setdefault(image_id_of(record), []).extend(captions)
        return found

    def field_by_image(self, name: str) -> dict[str, Any]:
        """A field of the annotations by ``image_id``.

        Raises:
            ValueError: A record lacks it.
        """
        for record in self.annotation:
            if name not in record:
                raise ValueError(f"annotation {record['instance_id']} has no field {name!r}")
        return {image_id_of(record): record[name] for record in self.annotation}

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        return _shown(self.annotation[index], self[index], self.media)


def _shown(record: Record, sample: Sample, media: str) -> OrderedDict[str, Any]:
    parts = {"file": record[media], "caption": record.get("caption"), media: sample[media]}
    return OrderedDict(parts)
