"""Data sets by name: ``load_dataset`` and ``dataset_zoo``. Listing them imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis_clone.common.blocks import DatasetBlock
from lavis_clone.common.config_check import find_builder, own_config
from lavis_clone.common.own_data import OWN, expand
from lavis_clone.common.reading import plain
from lavis_clone.common.registry import registry
from lavis_clone.datasets.builders.listing import Listing, as_table, listing_of
from lavis_clone.datasets.builders.table import BENCHMARKS

if TYPE_CHECKING:
    from lavis_clone.datasets.builders.base import BaseDatasetBuilder, load_dataset_config

registry.builders.declare(dict.fromkeys(BENCHMARKS, "lavis_clone.datasets.builders.benchmarks"))
registry.builders.declare({OWN: "lavis_clone.datasets.builders.own"})

__all__ = [
    "BaseDatasetBuilder",
    "DatasetZoo",
    "dataset_zoo",
    "load_dataset",
    "load_dataset_config",
]


def load_dataset(
    name: str | Path | Mapping[str, Any],
    cfg_path: str | Path | Mapping[str, Any] | None = None,
    vis_path: str | Path | None = None,
    data_type: str | None = None,
) -> dict[str, Any]:
    """The data sets of all splits, by split. Without processors, items hold PIL pictures.

    >>> load_dataset("coco_caption", vis_path="/data/coco")["train"][0]  # doctest: +SKIP
    {'image': <PIL.Image.Image ...>, 'text_input': 'A woman ...', 'image_id': 0}

    Args:
        name: A data set that is registered or that ``cfg_path`` describes; or, for data of one's
            own, a YAML file with one data set, or the block that such a file would have.
        cfg_path: A YAML file in place of the data set's own, or a block.
        vis_path: The folder of the pictures or videos, in place of the config's; relative to the
            working directory, or else to the cache.
        data_type: Which ``build_info`` key ``vis_path`` is for; None for the config's own.

    Raises:
        UnknownName: no data set has that name.
        ConfigError: the config does not fit.
        FileError: the folder of the media or an annotation file is missing.
        AnnotationError: an annotation file cannot be used.
    """
    name, block = _found(name, cfg_path)
    builder_class = find_builder(name, block)
    if block is not None and own_config(builder_class) is DatasetBlock:
        block = expand(block, where=f"datasets.{name}")
    builder = builder_class(block)
    builder.name = builder.name or name
    if vis_path is not None:
        place = Path(vis_path).expanduser()
        location = str(place.resolve()) if place.is_dir() else str(vis_path)
        builder.set_storage(location, data_type=data_type)
    datasets: dict[str, Any] = builder.build_datasets()
    return datasets


def _found(
    name: str | Path | Mapping[str, Any], cfg: str | Path | Mapping[str, Any] | None
) -> tuple[str, dict[str, Any] | None]:
    """A data set's name and its block; None for that of its own file."""
    if isinstance(name, Mapping):
        return OWN, dict(plain(name))
    if cfg is None and Path(name).suffix in (".yaml", ".yml"):
        cfg, name = name, ""
    if cfg is None:
        return str(name), None
    if isinstance(cfg, Mapping):
        return str(name), dict(plain(cfg))
    base = importlib.import_module("lavis_clone.datasets.builders.base")  # needs torch
    is_known = bool(name) and name in registry.builders
    key, block = base.find_block(cfg, name=str(name), is_strict=not is_known)
    return str(name) or key, plain(block)


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

    def listings(self) -> list[Listing]:
        """Kind, splits, sizes, licence and where the media come from, of each data set."""
        return [listing_of(name, types) for name, types in self.dataset_zoo.items()]

    def __str__(self) -> str:
        return as_table(self.listings())


dataset_zoo = DatasetZoo()


def __getattr__(name: str) -> Any:
    if name in ("BaseDatasetBuilder", "load_dataset_config"):
        return getattr(importlib.import_module("lavis_clone.datasets.builders.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
