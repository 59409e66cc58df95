"""Pictures in a folder for each class, without annotations: ``<split>/<class>/<picture>``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torchvision.datasets import ImageFolder

from lavis_clone.common.files import FileError, resolve
from lavis_clone.common.reading import first_line
from lavis_clone.datasets.annotations import Record, Records
from lavis_clone.datasets.base import BaseDataset, Sample
from lavis_clone.datasets.tables import Share

IMAGENET_NAMES = "asset://imagenet/class_names.txt"


class ImageFolderDataset(BaseDataset):
    """For training and evaluation. A class's number is the place of its folder among them all.

    As the kind ``classification``: ``image`` as processed, ``text_input`` "", ``label`` int,
    ``image_id`` str (the file, relative to the split's folder) and ``instance_id`` str.

    Args:
        vis_root: The split's folder.
        class_names: What to call the classes, in the order of their folders; None for what the
            folders are called.
        share: The part of the folder that is wanted; None for all of it.

    Raises:
        FileError: there are no pictures.
        ValueError: there are not as many names as folders.
    """

    reads_folders: ClassVar[bool] = True
    told_keys = ("label",)

    classnames: list[str]

    def __init__(  # noqa: PLR0913  # those of all data sets, its classes and its part
        self,
        vis_processor: Any = None,
        text_processor: Any = None,
        vis_root: str | Path | None = None,
        ann_paths: Sequence[str | Path] = (),
        *,
        class_names: Sequence[str] | None = None,
        share: Share | None = None,
    ) -> None:
        self._share = share
        given = self.default_class_names() if class_names is None else class_names
        self.classnames = list(given or [])
        super().__init__(vis_processor, text_processor, vis_root, ann_paths)

    @staticmethod
    def default_class_names() -> Sequence[str] | None:
        """The names when none are given; None for the folders' own."""
        return None

    def prepare(self) -> None:
        try:
            found = ImageFolder(self.vis_root)
        except OSError as error:
            raise FileError(
                f"no pictures by class below {self.vis_root}: {first_line(error)}"
            ) from error
        self.classnames = self.classnames or list(found.classes)
        if len(self.classnames) != len(found.classes):
            raise ValueError(
                f"{len(self.classnames)} class_names, but {self.vis_root} holds "
                f"{len(found.classes)} folders"
            )
        files = [
            (Path(file).relative_to(self.vis_root).as_posix(), number)
            for file, number in found.samples
        ]
        if self._share is not None:
            files = [(file, number) for file, number in files if self._share.holds(file)]
        if not files:
            raise FileError(f"too few pictures below {self.vis_root} to be split: a part has none")
        self.annotation = Records(
            {"image": file, "label": number, "instance_id": str(index)}
            for index, (file, number) in enumerate(files)
        )

    def labels_in(self, record: Record) -> Sequence[str]:
        return [self.classnames[record["label"]]]

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        return {
            "image": self.load_picture(record["image"]),
            "text_input": self.text_processor(""),
            "label": record["label"],
            "image_id": record["image"],
            "instance_id": record["instance_id"],
        }


class ImageNetDataset(ImageFolderDataset):
    """The 1000 classes of ImageNet-1k, under names that OpenAI chose for zero-shot evaluation.

    Radford et al., https://arxiv.org/abs/2103.00020, section 3.1.4; the folders are WordNet's ids.
    """

    @staticmethod
    def default_class_names() -> Sequence[str] | None:
        return resolve(IMAGENET_NAMES).read_text(encoding="utf-8").splitlines()
