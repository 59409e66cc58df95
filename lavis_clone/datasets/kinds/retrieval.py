"""Pictures and the texts that are to find them.

Records are those of captions: ``{"image": "folder/file.jpg", "caption": "text" or ["text", ...]}``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample
from lavis_clone.datasets.kinds.caption import CaptionDataset, captions_of, check_captioned


class RetrievalDataset(CaptionDataset):
    """For training: as captions are, with ``instance_id`` str.

    Pictures with one ``image_id`` are the same to the model: none is a wrong answer to the other's
    texts.
    """

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "instance_id": self.annotation[index]["instance_id"]}


class RetrievalEvalDataset(BaseDataset):
    """For evaluation. ``image`` as processed, ``index`` int: the number of the picture.

    Its texts are not in the samples, since each is compared with every picture.
    """

    required = ("image", "caption")

    text: list[str]
    """All texts, processed."""
    image: list[str]
    """The file of each picture."""
    txt2img: dict[int, int]
    """The number of the picture that a text belongs to."""
    img2txt: dict[int, list[int]]
    """The numbers of the texts that belong to a picture."""

    def __init__(
        self,
        vis_processor: Any = None,
        text_processor: Any = None,
        vis_root: str | Path | None = None,
        ann_paths: Sequence[str | Path] = (),
    ) -> None:
        super().__init__(vis_processor, text_processor, vis_root, ann_paths)
        self.text, self.image = [], []
        self.txt2img, self.img2txt = {}, {}
        for number, record in enumerate(self.annotation):
            self.image.append(record["image"])
            self.img2txt[number] = []
            for caption in captions_of(record):
                self.img2txt[number].append(len(self.text))
                self.txt2img[len(self.text)] = number
                self.text.append(self.text_processor(caption))

    @staticmethod
    def check_record(record: Record) -> str | None:
        return check_captioned(record)

    def __getitem__(self, index: int) -> Sample:
        return {"image": self.load_picture(self.annotation[index]["image"]), "index": index}

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        record = self.annotation[index]
        shown = self[index]["image"]
        return OrderedDict(file=record["image"], caption=record["caption"], image=shown)
