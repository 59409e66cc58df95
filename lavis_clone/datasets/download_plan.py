"""What ``lavis-clone download`` has to get for a data set, where it belongs, and what is there."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lavis_clone.common.archives import is_archive
from lavis_clone.common.blocks import AnnotationBlock, MediaBlock, SourceBlock
from lavis_clone.common.files import FileError, cache_root, is_url, keyed_path
from lavis_clone.common.names import suggest
from lavis_clone.common.reading import ConfigError, read
from lavis_clone.datasets.storage import (
    AnnotationFile,
    annotation_files,
    storage_path,
    told_by_hand,
)

ANSWER_CLASSES = "ans2label"
"""What is no split among ``build_info.annotations``, but needed by all of them."""
STATE = ".downloads"
"""The folder, in that of the media, of unfinished archives and of notes on finished ones."""


class Holding(NamedTuple):
    """A pattern below a folder, and how many files it has to match."""

    folder: Path
    pattern: str
    number: int

    def problem(self) -> str | None:
        """What is missing, or None."""
        found = (path for path in self.folder.glob(self.pattern) if path.is_file())
        number = sum(1 for _ in itertools.islice(found, self.number))
        if number >= self.number:
            return None
        if self.number == 1:
            return f"{self.folder / self.pattern} is missing"
        return f"{self.folder / self.pattern}: there are {number} files of {self.number}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """Something to download, and what is to become of it."""

    url: str
    target: Path
    """Where the bytes go: the file itself, or the archive."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    unpack_to: Path | None = None
    """Where an archive's content goes; None for no archive."""
    members: Mapping[str, Path] = field(default_factory=dict)
    """Of an archive that only some files are needed of: where each goes."""
    holds: tuple[Holding, ...] = ()
    """What is to be there in the end."""

    @property
    def is_archive(self) -> bool:
        return self.unpack_to is not None or bool(self.members)

    @property
    def note(self) -> Path:
        """Says that the archive was unpacked."""
        return self.target.with_name(f"{self.target.name}.done.json")

    @property
    def work(self) -> Path:
        """Where the archive is being unpacked."""
        return self.target.with_name(f"{self.target.name}.unpacking")

    def is_done(self) -> bool:
        """Whether nothing is left to do; what was placed by hand counts."""
        if self.holds and not any(holding.problem() for holding in self.holds):
            return True
        if self.members:
            return all(path.is_file() for path in self.members.values())
        return self.target.is_file() if self.unpack_to is None else self._is_unpacked()

    def _is_unpacked(self) -> bool:
        if not self.note.is_file() or self.unpack_to is None:
            return False
        names = json.loads(self.note.read_text(encoding="utf-8"))["names"]
        return all((self.unpack_to / name).exists() for name in names)


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """Something that no program may download."""

    what: str
    place: Path
    """The file or folder that has to be there."""
    text: str
    """What to do, in words."""
    holds: tuple[Holding, ...] = ()

    def problems(self) -> list[str]:
        """What is missing, a line each."""
        if not self.place.exists():
            return [f"{self.place} is missing"]
        is_bare = self.place.is_dir() and not self.holds
        if is_bare and all(entry.name == STATE for entry in self.place.iterdir()):
            return [f"{self.place} is empty"]
        return [problem for holding in self.holds if (problem := holding.problem())]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done for a data set."""

    name: str
    about: Mapping[str, Any]
    """Licence, homepage and where the media come from."""
    items: list[Item]
    by_hand: list[ByHand]
    hub: list[str]
    """Locations on the Hugging Face hub, which has a cache of its own."""
    holds: list[Holding]
    """What is to be there in the end, whatever it came from."""
    overrides: list[str]
    """What to change in a config for files that were put elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a user asks for."""

    splits: Sequence[str] = ()
    """Empty for all."""
    media: bool = False
    to: Path | None = None
    """The folder that takes the place of the cache."""


def make_plan(name: str, block: Mapping[str, Any], wish: Wish) -> Plan:
    """Read a data set's block.

    Raises:
        ConfigError: the block does not fit, has no such split, or says not where its media are.
        FileError: it names something that the package does not ship.
    """
    return _Planner(name, block, wish).plan()


class _Planner:
    """Collects what a block says."""

    def __init__(self, name: str, block: Mapping[str, Any], wish: Wish) -> None:
        self.name, self.wish = name, wish
        self.where = f"datasets.{name}.build_info"
        self.about = block.get("about") or {}
        self.info: Mapping[str, Any] = block.get("build_info") or {}
        self.data_type = block.get("data_type") or "images"
        self.annotations = {
            split: read(AnnotationBlock, entry, where=f"{self.where}.annotations.{split}")
            for split, entry in (self.info.get("annotations") or {}).items()
            if entry is not None
        }
        self.items: dict[Path, Item] = {}
        self.by_hand: list[ByHand] = []
        self.hub: list[str] = []
        self.holds: list[Holding] = []
        self.overrides: list[str] = []

    def plan(self) -> Plan:
        splits = self._splits()
        for split in splits:
            if split in self.annotations:
                self._add_annotations(split)
        if self.wish.media:
            for data_type in self._data_types():
                self._add_media(data_type, splits)
        return Plan(
            name=self.name,
            about=self.about,
            items=list(self.items.values()),
            by_hand=self.by_hand,
            hub=self.hub,
            holds=self.holds,
            overrides=self.overrides,
        )

    def _splits(self) -> list[str]:
        known = [*self.annotations, *(self.info.get("splits") or [])]
        named = [split for split in known if split != ANSWER_CLASSES]
        for split in self.wish.splits:
            if split not in named:
                listed = ", ".join(named) or "none"
                raise ConfigError(
                    f"data set {self.name!r} has no split {split!r}{suggest(split, named)} "
                    f"(it has {listed})"
                )
        return [
            s for s in known if not self.wish.splits or s in (*self.wish.splits, ANSWER_CLASSES)
        ]

    def _data_types(self) -> list[str]:
        told = [self.data_type] if isinstance(self.data_type, str) else list(self.data_type)
        found = [data_type for data_type in told if self.info.get(data_type)]
        if not found:
            raise ConfigError(f"{self.where} says not where its {' and '.join(told)} are")
        return found

    def _place(self, storage: str) -> Path:
        if self.wish.to is None or "://" in storage:
            return storage_path(storage)
        path = Path(storage).expanduser()
        return self.wish.to / (path.name if path.is_absolute() else path)

    def _add_annotations(self, split: str) -> None:
        block, where = self.annotations[split], f"{self.where}.annotations.{split}"
        files = annotation_files(block, where=where, place=self._place)
        for file in files:
            if "://" in file.storage:
                continue  # shipped, or in the hub's cache by now
            if file.url is None:
                text = block.by_hand or "no URL is known of it"
                told = told_by_hand(text, file.path)
                self.by_hand.append(ByHand(what=f"{split} annotations", place=file.path, text=told))
            elif is_url(file.url):
                self._add(self._annotation_item(file, file.url))
            elif file.url.startswith("hf://"):
                self.hub.append(file.url)
        paths = [str(file.path) for file in files]
        value = paths[0] if isinstance(block.storage, str) else f"[{','.join(paths)}]"
        self._override(f"annotations.{split}.storage", value)

    def _annotation_item(self, file: AnnotationFile, url: str) -> Item:
        if file.member is None:
            return Item(url=url, target=file.path, checksums=file.checksums)
        archive = keyed_path((self.wish.to or cache_root()) / "downloads", url)
        before = self.items[archive].members if archive in self.items else {}
        members = {**before, file.member: file.path}
        return Item(url=url, target=archive, checksums=file.checksums, members=members)

    def _add_media(self, data_type: str, splits: Sequence[str]) -> None:
        where = f"{self.where}.{data_type}"
        block = read(MediaBlock, self.info[data_type], where=where)
        folder = self._place(block.storage)
        if "://" in block.storage:
            return
        holds = _holdings(folder, block.holds)
        wanted = [s for s in block.sources if s.splits is None or set(s.splits) & set(splits)]
        is_there = bool(holds) and not any(holding.problem() for holding in holds)
        if not is_there:
            for source in wanted:
                self._add(_source_item(source, folder))
        if block.by_hand:
            told = told_by_hand(block.by_hand, folder)
            self.by_hand.append(ByHand(what=data_type, place=folder, text=told, holds=holds))
        elif len(wanted) == len(block.sources):
            self.holds += holds
        if not block.sources and not block.by_hand:
            self.by_hand.append(
                ByHand(
                    what=data_type,
                    place=folder,
                    text=f"{where} names no sources to download them from; place them there",
                    holds=holds,
                )
            )
        self._override(f"{data_type}.storage", str(folder))

    def _add(self, item: Item) -> None:
        self.items[item.target] = item

    def _override(self, key: str, value: str) -> None:
        if self.wish.to is not None and "://" not in value:
            self.overrides.append(shlex.quote(f"{self.where}.{key}={value}"))


def _holdings(folder: Path, holds: Mapping[str, int]) -> tuple[Holding, ...]:
    return tuple(Holding(folder, pattern, number) for pattern, number in holds.items())


def _source_item(source: SourceBlock, folder: Path) -> Item:
    given = {"sha256": source.sha256, "md5": source.md5}
    checksums = {name: value for name, value in given.items() if value}
    holds = _holdings(folder, source.holds)
    archive = keyed_path(folder / STATE, source.url)
    unpack = is_archive(archive.name) if source.unpack is None else source.unpack
    if not is_url(source.url):
        raise FileError(f"{source.url!r} is not an http(s) URL")
    return Item(
        url=source.url,
        target=archive if unpack else folder / source.to / archive.name,
        checksums=checksums,
        size=source.bytes,
        unpack_to=folder / source.to if unpack else None,
        holds=holds,
    )
