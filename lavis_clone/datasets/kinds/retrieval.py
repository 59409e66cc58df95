"""Pictures and the texts that are to find them.

Records are those of captions: ``{"image": "folder/file.jpg", "caption": "text" or ["text", ...]}``.
A picture may have several, as in a CSV file with a row for each text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample
from lavis_clone.datasets.kinds.caption import (
    CaptionDataset,
    captions_of,
    check_captioned,
    put_together,
)


class RetrievalDataset(CaptionDataset):
    """For training: as captions are, with ``instance_id`` str.

    Pictures with one ``image_id`` are the same to the model: none is a wrong answer to the other's
    texts.
    """

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "instance_id": self.annotation[index]["instance_id"]}


class RetrievalEvalDataset(BaseDataset):
    """For evaluation. ``image`` as processed, ``index`` int: the number of the picture.

    Its texts are not in the samples, since each is compared with every picture. Records of one file
    are one picture: were they several, all but one would be wrong answers to each of its texts.
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

    _captions: Sequence[str] = ()
    """All texts, as they were read."""

    def prepare(self) -> None:
        self.annotation = put_together(self.annotation, lambda record: record[self.media])
        self.image = []
        captions: list[str] = []
        self.txt2img, self.img2txt = {}, {}
        for number, record in enumerate(self.annotation):
            self.image.append(record[self.media])
            self.img2txt[number] = []
            for caption in captions_of(record):
                self.img2txt[number].append(len(captions))
                self.txt2img[len(captions)] = number
                captions.append(caption)
        self._captions = captions
        self._process_texts()

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_captioned(record, cls.media)

    def __getitem__(self, index: int) -> Sample:
        return {**self.load_media(self.annotation[index]), "index": index}

    def set_processors(self, vis_processor: Any, text_processor: Any) -> None:
        """Put other processors in place, and process all texts anew; None is the identity."""
        super().set_processors(vis_processor, text_processor)
        self._process_texts()

    def _process_texts(self) -> None:
        self.text = [self.text_processor(caption) for caption in self._captions]

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"caption": captions_of(record)}

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        record, shown = self.annotation[index], self[index][self.media]
        parts = {"file": record[self.media], "caption": record["caption"], self.media: shown}
        return OrderedDict(parts)
