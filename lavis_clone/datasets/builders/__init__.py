"""Data sets by name: ``load_dataset`` and ``dataset_zoo``. Listing them imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis_clone.common.registry import registry
from lavis_clone.datasets.builders.table import BENCHMARKS

if TYPE_CHECKING:
    from lavis_clone.datasets.builders.base import BaseDatasetBuilder, load_dataset_config

registry.builders.declare(dict.fromkeys(BENCHMARKS, "lavis_clone.datasets.builders.benchmarks"))

__all__ = [
    "BaseDatasetBuilder",
    "DatasetZoo",
    "dataset_zoo",
    "load_dataset",
    "load_dataset_config",
]


def load_dataset(
    name: str,
    cfg_path: str | Path | None = None,
    vis_path: str | Path | None = None,
    data_type: str | None = None,
) -> dict[str, Any]:
    """The data sets of all splits, by split. Without processors, items hold PIL pictures.

    >>> load_dataset("coco_caption", vis_path="/data/coco")["train"][0]  # doctest: +SKIP
    {'image': <PIL.Image.Image ...>, 'text_input': 'A woman ...', 'image_id': 0}

    Args:
        cfg_path: A YAML file in place of the data set's own.
        vis_path: The folder of the pictures or videos, in place of the config's; relative to the
            working directory, or else to the cache.
        data_type: Which ``build_info`` key ``vis_path`` is for; None for the config's own.

    Raises:
        UnknownName: no data set has that name.
        ConfigError: the config does not fit.
        FileError: the folder of the media or an annotation file is missing.
        AnnotationError: an annotation file cannot be used.
    """
    builder = registry.get_builder_class(name)(cfg_path)
    builder.name = builder.name or name
    if vis_path is not None:
        place = Path(vis_path).expanduser()
        location = str(place.resolve()) if place.is_dir() else str(vis_path)
        builder.set_storage(location, data_type=data_type)
    datasets: dict[str, Any] = builder.build_datasets()
    return datasets


class DatasetZoo:
    """What ``load_dataset`` knows; prints as a table."""

    @property
    def dataset_zoo(self) -> Mapping[str, list[str]]:
        """The types of each data set, by name."""
        return {
            name: list(
                BENCHMARKS[name].files
                if name in BENCHMARKS
                else registry.get_builder_class(name).DATASET_CONFIG_DICT
            )
            for name in self.get_names()
        }

    def get_names(self) -> list[str]:
        """All names, sorted."""
        return registry.list_datasets()

    def __str__(self) -> str:
        rows = [("Data set", "Kind", "Types")]
        for name, types in self.dataset_zoo.items():
            kind = BENCHMARKS[name].kind if name in BENCHMARKS else "own"
            rows.append((name, kind, ", ".join(types)))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([lines[0], "=" * max(map(len, lines)), *lines[1:]])


dataset_zoo = DatasetZoo()


def __getattr__(name: str) -> Any:
    if name in ("BaseDatasetBuilder", "load_dataset_config"):
        return getattr(importlib.import_module("lavis_clone.datasets.builders.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
