"""Pictures, with or without a text, and the class of each.

A record is ``{"image": "folder/file.jpg", "sentence": "text", "label": "name" or number}``; the
text may be called ``text`` as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lavis_clone.common.names import suggest
from lavis_clone.datasets.annotations import Record
from lavis_clone.datasets.base import BaseDataset, Sample


class ClassificationDataset(BaseDataset):
    """For training and evaluation.

    ``image`` as processed, ``text_input`` str (empty without a text), ``label`` int, ``image_id``
    str and ``instance_id`` str.

    Args:
        class_names: The classes, in the order of their numbers. Needed when labels are names:
            which names a file has differs from split to split. None for numbers without names.

    Raises:
        AnnotationError: a file cannot be used, or has a label that is no class.
    """

    required: ClassVar[tuple[str, ...]] = ("image", "label")
    told_keys = ("label", "text", "sentence")
    default_class_names: ClassVar[Sequence[str]] = ()

    classnames: list[str]
    """The name of each class; empty when they have none."""

    def __init__(
        self,
        vis_processor: Any = None,
        text_processor: Any = None,
        vis_root: str | Path | None = None,
        ann_paths: Sequence[str | Path] = (),
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.classnames = list(self.default_class_names if class_names is None else class_names)
        self._numbers = {name: number for number, name in enumerate(self.classnames)}
        if len(self._numbers) < len(self.classnames):
            raise ValueError(f"class_names has a name twice: {self.classnames}")
        super().__init__(vis_processor, text_processor, vis_root, ann_paths)

    def check_record(self, record: Record) -> str | None:  # type: ignore[override]  # static there
        for key, value in (("image", record["image"]), ("sentence", text_of(record))):
            if not isinstance(value, str):
                return f"{key} must be text, got {value!r:.80}"
        label = record["label"]
        if self._number(label) is not None:
            return None
        if self.classnames:
            hint = suggest(str(label), self.classnames)
            return f"label {label!r} is no class{hint} (classes: {', '.join(self.classnames)})"
        return f"label {label!r} is no class number; class_names must list names in their order"

    def check_depends_on(self) -> Sequence[object]:
        return self.classnames

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        image_id = record.get("image_id")
        return {
            "image": self.load_picture(self.picture_file(record)),
            "text_input": self.text_processor(text_of(record)),
            "label": self._number(record["label"]),
            "image_id": str(record["image"] if image_id is None else image_id),
            "instance_id": record["instance_id"],
        }

    def picture_file(self, record: Record) -> str:
        """The file of a record's picture."""
        file: str = record["image"]
        return file

    def media_in(self, record: Record) -> Mapping[str, str]:
        return {"image": self.picture_file(record)}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        given = text_of(record)
        return {"sentence": [given]} if given else {}

    def labels_in(self, record: Record) -> Sequence[str]:
        number = self._number(record["label"])
        return [self.classnames[number] if self.classnames and number is not None else str(number)]

    def _number(self, label: Any) -> int | None:
        """The number of a class by its name or number; None when there is no such class."""
        if isinstance(label, str):
            if label in self._numbers:
                return self._numbers[label]
            if label.isascii() and label.isdecimal():  # a CSV file has no other numbers
                label = int(label)
        if type(label) is not int or label < 0:
            return None
        return label if not self.classnames or label < len(self.classnames) else None


class EntailmentDataset(ClassificationDataset):
    """SNLI-VE: does a picture entail a sentence? ``image`` names a file without its ``.jpg``."""

    required = ("image", "sentence", "label")
    default_class_names = ("contradiction", "neutral", "entailment")

    def picture_file(self, record: Record) -> str:
        file: str = record["image"]
        return file if file.endswith(".jpg") else f"{file}.jpg"


def text_of(record: Record) -> Any:
    """What a record says beside its picture: its ``sentence``, else its ``text``, else nothing."""
    given = record.get("sentence")
    return record.get("text") or "" if given is None else given
