"""From a YAML file and ``--options`` to a checked config.

Merged in this order, the later one wins: ``configs/default.yaml``, the default YAML of the model's
``model_type``, those of the data sets, the file, the options.
"""

from __future__ import annotations

import importlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lavis_clone.common.blocks import DatasetBlock
from lavis_clone.common.config_check import (
    PROCESSOR_KEYS,
    check,
    check_datasets,
    find_builder,
    find_model,
    is_own,
    own_config,
)
from lavis_clone.common.files import FileError, cache_root, config_file, write_atomic
from lavis_clone.common.names import suggest
from lavis_clone.common.own_data import expand
from lavis_clone.common.reading import ConfigError, Problems, first_line, plain, read
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig

__all__ = [
    "Config",
    "ConfigError",
    "load_config",
    "load_data_blocks",
    "load_yaml",
    "model_defaults",
    "read",
]

CAPTION_PROCESSOR = "blip_caption"
"""Puts the prompt of a model in front of the captions that it learns from."""
BLOCKS = ("env", "imports", "model", "datasets", "run")


@dataclass(frozen=True)
class Config:
    """Everything that a job is told."""

    model: dict[str, Any]
    """The ``model:`` block over its default YAML."""
    datasets: dict[str, dict[str, Any]]
    """The block of each data set over its default YAML, by the builder's name."""
    run: RunConfig
    preprocess: dict[str, Any] = field(default_factory=dict)
    """The processors that the model's default YAML names; a job uses those of its data sets."""
    merged: dict[str, Any] = field(default_factory=dict)
    """All of it as one YAML file would say it, which loads to the same config."""

    def save(self, path: str | Path) -> None:
        """Write ``merged`` as YAML."""
        write_atomic(path, yaml.safe_dump(self.merged, sort_keys=False, allow_unicode=True))


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Read a run's YAML file.

    A file that is not found from the working directory is looked for among the shipped ones
    (``projects/...``). Modules that it lists under ``imports:`` are imported first, so that they
    can register what the file names; they must be importable, the file's directory is no help.

    Args:
        options: ``key=value`` or ``key value`` pairs, e.g. ``["run.max_epoch=1"]``.

    Raises:
        ConfigError: with a line for each problem.
    """
    problems = Problems()
    told = _merge(load_yaml(_find(path)), parse_options(options))
    merged, preprocess = _with_defaults(told, problems)
    run = check(merged, problems)
    if problems or run is None:
        raise ConfigError.of(problems)
    if "env" not in told:
        merged.pop("env", None)  # what a saved file says must hold on other machines, too
    return Config(merged["model"], merged["datasets"], run, plain(preprocess), merged)


def load_data_blocks(path: str | Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """What ``Config.merged`` holds, of a file that need not have a model or a run.

    Raises:
        ConfigError: with a line for each problem of the data sets.
    """
    problems = Problems()
    given = _merge(load_yaml(_find(path)), parse_options(options))
    merged, _ = _with_defaults(_merge(DictConfig({"model": {}, "run": {}}), given), problems)
    check_datasets(merged["datasets"], problems)
    if problems:
        raise ConfigError.of(problems)
    return merged


def _with_defaults(told: DictConfig, problems: Problems) -> tuple[dict[str, Any], DictConfig]:
    """What a file tells over all that it leaves to defaults, and the model's processors."""
    _tidy(told, problems)
    _import_modules(told, problems)
    model, preprocess = DictConfig({}), DictConfig({})
    with problems.collect("model"):
        model, preprocess = _model_files(told.model)
    datasets: dict[str, DictConfig] = {}
    for name in list(told.datasets):
        with problems.collect(f"datasets.{name}"):
            told.datasets[name] = _expanded(str(name), told.datasets[name])
            datasets[str(name)] = _dataset_file(str(name), told.datasets[name])
    base = load_yaml(config_file("configs/default.yaml"))
    base.env.cache_root = str(cache_root())
    merged: dict[str, Any] = plain(
        _merge(base, DictConfig({"model": model, "datasets": datasets}), told)
    )
    for name, block in merged["datasets"].items():
        with problems.collect(f"datasets.{name}"):
            merged["datasets"][name] = _completed(name, block, merged["model"], preprocess)
    return merged, preprocess


