"""The short form of a data set's block: what it may say, and its long form.

``{kind: caption, images: DIR, annotations: {train: a.csv}}`` says in the words of a user what
``build_info`` says in LAVIS's.
"""

from __future__ import annotations

import functools
import os
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavis_clone.common.files import cache_root
from lavis_clone.common.reading import ConfigError

OWN = "own"
"""The builder of every data set that is not registered, but has a ``kind``."""
PLACES = ("images", "videos")
"""The short keys of the folder of the media; each is a ``data_type`` too."""
SHORT_KEYS = (*PLACES, "annotations", "hub")
"""What only a block with data of its own has."""
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class HubBlock:
    """A data set that the package ``datasets`` of Hugging Face reads, ``datasets.<name>.hub``."""

    path: str
    """Its id on the hub, a folder, what ``save_to_disk`` wrote, or a format: ``csv``, ``json``,
    ``parquet``, ``imagefolder``, with ``data_files`` or ``data_dir``."""
    name: str | None = None
    """Which configuration of it."""
    revision: str | None = None
    """Which version on the hub: a branch, a tag or a commit."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """Its files, or those of each split, relative to ``path`` or, of a format, to the working
    directory."""
    data_dir: str | None = None
    """The folder with its files."""
    splits: dict[str, str] | None = None
    """Our splits and what they are called there, e.g. ``{val: "validation[:500]"}``; None for all
    under the names that they have."""


def expand(block: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The block with ``images``, ``videos`` and ``annotations`` moved into ``build_info``.

    What ``build_info`` has at the same place gives way, so that an option in the short form changes
    a file in the long one. Relative places are those of ``find_place``.

    Raises:
        ConfigError: the short form contradicts itself.
    """
    long = {key: value for key, value in block.items() if key not in (*PLACES, "annotations")}
    given = {key: block[key] for key in PLACES if block.get(key) is not None}
    annotations = block.get("annotations")
    if not given and annotations is None:
        return long
    info = block.get("build_info")
    if not isinstance(info, Mapping) and info is not None:
        raise ConfigError(f"{where}.build_info: must be a mapping, got {info!r}")
    if len(given) > 1:
        raise ConfigError(f"{where}: has both images and videos; a data set is of one of them")
    info = dict(info or {})
    for place, folder in given.items():
        if not isinstance(folder, str):
            raise ConfigError(f"{where}.{place}: must be a folder, got {folder!r}")
        before = info.get(place)
        info[place] = {
            **(before if isinstance(before, Mapping) else {}),
            "storage": find_place(folder),
        }
        long["data_type"] = place
    if annotations is not None:
        entries = _entries(annotations, block.get("split"), where=where)
        info["annotations"] = {**(info.get("annotations") or {}), **entries}
    long["build_info"] = info
    return long


def _entries(annotations: Any, split: Any, *, where: str) -> dict[str, Any]:
    """``build_info.annotations`` for what the short key ``annotations`` holds."""
    if isinstance(annotations, Mapping):
        if split:
            raise ConfigError(
                f"{where}.split: annotations name their splits already "
                f"({', '.join(map(str, annotations))}); give one table to be split"
            )
        return {name: _entry(entry) for name, entry in annotations.items()}
    if not isinstance(annotations, (str, list)):
        raise ConfigError(f"{where}.annotations: must be a file or files by split")
    if not isinstance(split, Mapping) or not split:
        raise ConfigError(
            f"{where}.annotations: name the splits, e.g. {{train: {annotations!r}}}, or say what "
            "part each is, e.g. split: {train: 0.9, val: 0.1}"
        )
    return {name: _entry(annotations) for name in split}


def _entry(entry: Any) -> Any:
    if isinstance(entry, str):
        return {"storage": find_place(entry)}
    if isinstance(entry, list):
        return {"storage": [find_place(one) if isinstance(one, str) else one for one in entry]}
    return entry


def find_place(told: str) -> str:
    """Where a file or folder is: a relative path below the working directory, else in the cache.

    What is in neither stays as it was told.
    """
    path = Path(told).expanduser()
    if "://" in told or path.is_absolute():
        return told
    for root in (Path.cwd(), cache_root()):
        if (root / path).exists():
            return os.path.abspath(root / path)
    return told


def broken_rules(
    *,
    columns: Mapping[str, str] | None,
    template: str | Mapping[str, str] | None,
    split: Mapping[str, float] | None,
) -> list[str]:
    """What is wrong with the values of a block's keys, one line each, the key in front."""
    broken = [f"columns: {line}" for line in _broken_columns(columns or {})]
    templates = {"template": template} if isinstance(template, str) else template or {}
    for target, text in templates.items():
        try:
            template_fields(text)
        except ValueError as error:
            broken.append(f"{'template' if text is template else f'template.{target}'}: {error}")
    if split is not None:
        total = sum(split.values())
        broken += [f"split.{n}: must be more than 0, got {s}" for n, s in split.items() if s <= 0]
        if abs(total - 1) > ROUNDING:
            broken.append(f"split: the parts must add up to 1, got {total:g}")
    return broken


def _broken_columns(columns: Mapping[str, str]) -> list[str]:
    sources: dict[str, list[str]] = {}
    for theirs, ours in columns.items():
        sources.setdefault(ours, []).append(str(theirs))
    return [
        f"{' and '.join(map(repr, theirs))} are both to be {ours!r}"
        for ours, theirs in sources.items()
        if len(theirs) > 1
    ]


@functools.cache
def template_fields(template: str) -> tuple[str, ...]:
    """The names that a template has in braces, e.g. ``("caption",)`` of ``"a photo of {caption}"``.

    Raises:
        ValueError: it has none, its braces do not match, or they hold more than a name.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r} is no template: {error}") from error
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, spec, conversion in parts:
        if name is not None and (not name or name.isdigit() or set(name) & set(".[") or spec):
            raise ValueError(f"{template!r}: in braces must be the name of a column")
        if conversion:
            raise ValueError(f"{template!r}: in braces must be the name of a column")
    if not names:
        raise ValueError(f"{template!r} names no column; write its name in braces, {{caption}}")
    return tuple(names)
