"""Pictures with texts to pre-train on.

A record is ``{"image": "folder/file.jpg", "caption": "text" or ["text", ...]}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample
from lavis_clone.datasets.kinds.caption import captions_of, check_captioned


class PairDataset(BaseDataset):
    """``image`` as processed, ``text_input`` str.

    Of several captions one is drawn at each access, from torch's generator.
    """

    required = ("image", "caption")

    @staticmethod
    def check_record(record: Record) -> str | None:
        return check_captioned(record)

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        captions = captions_of(record)
        choice = int(torch.randint(len(captions), ()))
        return {
            "image": self.load_picture(record["image"]),
            "text_input": self.text_processor(captions[choice]),
        }

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"caption": captions_of(record)}
