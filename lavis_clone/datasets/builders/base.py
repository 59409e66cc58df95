"""From a config block to the data sets of each split."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from lavis_clone.common.blocks import AnnotationBlock, MediaBlock
from lavis_clone.common.config import load_yaml
from lavis_clone.common.files import FileError, config_file
from lavis_clone.common.names import suggest
from lavis_clone.common.reading import ConfigError, plain, read
from lavis_clone.common.registry import registry
from lavis_clone.datasets.builders.sources import share_of, source_of
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.storage import annotation_paths, download_command, media_root
from lavis_clone.processors.base import BaseProcessor

TRAIN = "train"
"""The split that is trained on; all others are for evaluation."""
ANSWER_CLASSES = "ans2label"
"""What is no split among ``build_info.annotations``, but a file of answers and their classes."""


class BaseDatasetBuilder:
    """Builds what its config block describes.

    A benchmark of a known kind needs no class: a YAML file with ``kind`` and a line in
    ``benchmarks.py`` will do. For samples of your own, subclass, set the two classes (they are
    called as ``BaseDataset`` is) and register::

        @registry.register_builder("my_captions")
        class MyBuilder(BaseDatasetBuilder):
            train_dataset_cls = MyDataset
            eval_dataset_cls = MyEvalDataset
            DATASET_CONFIG_DICT = {"default": "/data/my_captions.yaml"}

    Args:
        cfg: The block (``build_info``, ``vis_processor``, ...), or a YAML file with
            ``datasets: {<name>: <block>}``; None takes the default file.
    """

    name: str = ""
    """The registered name, for messages and to find the block in a file."""
    kind: ClassVar[str] = ""
    """What the samples are, when the block does not say it."""
    Config: ClassVar[type | None] = None
    """A dataclass of all keys that the block may have; None lets unknown keys pass."""
    train_dataset_cls: ClassVar[Any] = None
    """None takes the class of the block's ``kind``."""
    eval_dataset_cls: ClassVar[Any] = None
    DATASET_CONFIG_DICT: ClassVar[Mapping[str, str]] = {}
    """The YAML file of each ``type``; ``default`` is the one without a type."""

    only_splits: Sequence[str] | None = None
    """The splits that are needed, for builders whose configs do not list them; None for all."""

    config: Any

    def __init__(self, cfg: Mapping[str, Any] | str | Path | None = None) -> None:
        if cfg is None:
            self.config = load_dataset_config(self.default_config_path(), name=self.name)
        elif isinstance(cfg, (str, Path)):
            self.config = load_dataset_config(cfg, name=self.name)
        else:
            self.config = OmegaConf.create(plain(cfg))
        self.vis_processors: dict[str, Any] = {"train": BaseProcessor(), "eval": BaseProcessor()}
        self.text_processors: dict[str, Any] = {"train": BaseProcessor(), "eval": BaseProcessor()}
        self._ans2label: Path | None = None

    @classmethod
    def default_config_path(cls, type: str = "default") -> str:
        """The YAML file of a ``type``.

        Raises:
            ConfigError: there is no such type.
            FileError: there is no such file.
        """
        known = cls.DATASET_CONFIG_DICT
        if type not in known:
            raise ConfigError(
                f"dataset {cls.name or cls.__name__!r} has no type {type!r}{suggest(type, known)} "
                f"({', '.join(sorted(known)) or 'it has no config file'})"
            )
        return str(config_file(known[type]))

    @property
    def data_type(self) -> Any:
        """``images``, ``videos``, ...: the key of ``build_info`` that says where the media are."""
        return plain(self.config.get("data_type")) or "images"

    def set_storage(self, location: str, *, data_type: str | None = None) -> None:
        """Say where the media are, in place of what the config says.

        Args:
            data_type: Which key of ``build_info`` it is; None for the config's own.

        Raises:
            ConfigError: the config has no such data type.
        """
        key = self.data_type if data_type is None else data_type
        info = self._build_info
        if key not in info:
            raise ConfigError(f"{self._where}.build_info has no {key!r}{suggest(str(key), info)}")
        self.config.build_info[key] = {"storage": location}

    def build_datasets(self) -> dict[str, Any]:
        """The data set of each split that the config lists annotations of.

        Annotations are downloaded if need be; media never are.

        Raises:
            ConfigError: the config does not fit.
            FileError: the folder of the media or an annotation file is missing.
            AnnotationError: an annotation file cannot be used.
        """
        return self.build()

    def build_processors(self) -> None:
        """Make the processors that the config names; those that it does not name are identities."""
        for key, processors in (
            ("vis_processor", self.vis_processors),
            ("text_processor", self.text_processors),
        ):
            for split, block in (plain(self.config.get(key)) or {}).items():
                if split not in processors:
                    raise ConfigError(
                        f"{self._where}.{key}.{split}: must be one of {', '.join(processors)}"
                    )
                if block:
                    processors[split] = _processor(block, where=f"{self._where}.{key}.{split}")

    def build(self) -> dict[str, Any]:
        """``build_datasets`` itself; LAVIS had two steps, and subclasses may override either."""
        if self.Config is not None:
            read(self.Config, self.config, where=self._where)
        self.build_processors()
        root = self._media_root()
        annotations = self._annotation_paths()
        self._ans2label = next(iter(annotations.pop(ANSWER_CLASSES, ())), None)
        return {split: self._dataset(split, paths, root) for split, paths in annotations.items()}

    @property
    def _label(self) -> str:
        return self.name or type(self).__name__

    @property
    def _where(self) -> str:
        return f"datasets.{self._label}"

    @property
    def _build_info(self) -> dict[str, Any]:
        info = plain(self.config.get("build_info"), where=f"{self._where}.build_info")
        if not isinstance(info, dict):
            raise ConfigError(f"{self._where}.build_info: required, but not given")
        return info

    def _media_root(self) -> Path:
        data_type = self.data_type
        if not isinstance(data_type, str):
            raise ConfigError(f"{self._where}.data_type: must be one type, got {data_type!r}")
        block = self._build_info.get(data_type)
        storage = block.get("storage") if isinstance(block, dict) else None
        if not storage:
            raise ConfigError(
                f"{self._where}.build_info.{data_type}.storage: required, but not given"
            )
        where = f"{self._where}.build_info.{data_type}"
        return media_root(
            storage,
            builder=self._label,
            data_type=data_type,
            block=read(MediaBlock, block, where=where),
            command=self._command(images=True),
        )

    def _command(self, *, split: str | None = None, images: bool = False) -> str:
        """What gets the files of the data set; empty when it has no config file of its own."""
        kind = self.config.get("type") or "default"
        if kind not in self.DATASET_CONFIG_DICT:
            return ""
        return download_command(self._label, type=kind, split=split, images=images)

    def _annotation_paths(self) -> dict[str, list[Path]]:
        blocks = self._build_info.get("annotations") or {}
        splits = self._build_info.get("splits") or []
        if not blocks and splits and getattr(self._dataset_class("eval"), "reads_folders", False):
            return {split: [] for split in splits}
        if not blocks:
            raise ConfigError(f"{self._where}.build_info.annotations: names no split")
        paths = {}
        for split, block in blocks.items():
            if block is None:  # an override has taken this split out
                continue
            where = f"{self._where}.build_info.annotations.{split}"
            command = self._command(split=None if split == ANSWER_CLASSES else split)
            paths[split] = annotation_paths(
                read(AnnotationBlock, block, where=where), where=where, command=command
            )
        return paths

    def _dataset(self, split: str, paths: list[Path], root: Path) -> Any:
        phase = "train" if split == TRAIN else "eval"
        dataset_class = self._dataset_class(phase)
        trained, share = self._dataset_class("train"), share_of(self.config, split)
        dataset = dataset_class(
            vis_processor=self.vis_processors[phase],
            text_processor=self.text_processors[phase],
            ann_paths=[
                source_of(self.config, path, split=split, root=root, dataset_class=trained)
                for path in paths
            ],
            vis_root=str(root if paths or share else root / split),  # a folder by class
            **self._own_options(dataset_class),
            **({"share": share} if share and not paths else {}),
        )
        dataset.name, dataset.split = self._label, split
        return dataset

    def _own_options(self, dataset_class: Any) -> dict[str, Any]:
        """What the block says beyond the arguments that all data sets take."""
        given = {"class_names": plain(self.config.get("class_names")), "ans2label": self._ans2label}
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if name not in inspect.signature(dataset_class).parameters:
                raise ConfigError(
                    f"{self._where}.{name}: {dataset_class.__name__} has no classes to name"
                )
        return given

    def _dataset_class(self, phase: str) -> Any:
        own = self.train_dataset_cls if phase == "train" else self.eval_dataset_cls
        if own is not None:
            return own
        kind = self.config.get("kind") or self.kind
        if not kind:
            raise ConfigError(
                f"{self._where}.kind: required, since {type(self).__name__} has no "
                f"{phase}_dataset_cls"
            )
        try:
            train_class, eval_class = dataset_classes(kind)
        except ValueError as error:
            raise ConfigError(f"{self._where}.kind: {error}") from error
        return train_class if phase == "train" else eval_class


