"""Data of one's own: a kind of sample, a folder and tables, under any name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lavis_clone.common.blocks import DatasetBlock
from lavis_clone.common.config_check import is_own
from lavis_clone.common.files import FileError, cache_root
from lavis_clone.common.members import member_of
from lavis_clone.common.names import suggest
from lavis_clone.common.own_data import OWN, PLACES, HubBlock, expand, find_place
from lavis_clone.common.reading import ConfigError, plain, read
from lavis_clone.common.registry import registry
from lavis_clone.datasets.builders.base import ANSWER_CLASSES, TRAIN, BaseDatasetBuilder
from lavis_clone.datasets.builders.sources import table_for
from lavis_clone.datasets.folders import subfolders
from lavis_clone.datasets.hub import HubSplit, hub_splits
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.shards import open_up

LOOKED_FOR = 10_000
"""Records, evenly spread, whose files are looked for before a data set is used."""
MAY_LACK = ("pairs",)
"""Kinds that are often collected from the web, where pictures disappear; they are skipped."""
TOLD = 3
"""Files that a message names at most."""


@registry.register_builder(OWN)
class OwnBuilder(BaseDatasetBuilder):
    """Builds what has a ``kind``, but is not registered.

    Beside files, annotations may be a folder of media with ``.txt`` files, and with ``hub`` the
    rows of a data set of the package ``datasets``.
    """

    Config = DatasetBlock

    def build(self) -> dict[str, Any]:
        block = self.complete_block(plain(self.config), where=self._where)
        self.config = OmegaConf.create(block)
        if block.get("hub"):
            return self._of_hub(read(HubBlock, block["hub"], where=f"{self._where}.hub"))
        check_places(block, where=self._where)
        datasets = super().build()
        _check_classes(datasets, where=self._where)
        return datasets

    @classmethod
    def complete_block(cls, block: Mapping[str, Any], *, where: str) -> dict[str, Any]:
        """The block in its long form, with places and splits that are found on this machine.

        Raises:
            ConfigError: it says too little, or too much.
        """
        long = expand(block, where=where)
        read(DatasetBlock, long, where=where)
        if not long.get("kind"):
            raise ConfigError(f"{where}.kind: required, e.g. caption or vqa")
        dataset_class = _train_class(long["kind"], where=where)
        if long.get("hub"):
            return {**long, "hub": _placed_hub(long["hub"])}
        info = _placed(open_up(long.get("build_info") or {}))
        data_type = _data_type(long, info, dataset_class, where=where)
        completed = {**long, "data_type": data_type, "build_info": info}
        if not info.get("annotations"):
            info |= _folders(completed, dataset_class, where=where)
        parts, listed = long.get("split"), set(info.get("annotations") or ()) - {ANSWER_CLASSES}
        if parts and (odd := sorted(listed - set(parts))):
            raise ConfigError(
                f"{where}.split: has {', '.join(parts)}, but annotations also {', '.join(odd)}"
            )
        return completed

    def _of_hub(self, hub: HubBlock) -> dict[str, Any]:
        """The data set of each split that the package ``datasets`` gives."""
        self.build_processors()
        parts = plain(self.config.get("split"))
        where = f"{self._where}.hub"
        wanted = None if parts else self.only_splits
        found = hub_splits(hub, where=where, wanted=wanted)
        if parts and len(found) != 1:
            listed = ", ".join(found)
            raise ConfigError(f"{where}.splits: name the one that split is to divide ({listed})")
        if parts:
            found = {name: rows for name in parts for rows in found.values()}
        return {split: self._hub_dataset(split, rows) for split, rows in found.items()}

    def _hub_dataset(self, split: str, source: HubSplit) -> Any:
        phase = "train" if split == TRAIN else "eval"
        dataset_class = self._dataset_class(phase)
        table = table_for(
            self.config,
            Path(source.label),
            split=split,
            dataset_class=self._dataset_class("train"),
            rows=source.records,
        )
        options = self._own_options(dataset_class)
        if "class_names" not in options and hasattr(dataset_class, "default_class_names"):
            theirs = {ours: name for name, ours in table.columns.items()}.get("label", "label")
            names = source.class_names(theirs)
            options |= {"class_names": names} if names else {}
        dataset = dataset_class(
            vis_processor=self.vis_processors[phase],
            text_processor=self.text_processors[phase],
            ann_paths=[table],
            vis_root=self._hub_root(source),
            **options,
        )
        dataset.name, dataset.split = self._label, split
        if source.picture_columns:
            dataset.pictures = source
        return dataset

    def _hub_root(self, source: HubSplit) -> str:
        """The folder of the media that are no column of the data set."""
        has_folder = any(place in self._folders_told() for place in PLACES)
        return str(self._media_root()) if has_folder and not source.picture_columns else ""

    def _folders_told(self) -> Mapping[str, Any]:
        return plain(self.config.get("build_info")) or {}


def check_places(block: Mapping[str, Any], *, where: str) -> None:
    """Look for all files and folders that cannot be downloaded.

    Raises:
        FileError: with a line for each that is not there, and where it was looked for.
    """
    info = block["build_info"]
    told = info.get(block["data_type"]) if isinstance(block["data_type"], str) else None
    folder = told.get("storage") if isinstance(told, Mapping) else None
    problems = []
    if folder and not _is_there(folder, Path.is_dir):
        problems.append(f"{where}.{block['data_type']}: no such folder: {_told_place(folder)}")
    for split, entry in (info.get("annotations") or {}).items():
        if entry is None or entry.get("url"):
            continue
        for storage in _each(entry["storage"]):
            if not _is_there(storage, Path.exists):
                told = f"no such annotation file: {_told_place(storage)}"
                problems.append(f"{where}.annotations.{split}: {told}")
    if problems:
        raise FileError("\n".join(problems))


def check_own_media(
    blocks: Mapping[str, Mapping[str, Any]], datasets: Mapping[str, Mapping[str, Any]]
) -> None:
    """Look for the files that the annotations of one's own data sets name, before they are used.

    Raises:
        FileError: some are missing.
    """
    for name, splits in datasets.items():
        if is_own(name) and blocks[name].get("kind") not in MAY_LACK:
            for dataset in splits.values():
                _check_media(dataset)


def _check_media(dataset: Any) -> None:
    """Look for the files of a data set's records; of very many, for those of a part."""
    if getattr(dataset, "pictures", None) is not None or not hasattr(dataset, "describe"):
        return
    step = -(-len(dataset) // LOOKED_FOR) or 1
    described = [dataset.describe(index) for index in range(0, len(dataset), step)]
    files = list(dict.fromkeys(path for found in described for path in found.media.values()))
    missing = [path for path in files if not path.is_file() and member_of(path) is None]
    if missing:
        names = ", ".join(map(str, missing[:TOLD]))
        raise FileError(
            f"datasets.{dataset.name}, split {dataset.split}: {len(missing)} of the {len(files)} "
            f"files that its annotations name are missing, e.g. {names}"
        )


def _train_class(kind: str, *, where: str) -> Any:
    try:
        return dataset_classes(kind)[0]
    except ValueError as error:
        raise ConfigError(f"{where}.kind: {error}") from error


def _placed(info: Mapping[str, Any]) -> dict[str, Any]:
    """``build_info`` with the places of what is there."""
    placed = dict(info)
    for place in PLACES:
        if isinstance(info.get(place), Mapping) and isinstance(info[place].get("storage"), str):
            placed[place] = {**info[place], "storage": find_place(info[place]["storage"])}
    annotations = info.get("annotations")
    if isinstance(annotations, Mapping):
        placed["annotations"] = {split: _placed_entry(e) for split, e in annotations.items()}
    return placed


def _placed_entry(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or entry.get("url"):
        return entry
    storage = entry.get("storage")
    if isinstance(storage, str):
        return {**entry, "storage": find_place(storage)}
    if isinstance(storage, list) and all(isinstance(one, str) for one in storage):
        return {**entry, "storage": list(map(find_place, storage))}
    return entry


def _placed_hub(hub: Mapping[str, Any]) -> dict[str, Any]:
    """A hub block with the places of what is there; a format's name is no folder."""
    is_format = hub.get("data_files") or hub.get("data_dir")
    given = {key: hub.get(key) for key in ("data_dir", *(() if is_format else ("path",)))}
    placed: dict[str, Any] = {k: find_place(v) for k, v in given.items() if isinstance(v, str)}
    files = hub.get("data_files")
    if isinstance(files, Mapping):
        placed["data_files"] = {s: _each_placed(one) for s, one in files.items()}
    elif files:
        placed["data_files"] = _each_placed(files)
    return {**hub, **placed}


def _each_placed(files: Any) -> Any:
    return find_place(files) if isinstance(files, str) else list(map(find_place, files))


def _data_type(
    block: Mapping[str, Any], info: Mapping[str, Any], dataset_class: Any, *, where: str
) -> Any:
    """``images`` or ``videos``, as the kind has it, or another type that the block gives."""
    given = block.get("data_type")
    wanted = f"{getattr(dataset_class, 'media', 'image')}s"
    if given and given not in PLACES:
        return given
    if wanted not in info or given not in (None, wanted):
        other = given or next((place for place in PLACES if place in info), None)
        hint = f" for kind {block['kind']}, not {other}" if other not in (None, wanted) else ""
        raise ConfigError(f"{where}.{wanted}: required{hint}: the folder of the {wanted}")
    return wanted


def _folders(block: Mapping[str, Any], dataset_class: Any, *, where: str) -> dict[str, Any]:
    """What ``build_info`` says of a folder without annotations: its splits or annotations."""
    info, place = block["build_info"], block["data_type"]
    told = info.get(place) if isinstance(place, str) else None
    root = Path((told or {}).get("storage") or "").expanduser()
    reads_folders = getattr(dataset_class, "reads_folders", False)
    if reads_folders and info.get("splits"):
        return {}
    if not reads_folders and "caption" not in getattr(dataset_class, "required", ()):
        raise ConfigError(f"{where}.annotations: required for kind {block['kind']}{_hint(block)}")
    if not root.is_dir():
        return {}  # told when it is to be used
    parts = list(block.get("split") or ())
    splits = parts or subfolders(root)
    if not splits:
        raise ConfigError(
            f"{where}: has no annotations, and {root} no folders for the splits; give "
            "annotations: {train: FILE}, or divide it by split: {train: 0.9, val: 0.1}"
        )
    if reads_folders:
        return {"splits": splits}
    folders = {split: root if parts else root / split for split in splits}
    return {"annotations": {split: {"storage": str(f)} for split, f in folders.items()}}


def _hint(block: Mapping[str, Any]) -> str:
    is_by_class = block["kind"] == "classification"
    return "; kind image_folder reads a folder for each class" if is_by_class else ""


def _check_classes(datasets: Mapping[str, Any], *, where: str) -> None:
    """Class numbers that are places of folders must be the same in all splits."""
    found = {s: d.classnames for s, d in datasets.items() if getattr(d, "reads_folders", False)}
    for split, names in found.items():
        first, expected = next(iter(found.items()))
        if names != expected:
            odd = sorted(set(names) ^ set(expected))
            raise ConfigError(
                f"{where}: the splits {first} and {split} have folders of other classes: "
                f"{', '.join(odd)}"
            )


def _is_there(told: str, kind: Callable[[Path], bool]) -> bool:
    path = Path(told).expanduser()
    return "://" in told or (path.is_absolute() and kind(path))


def _told_place(told: str) -> str:
    """A path that leads nowhere, the nearest name, and where it was looked for."""
    path = Path(told).expanduser()
    roots = [Path()] if path.is_absolute() else [Path.cwd(), cache_root()]
    parents = [(root / path).parent for root in roots]
    near = suggest(path.name, {f.name for p in parents if p.is_dir() for f in p.iterdir()})
    looked = "" if path.is_absolute() else f" (looked for in {roots[0]} and {roots[1]})"
    return f"{told}{looked}{near}"


def _each(storage: str | Sequence[str]) -> Sequence[str]:
    return [storage] if isinstance(storage, str) else storage
