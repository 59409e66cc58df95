"""Two pictures and two captions of the same words in another order, to be told apart.

A record is Winoground's: ``{"id": 0, "image_0": "ex_0_img_0", "image_1": ..., "caption_0": "text",
"caption_1": ...}`` (Thrush et al., https://arxiv.org/abs/2204.03162); caption 0 belongs to picture
0. A picture without a suffix is a ``.png`` file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample

_IMAGES = ("image_0", "image_1")
_CAPTIONS = ("caption_0", "caption_1")


class WinogroundDataset(BaseDataset):
    """For evaluation.

    ``image0`` and ``image1`` as processed, ``text_input0`` and ``text_input1`` str, ``instance_id``
    str.
    """

    required = (*_IMAGES, *_CAPTIONS)
    told_keys = (*_IMAGES, *_CAPTIONS)

    @staticmethod
    def check_record(record: Record) -> str | None:
        for key in (*_IMAGES, *_CAPTIONS):
            if not isinstance(record[key], str) or not record[key]:
                return f"{key} must be text, got {record[key]!r:.80}"
        return None

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        files = self.media_in(record)
        return {
            **{role: self.load_picture(file) for role, file in files.items()},
            **{f"text_input{n}": self.text_processor(record[k]) for n, k in enumerate(_CAPTIONS)},
            "instance_id": record["instance_id"],
        }

    def media_in(self, record: Record) -> Mapping[str, str]:
        return {f"image{n}": _with_suffix(record[key]) for n, key in enumerate(_IMAGES)}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {f"caption{n}": [record[key]] for n, key in enumerate(_CAPTIONS)}


def _with_suffix(file: str) -> str:
    return file if PurePosixPath(file).suffix else f"{file}.png"
