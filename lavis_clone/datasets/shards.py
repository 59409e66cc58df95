"""Reads shards: tar files whose members are samples, as the package ``webdataset`` writes them.

A sample is a run of members that share a name up to the first dot: ``0007.jpg``, ``0007.txt``. A
shard is read through once, and what it holds is kept in the cache like a large annotation file:
texts and numbers as they are, and where each picture's bytes begin. So shards are data sets like
any other, of which every sample can be had by its index, in any order.
"""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lavis_clone.common.members import Member
from lavis_clone.common.reading import ConfigError

SUFFIX = ".tar"
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
FIELDS = {**dict.fromkeys(PICTURES, "image"), "txt": "caption", "cls": "label"}
"""What a member becomes by the end of its name; a word before it is the field's name instead, as in
``0007.question.txt``. A ``.json`` gives all its fields. Members with other ends are not read."""
FORM = "shard 1"
"""Changes when other records are made of the same shard."""

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_BLOCK = 512
"""Bytes of a tar file's unit."""


class ShardError(ValueError):
    """A shard cannot be used. The message is one line and names the shard."""


def is_shard(path: object) -> bool:
    """Whether a file's name is that of a shard."""
    return str(path).lower().endswith(SUFFIX)


def shard_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a shard: its texts and numbers, and where its pictures are.

    Each has an ``image_id``, ``<shard>/<name of the sample>``, if it brings none.

    Raises:
        ShardError: the shard is damaged, or a sample in it.
        OSError: it cannot be read.
    """
    path = path.absolute()  # of what is told of its members
    names: set[str] = set()
    for name, members in itertools.groupby(
        _members(path), key=lambda found: _parted(found.name)[0]
    ):
        if name in names:
            raise ShardError(f"{path}: the members of {name!r} do not lie together")
        names.add(name)
        if record := _record(path, name, list(members)):
            yield {"image_id": f"{path.stem}/{name}", **record}


def expand_braces(location: str) -> list[str]:
    """All locations that a pattern stands for.

    >>> expand_braces("a-{09..10}.tar")
    ['a-09.tar', 'a-10.tar']
    """
    match = _BRACES.search(location)
    if match is None:
        return [location]
    first, last, listed = match.groups()
    parts = listed.split(",") if listed is not None else _numbers(first, last)
    before, after = location[: match.start()], location[match.end() :]
    return [found for part in parts for found in expand_braces(f"{before}{part}{after}")]


def open_up(info: Mapping[str, Any]) -> dict[str, Any]:
    """``build_info`` with patterns of shards written out.

    Where all annotations are shards, which bring their pictures, no folder of pictures is needed.

    Raises:
        ConfigError: a location is a command.
    """
    annotations = info.get("annotations")
    if not isinstance(annotations, Mapping):
        return dict(info)
    opened = {split: _opened_up(entry) for split, entry in annotations.items()}
    places = [place for entry in opened.values() for place in _places(entry)]
    found = {**info, "annotations": opened}
    if places and all(map(is_shard, places)) and not {"images", "videos"} & set(info):
        found["images"] = {"storage": str(Path.cwd())}
    return found


def _opened_up(entry: Any) -> Any:
    places = _places(entry)
    if commands := [place for place in places if place.startswith("pipe:")]:
        raise ConfigError(
            f"{commands[0]!r} is a command; shards are files or http(s) URLs, and no program is run"
        )
    if not any(map(is_shard, places)):
        return entry
    spread = [
        one for place in places for one in (expand_braces(place) if is_shard(place) else [place])
    ]
    return {**entry, "storage": spread}


def _places(entry: Any) -> list[str]:
    """The storages of a split's annotations."""
    told = entry.get("storage") if isinstance(entry, Mapping) else None
    return [
        place for place in (told if isinstance(told, list) else [told]) if isinstance(place, str)
    ]


def _numbers(first: str, last: str) -> list[str]:
    width = len(first) if first.startswith("0") else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _parted(name: str) -> tuple[str, str]:
    """A member's sample and what follows the first dot, in small letters."""
    path = PurePosixPath(name)
    stem, _, end = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, end.lower()


def _members(path: Path) -> Iterator[Member]:
    """The files of a tar archive, which must be whole: an end mark follows the last one."""
    try:
        with tarfile.open(path, "r:") as archive:
            while info := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # or it keeps all
                if info.isreg() and not info.issparse():
                    yield Member(path, info.name, info.offset_data, info.size)
            end = archive.offset
    except tarfile.TarError as error:
        raise ShardError(f"{path}: damaged, or compressed, which is not read: {error}") from error
    with path.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise ShardError(f"{path}: damaged or cut off: no tar member and no end at byte {end}")


def _record(path: Path, name: str, members: list[Member]) -> dict[str, Any]:
    """What the members of a sample say; nothing when none of them is read."""
    record: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for member in members:
        words = _parted(member.name)[1].split(".")
        if words[-1] == "json":
            told |= _json(path, member)
            continue
        if words[-1] not in FIELDS:
            continue
        field = ".".join(words[:-1]) or FIELDS[words[-1]]
        if field in record:
            raise ShardError(f"{path}: sample {name!r} has two members for {field!r}")
        record[field] = str(member) if words[-1] in PICTURES else _text(path, member)
        if words[-1] == "cls" and record[field].isdecimal():
            record[field] = int(record[field])
    return {**told, **record}


def _json(path: Path, member: Member) -> dict[str, Any]:
    try:
        found = json.loads(_text(path, member))
    except json.JSONDecodeError as error:
        raise ShardError(f"{path}: {member.name}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ShardError(f"{path}: {member.name}: must be a mapping, got {found!r:.80}")
    return found


def _text(path: Path, member: Member) -> str:
    try:
        return member.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ShardError(f"{path}: {member.name}: not UTF-8 text: {error}") from error
