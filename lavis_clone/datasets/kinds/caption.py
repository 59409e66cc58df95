"""Pictures with captions.

A record is ``{"image": "folder/file.jpg", "caption": "text" or ["text", ...], "image_id": ...}``;
other keys are kept in ``annotation`` and not used here. Files in COCO's own format are read, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from lavis_clone.datasets.annotations import Record, Records, records_of, table_of
from lavis_clone.datasets.base import BaseDataset, Sample, Scalar
from lavis_clone.datasets.coco_format import is_coco_format, read_coco_format
from lavis_clone.datasets.stored import distinct_numbers


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


def put_together(records: Iterable[Record], key: Callable[[Record], Hashable]) -> Records:
    """One record for each key, the first with all captions of its key, in order of appearance."""
    found: dict[Hashable, dict[str, Any]] = {}
    for record in records:
        first = found.setdefault(key(record), {**record, "caption": []})
        first["caption"] += captions_of(record)
    return Records({**r, "instance_id": str(i)} for i, r in enumerate(found.values()))


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

    def read_file(self, path: str | Path) -> Sequence[Record]:
        found = _of_coco(self, path, is_split=True)
        return super().read_file(path) if found is None else found

    def prepare(self) -> None:
        self._ids = distinct_numbers(self.annotation, self._id_of, name=f"image_id or {self.media}")

    def _id_of(self, record: Record) -> Any:
        image_id = record.get("image_id")
        return record[self.media] if image_id is None else image_id

    @property
    def img_ids(self) -> dict[Any, int]:
        """The number of each distinct id; made at each call, as it is large."""
        pairs = zip(map(self._id_of, self.annotation), self._ids, strict=True)
        return {image_id: int(number) for image_id, number in pairs}

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
            "image_id": int(self._ids[index]),
        }

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"caption": captions_of(record)}

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        return _shown(self.annotation[index], self[index], self.media)


class CaptionEvalDataset(BaseDataset):
    """For evaluation. ``image`` as processed, ``image_id`` str, ``instance_id`` str.

    Records of one file and id are one picture to describe, with the captions of all of them.
    """

    required = ("image",)

    def read_file(self, path: str | Path) -> Sequence[Record]:
        found = _of_coco(self, path, is_split=False)
        return super().read_file(path) if found is None else found

    def prepare(self) -> None:
        if len({self._key(record) for record in self.annotation}) < len(self.annotation):
            self.annotation = put_together(self.annotation, self._key)

    def _key(self, record: Record) -> tuple[str, str]:
        return record[self.media], image_id_of(record)

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

    def ids_in(self, record: Record) -> Mapping[str, Scalar]:
        return {"image_id": image_id_of(record)}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"caption": captions_of(record)}

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        return _shown(self.annotation[index], self[index], self.media)


def _of_coco(dataset: BaseDataset, path: str | Path, *, is_split: bool) -> Sequence[Record] | None:
    """The records of a file in COCO's format; None if it is not in it."""
    table = table_of(path)
    if not is_coco_format(table.path):
        return None
    rows = read_coco_format(table.path, is_split=is_split)
    options: dict[str, Any] = {"required": dataset.required, "check": dataset.check_record}
    return list(records_of(table, rows, **options))


def _shown(record: Record, sample: Sample, media: str) -> OrderedDict[str, Any]:
    parts = {"file": record[media], "caption": record.get("caption"), media: sample[media]}
    return OrderedDict(parts)
