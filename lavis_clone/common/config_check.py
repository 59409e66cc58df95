"""Checks a merged config against the schema and against what the names in it stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lavis_clone.common.blocks import AnnotationBlock, DatasetBlock, EnvBlock, WeightsBlock
from lavis_clone.common.files import CACHE_VARIABLE, cache_root
from lavis_clone.common.names import suggest
from lavis_clone.common.own_data import OWN, SHORT_KEYS
from lavis_clone.common.reading import ConfigError, Problems, read
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig, read_run

PROCESSOR_KEYS = ("vis_processor", "text_processor")


def find_model(arch: str) -> Any:
    """The model class ``arch``; UnknownName or ImportError otherwise."""
    return registry.get_model_class(arch)


def find_builder(name: str, block: Mapping[str, Any] | None = None) -> Any:
    """The data set builder ``name``, or that of one's own data if the name is only in the YAML.

    Args:
        block: What the YAML says of it; with a ``kind`` it may have any name.

    Raises:
        ConfigError: it looks like data of one's own, but has no ``kind``.
        UnknownName, ImportError: there is no such builder, or it cannot be had.
    """
    given = block or {}
    if name in registry.builders:
        return registry.get_builder_class(name)
    if given.get("kind"):
        return registry.get_builder_class(OWN)
    if any(given.get(key) for key in SHORT_KEYS):
        raise ConfigError(
            f"datasets.{name}.kind: required, since no data set is registered as {name!r}"
            f"{suggest(name, registry.list_datasets())} (e.g. kind: caption)"
        )
    return registry.get_builder_class(name)


def is_own(name: str) -> bool:
    """Whether a data set is the user's own, and not one that the library or a plugin knows."""
    return name == OWN or name not in registry.builders


def check(merged: Mapping[str, Any], problems: Problems) -> RunConfig | None:
    """Put a line for everything that is wrong with ``merged`` into ``problems``."""
    with problems.collect("env"):
        _check_env(read(EnvBlock, merged.get("env"), where="env"))
    _check_model(merged["model"], problems)
    check_datasets(merged["datasets"], problems)
    run: RunConfig | None = None
    with problems.collect("run"):
        run = read_run(merged["run"])
        _check_names(run, problems)
    return run


def check_datasets(blocks: Mapping[str, Any], problems: Problems) -> None:
    """Put a line for everything that is wrong with a ``datasets:`` block into ``problems``."""
    if not blocks:
        problems.append("datasets: names no data set")
    for name, block in blocks.items():
        _check_dataset(name, block, problems)


def _check_env(env: EnvBlock) -> None:
    if env.cache_root is not None and env.cache_root.expanduser() != cache_root():
        raise ConfigError(
            f"env.cache_root: is {cache_root()}; to change it, set the environment variable "
            f"{CACHE_VARIABLE} to {env.cache_root}"
        )


def _check_model(block: dict[str, Any], problems: Problems) -> None:
    weights = _field_names(WeightsBlock)
    with problems.collect("model"):
        read(WeightsBlock, {k: v for k, v in block.items() if k in weights}, where="model")
    with problems.collect("model"):
        config = own_config(find_model(block["arch"])) if "arch" in block else None
        if config is not None:
            own = _field_names(config)
            part = {k: v for k, v in block.items() if k in own or k not in weights}
            read(config, part, where="model")


def own_config(component: Any) -> Any:
    """The dataclass ``Config`` of a class, or None."""
    config = getattr(component, "Config", None)
    return config if isinstance(config, type) and dataclasses.is_dataclass(config) else None


def _field_names(cls: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)}


def _check_dataset(name: str, block: dict[str, Any], problems: Problems) -> None:
    """A builder without a ``Config`` may have keys of its own beside the common ones."""
    where = f"datasets.{name}"
    with problems.collect(where):
        config = own_config(find_builder(name, block))
        known = _field_names(DatasetBlock)
        part = block if config else {k: v for k, v in block.items() if k in known}
        read(config or DatasetBlock, part, where=where)
    for split, entry in _mapping(_mapping(block, "build_info"), "annotations").items():
        with problems.collect(where):
            read(AnnotationBlock, entry, where=f"{where}.build_info.annotations.{split}")
    for key in PROCESSOR_KEYS:
        for split, processor in _mapping(block, key).items():
            if isinstance(processor, Mapping):
                with problems.collect(f"{where}.{key}.{split}"):
                    _check_processor(split, processor, f"{where}.{key}.{split}")


def _mapping(block: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """``block[key]`` when it is a mapping; other types have been told already."""
    value = block.get(key)
    return value if isinstance(value, Mapping) else {}


def _check_processor(split: str, block: Mapping[str, Any], where: str) -> None:
    if split not in ("train", "eval"):
        raise ConfigError(f"{where}: must be train or eval, got {split!r}")
    if not isinstance(block.get("name"), str):
        raise ConfigError(f"{where}.name: must be the name of a processor")
    processor = registry.get_processor_class(block["name"])
    if isinstance(processor, type) and dataclasses.is_dataclass(processor):
        read(processor, {k: v for k, v in block.items() if k != "name"}, where=where)


def _check_names(run: RunConfig, problems: Problems) -> None:
    """The task, the runner and the schedule must be registered; none of them is imported."""
    for key, table in (
        ("task", registry.tasks),
        ("runner", registry.runners),
        ("lr_sched", registry.lr_schedulers),
    ):
        name = getattr(run, key)
        with problems.collect(f"run.{key}"):
            if name is not None and name not in table:
                table.get(name)  # its error offers the nearest name
