"""What data sets with annotation files have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Dataset, default_collate

from lavis_clone.datasets.annotations import Record, Records, read_annotations
from lavis_clone.datasets.skip import SampleError
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.pictures import ImageError, load_image

Sample = Mapping[str, Any]


class BaseDataset(Dataset[Sample]):
    """Records of annotation files, and where the media that they name lie.

    A kind of sample is a subclass with ``__getitem__``. Each record gets its position as
    ``instance_id``, a str.

    Args:
        vis_processor: Picture to what the model takes; None leaves PIL pictures.
        text_processor: Text to text; None leaves it as it is.
        vis_root: The folder that the records' file names are relative to.
        ann_paths: Annotation files; their records are put one after another.

    Raises:
        AnnotationError: a file cannot be used.
    """

    required: ClassVar[tuple[str, ...]] = ()
    """Keys that every record must have."""
    media: ClassVar[str] = "image"
    """The key of a record's file, and of what a sample has of it."""

    name: str = ""
    """The builder's name, for messages; the builder sets it."""
    split: str = ""

    def __init__(
        self,
        vis_processor: Any = None,
        text_processor: Any = None,
        vis_root: str | Path | None = None,
        ann_paths: Sequence[str | Path] = (),
    ) -> None:
        self.vis_root = Path(vis_root or "")
        self.set_processors(vis_processor, text_processor)
        found = [record for path in ann_paths for record in self.read_file(path)]
        self.annotation: Sequence[Record] = Records(
            {**record, "instance_id": str(i)} for i, record in enumerate(found)
        )
        self.prepare()

    def read_file(self, path: str | Path) -> list[dict[str, Any]]:
        """The records of one annotation file, checked; for files of a format of their own.

        Raises:
            AnnotationError: with the file, and the line or record.
        """
        return read_annotations(path, required=self.required, check=self.check_record)

    def prepare(self) -> None:
        """Look through the records once, when all have been read; subclasses may."""

    def __len__(self) -> int:
        return len(self.annotation)

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    @staticmethod
    def check_record(record: Record) -> str | None:  # noqa: ARG004  # subclasses use it
        """What is wrong with a record that has all required keys, or None."""
        return None

    def set_processors(self, vis_processor: Any, text_processor: Any) -> None:
        """Put other processors in place; None is the identity."""
        self.vis_processor = BaseProcessor() if vis_processor is None else vis_processor
        self.text_processor = BaseProcessor() if text_processor is None else text_processor

    def load_media(self, record: Record) -> dict[str, Any]:
        """What a sample has of its record's file.

        Raises:
            SampleError: it cannot be read.
        """
        return {self.media: self.load_picture(record[self.media])}

    def load_picture(self, file_name: str) -> Any:
        """Read a picture under ``vis_root`` and process it.

        Raises:
            SampleError: it cannot be read.
        """
        at_least = getattr(self.vis_processor, "decode_size", None)
        try:
            picture = load_image(self.vis_root / file_name, at_least=at_least)
        except ImageError as error:
            raise SampleError(str(error)) from error
        return self.vis_processor(picture)

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        """A sample to show to people: its file, its record and its processed fields."""
        record = self.annotation[index]
        return OrderedDict({"file": record.get(self.media, ""), **record, **self[index]})

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a batch: tensors and numbers are stacked, texts become lists."""
        batch: dict[str, Any] = default_collate(list(samples))
        return batch


class ConcatDataset(TorchConcatDataset[Sample]):
    """Several map-style data sets as one. A batch holds the keys that all its samples have."""

    def __init__(self, datasets: Sequence[Any]) -> None:
        super().__init__(datasets)
        self.name = "+".join(filter(None, (getattr(d, "name", "") for d in datasets)))
        self.split = getattr(datasets[0], "split", "")
        self.media = getattr(datasets[0], "media", "image")

    @property
    def answer_list(self) -> list[str] | None:
        """The answers of all lists, each once; None if one of the data sets has no list."""
        lists = [getattr(dataset, "answer_list", None) for dataset in self.datasets]
        return list(dict.fromkeys(chain.from_iterable(lists))) if all(lists) else None  # type: ignore[arg-type]  # none is None

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a batch as the first of the data sets does."""
        shared = [key for key in samples[0] if all(key in sample for sample in samples)]
        collate = getattr(self.datasets[0], "collater", default_collate)
        batch: dict[str, Any] = collate([{k: sample[k] for k in shared} for sample in samples])
        return batch

    def references(self) -> dict[str, list[str]]:
        """The references of all data sets.

        Raises:
            ValueError: two data sets use one ``image_id``.
        """
        return self._merged(getattr(dataset, "references", dict)() for dataset in self.datasets)

    def field_by_image(self, name: str) -> dict[str, Any]:
        """A field of the annotations of all data sets, by ``image_id``.

        Raises:
            ValueError: a record lacks it, or two data sets use one ``image_id``.
        """
        return self._merged(dataset.field_by_image(name) for dataset in self.datasets)  # type: ignore[attr-defined]  # of evaluation sets

    @staticmethod
    def _merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for found in parts:
            if twice := merged.keys() & found.keys():
                raise ValueError(f"two data sets use the image_id {min(twice)!r}")
            merged.update(found)
        return merged
