"""Where a data set's annotations and media lie."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lavis_clone.common.files import FileError, cache_root, download, is_url, resolve
from lavis_clone.common.schema import AnnotationBlock


def storage_path(location: str | Path) -> Path:
    """The path that a ``storage`` means, whether or not anything is there.

    An absolute path (or one that begins with ``~``) is itself, a relative one lies under the cache,
    and ``asset://x`` and ``hf://...`` are resolved.

    Raises:
        FileError: an ``asset://`` or ``hf://`` location does not exist.
    """
    if "://" in str(location):
        return resolve(location)
    path = Path(location).expanduser()
    return path if path.is_absolute() else cache_root() / path


def annotation_paths(block: AnnotationBlock, *, where: str) -> list[Path]:
    """The annotation files of one split, downloaded at first use.

    Args:
        where: Dotted place of ``block`` in the config, for messages.

    Raises:
        FileError: a file is not there and cannot be had; says where to place it.
        ValueError: the block's lists differ in length.
    """
    storages = [block.storage] if isinstance(block.storage, str) else block.storage
    given = {"url": block.url, "md5": block.md5, "sha256": block.sha256}
    columns = [_as_list(value) or [None] * len(storages) for value in given.values()]
    counts = {"storage": len(storages), **dict(zip(given, map(len, columns), strict=True))}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"{where}: needs as many of each, got {listed}")
    return [
        _annotation_path(storage, _Source(*source), where)
        for storage, *source in zip(storages, *columns, strict=True)
    ]


def media_root(storage: str | Path, *, builder: str, data_type: str) -> Path:
    """The folder of a data set's pictures or videos.

    Raises:
        FileError: there is no such folder; names it and the builder.
    """
    path = storage_path(storage)
    if not path.is_dir():
        raise FileError(
            f"dataset {builder!r}: the folder of its {data_type} is missing: {path}; place them "
            f"there, or set datasets.{builder}.build_info.{data_type}.storage to where they are"
        )
    return path


class _Source(NamedTuple):
    """Where one file can be had, and its checksums."""

    url: str | None
    md5: str | None
    sha256: str | None


def _annotation_path(storage: str, source: _Source, where: str) -> Path:
    path = storage_path(storage)
    if source.url and is_url(source.url):
        return download(source.url, target=path, md5=source.md5, sha256=source.sha256)
    if path.is_file():
        return path
    if not source.url:
        raise FileError(
            f"{where}: no such annotation file: {path}; place it there, or set {where}.storage "
            "to where it is (it has no url to download from)"
        )
    try:
        return resolve(source.url)
    except FileError as error:
        raise FileError(f"{where}: neither {path} nor its url: {error}") from error


def _as_list(value: str | list[str] | None) -> list[str | None]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
