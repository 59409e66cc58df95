"""What data sets with annotation files have in common."""

from __future__ import annotations

import bisect
import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Dataset, default_collate

from lavis_clone.datasets.annotations import Record, read_annotations
from lavis_clone.datasets.hub import HubSplit
from lavis_clone.datasets.skip import SampleError
from lavis_clone.datasets.stored import is_large, joined, large_annotations, rules_of
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.pictures import ImageError, load_image

Sample = Mapping[str, Any]
Scalar = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a sample is about, as its annotation has it. No picture or video is opened for it."""

    media: Mapping[str, Path]
    """The files of its pictures, video or features, by role: ``image``, ``image0``, ``video``."""
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Its texts, unprocessed, by role: ``caption``, ``question``, ``sentence``, ``dialog``."""
    labels: tuple[str, ...] = ()
    """The names of its classes, or of the choices that are right."""
    answers: Mapping[str, float] = field(default_factory=dict)
    """What people answered, and how much each answer weighs in training."""
    scalars: Mapping[str, Scalar] = field(default_factory=dict)
    """What else its record says, e.g. ``image_id``."""


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
    told_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that ``describe`` tells in another field than ``scalars``."""

    pictures: HubSplit | None = None
    """Has the pictures when they are no files below ``vis_root``; the builder sets it."""
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
        parts = [self.read_file(path) for path in ann_paths]
        self.annotation: Sequence[Record] = joined(parts)
        self.prepare()

    def read_file(self, path: str | Path) -> Sequence[Record]:
        """The records of one annotation file, checked; for files of a format of their own.

        Raises:
            AnnotationError: with the file, and the line or record.
        """
        options: dict[str, Any] = {"required": self.required, "check": self.check_record}
        if is_large(path):
            return large_annotations(path, **options, rules=rules_of(self, self.check_depends_on()))
        return read_annotations(path, **options)

    def check_depends_on(self) -> Sequence[object]:
        """What ``check_record`` goes by besides the record, where data sets of a class differ."""
        return ()

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
            source = (
                self.vis_root / file_name if not self.pictures else self.pictures.open(file_name)
            )
            if getattr(self.vis_processor, "reads_files", False):
                return self.vis_processor(source)
            picture = load_image(source, at_least=at_least)
        except ImageError as error:
            raise SampleError(str(error)) from error
        return self.vis_processor(picture)

    def describe(self, index: int) -> Description:
        """What a sample is about; a kind says it by overriding the methods ``..._in``."""
        return self.described(self.annotation[index])

    def described(self, record: Record) -> Description:
        """What a record is about."""
        media = self.media_in(record)
        texts = {role: tuple(found) for role, found in self.texts_in(record).items() if found}
        told = {*media, *texts, *self.told_keys}
        return Description(
            media={role: self.place_of(file) for role, file in media.items()},
            texts=texts,
            labels=tuple(self.labels_in(record)),
            answers=dict(self.answers_in(record)),
            scalars={
                key: value
                for key, value in {**record, **self.ids_in(record)}.items()
                if key not in told and isinstance(value, (str, int, float))
            },
        )

    def place_of(self, file: str) -> Path:
        """Where a file that a record names is; of pictures that are no files, what to call it."""
        return (Path(self.pictures.label) if self.pictures else self.vis_root) / file

    def ids_in(self, record: Record) -> Mapping[str, Scalar]:  # noqa: ARG002  # none
        """Ids that its samples have and a record may lack."""
        return {}

    def media_in(self, record: Record) -> Mapping[str, str]:
        """The files that a record names, below ``vis_root``, by role."""
        return {self.media: record[self.media]}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:  # noqa: ARG002  # none
        """The texts of a record, by role."""
        return {}

    def labels_in(self, record: Record) -> Sequence[str]:  # noqa: ARG002  # none
        """The names of a record's classes."""
        return ()

    def answers_in(self, record: Record) -> Mapping[str, float]:  # noqa: ARG002  # none
        """A record's answers and their weights."""
        return {}

    def limited(self, count: int) -> BaseDataset:
        """The same of its first ``count`` records; for data sets whose files list them."""
        part = copy.copy(self)
        part.annotation = self.annotation[:count]
        part.prepare()
        part.annotation = part.annotation[:count]  # where ``prepare`` has found the records
        return part

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

    def describe(self, index: int) -> Description:
        """What a sample is about, as its own data set says it."""
        place = range(len(self))[index]  # refuses what lies beyond the end
        number = bisect.bisect_right(self.cumulative_sizes, place)
        before = self.cumulative_sizes[number - 1] if number else 0
        found: Description = self.datasets[number].describe(place - before)  # type: ignore[attr-defined]  # of map-style sets
        return found

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