def model_defaults(arch: str, model_type: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ``model:`` and the ``preprocess:`` block of a model's default YAML.

    Raises:
        UnknownName: there is no such model.
        ConfigError: it has no such ``model_type``, or the file is broken.
    """
    block, preprocess = _model_files({"arch": arch, "model_type": model_type})
    return plain(block), plain(preprocess)


def load_yaml(path: str | Path) -> DictConfig:
    """Read one YAML file, with ``${...}`` still in it.

    Raises:
        ConfigError: in one line, with the place of a syntax error.
    """
    try:
        loaded = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{place}: {error.problem or error.context}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ConfigError(f"cannot read {path}: {reason}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path}: must be a mapping, got a {type(plain(loaded)).__name__}")
    return loaded


def parse_options(options: Sequence[str]) -> DictConfig:
    """Read ``["a.b=1", "a.c", "2"]`` as ``{a: {b: 1, c: 2}}``; values are YAML.

    Raises:
        ConfigError: a key without a value, or a value that is not YAML.
    """
    dotted: list[str] = []
    rest = iter(options)
    for item in rest:
        key, equals, value = item.partition("=")
        if not equals:
            value = next(rest, "")
            if not value:
                raise ConfigError(f"--options: {key!r} has no value; write {key}=value")
        if not all(key.split(".")):
            raise ConfigError(f"--options: {item!r} must look like block.key=value")
        dotted.append(f"{key}={value}")
    try:
        return OmegaConf.from_dotlist(dotted)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"--options {' '.join(options)}: {first_line(error)}") from error


def _find(path: str | Path) -> Path:
    if Path(path).expanduser().is_file():
        return Path(path).expanduser()
    try:
        return config_file(path)
    except FileError as error:
        raise ConfigError(str(error)) from error


def _merge(*parts: DictConfig) -> DictConfig:
    try:
        merged = OmegaConf.merge(*parts)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(first_line(error)) from error
    assert isinstance(merged, DictConfig)  # as all parts are
    return merged


def _tidy(told: DictConfig, problems: Problems) -> None:
    """Take out what is no block; an empty block is one without keys."""
    for key in list(told):
        if key not in BLOCKS:
            problems.append(f"{key}: unknown block{suggest(str(key), BLOCKS)}")
            del told[key]
    for key in ("model", "datasets", "run"):
        if key not in told:
            problems.append(f"{key}: required, but not given")
        _make_mapping(told, key, key, problems)
    for name in list(told.datasets):
        _make_mapping(told.datasets, name, f"datasets.{name}", problems)


def _make_mapping(parent: DictConfig, key: Any, where: str, problems: Problems) -> None:
    value = parent.get(key)
    if not isinstance(value, DictConfig):
        if value is not None:
            problems.append(f"{where}: must be a mapping, got {plain(value)!r}")
        parent[key] = {}


def _import_modules(told: DictConfig, problems: Problems) -> None:
    modules = plain(told.get("imports")) or []
    if not (isinstance(modules, list) and all(isinstance(m, str) for m in modules)):
        problems.append(f"imports: must be a list of modules, got {modules!r}")
        return
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            problems.append(f"imports: cannot import {module!r}: {first_line(error)}")


def _model_files(block: Mapping[str, Any]) -> tuple[DictConfig, DictConfig]:
    """The default YAML of the model that ``block`` names, as ``model:`` and ``preprocess:``."""
    arch, model_type = block.get("arch"), block.get("model_type")
    if not isinstance(arch, str) or model_type is None:
        return DictConfig({}), DictConfig({})
    model_class = find_model(arch)
    files: Mapping[str, str] = getattr(model_class, "PRETRAINED_MODEL_CONFIG_DICT", {})
    if model_type not in files:
        find_other = getattr(model_class, "other_type", None)
        other = None if find_other is None else find_other(str(model_type))
        if other is not None:
            return DictConfig(other["model"]), DictConfig(other["preprocess"])
        raise ConfigError(_no_such_type("model", arch, "model_type", model_type, files))
    loaded = load_yaml(config_file(files[model_type]))
    return loaded.get("model") or DictConfig({}), loaded.get("preprocess") or DictConfig({})


def _expanded(name: str, block: DictConfig) -> DictConfig:
    """The long form of a data set's block, if its builder knows a short one."""
    if own_config(find_builder(name, block)) is not DatasetBlock:
        return block
    written = OmegaConf.to_container(block, resolve=False)  # what is in ${} is not known yet
    return DictConfig(expand(typing.cast(dict[str, Any], written), where=f"datasets.{name}"))


def _completed(
    name: str, block: dict[str, Any], model: Mapping[str, Any], preprocess: Mapping[str, Any]
) -> dict[str, Any]:
    """The block with what its builder finds out; of one's own data, with the model's processors."""
    complete = getattr(find_builder(name, block), "complete_block", None)
    completed = block if complete is None else complete(block, where=f"datasets.{name}")
    if not is_own(name):
        return completed
    given = plain(preprocess or _family_preprocess(model.get("arch")))
    missing = [key for key in PROCESSOR_KEYS if completed.get(key) is None and given.get(key)]
    return {**completed, **{key: _processors(given[key], model) for key in missing}}


def _family_preprocess(arch: Any) -> Mapping[str, Any]:
    """The processors of a model's first type, for a run that names none and gives the sizes."""
    if not isinstance(arch, str) or arch not in registry.models:
        return {}
    files: Mapping[str, str] = getattr(find_model(arch), "PRETRAINED_MODEL_CONFIG_DICT", {})
    return _model_files({"arch": arch, "model_type": next(iter(files))})[1] if files else {}


def _processors(blocks: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """A model type's processors, with the picture size and the prompt that the run's model has."""
    phases = {"train": blocks.get("train") or blocks.get("eval"), "eval": blocks.get("eval")}
    size, prompt = model.get("image_size"), model.get("prompt")
    fitted = {phase: dict(block) for phase, block in phases.items() if block}
    for phase, block in fitted.items():
        if size and "image_size" in block:
            block["image_size"] = size
        if prompt is not None and phase == "train" and block.get("name") == CAPTION_PROCESSOR:
            block["prompt"] = prompt
    return fitted


def _dataset_file(name: str, block: Mapping[str, Any]) -> DictConfig:
    """The default YAML of a data set, whatever name it has in that file."""
    files: Mapping[str, str] = getattr(find_builder(name, block), "DATASET_CONFIG_DICT", {})
    kind = block.get("type") or "default"
    if kind not in files:
        if kind == "default":
            return DictConfig({})
        raise ConfigError(_no_such_type("dataset", name, "type", kind, files))
    path = config_file(files[kind])
    blocks = load_yaml(path).get("datasets") or {}
    if len(blocks) != 1 and name not in blocks:
        raise ConfigError(f"{path}: must have one block under datasets, has {list(blocks)}")
    found = blocks[name] if name in blocks else next(iter(blocks.values()))
    return found or DictConfig({})


def _no_such_type(kind: str, name: str, key: str, value: object, known: Mapping[str, str]) -> str:
    listed = ", ".join(sorted(known)) or "none"
    return f"{kind} {name!r} has no {key} {value!r}{suggest(str(value), known)} ({listed})"