def load_dataset_config(cfg_path: str | Path, *, name: str = "") -> DictConfig:
    """The block of one data set from a YAML file with ``datasets: {<name>: <block>}``.

    Args:
        name: Which one; the first when the file does not have it.

    Raises:
        ConfigError: the file cannot be read or describes no data set.
    """
    return find_block(cfg_path, name=name)[1]


def find_block(
    cfg_path: str | Path, *, name: str = "", is_strict: bool = False
) -> tuple[str, DictConfig]:
    """The name and the block of one data set from a YAML file.

    Args:
        name: Which one; empty for the only one.
        is_strict: Do not take the first when the file does not have it.

    Raises:
        ConfigError: the file cannot be read, describes no data set or not this one.
    """
    try:
        path = config_file(cfg_path)
    except FileError as error:
        raise ConfigError(str(error)) from error
    blocks = load_yaml(path).get("datasets")
    if not isinstance(blocks, DictConfig) or not blocks:
        raise ConfigError(f"{path}: must have a block under datasets")
    if is_strict and name not in blocks and (name or len(blocks) > 1):
        listed = ", ".join(map(str, blocks))
        missing = f"has no data set {name!r}{suggest(name, blocks)}" if name else "say which one"
        raise ConfigError(f"{path}: {missing} (it has {listed})")
    key = name if name in blocks else str(next(iter(blocks)))
    block = blocks[key]
    if not isinstance(block, DictConfig):
        raise ConfigError(f"{path}: datasets.{key} must be a mapping, got {block!r}")
    return key, block


def _processor(block: Any, *, where: str) -> Any:
    if not isinstance(block, Mapping) or not isinstance(block.get("name"), str):
        raise ConfigError(f"{where}.name: must be the name of a processor, got {block!r}")
    return registry.get_processor_class(block["name"]).from_config(block)
