"""Where a data set's annotations and media lie, and how those that are missing can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lavis_clone.common.archives import extract_member
from lavis_clone.common.blocks import AnnotationBlock, MediaBlock
from lavis_clone.common.files import FileError, cache_root, download, is_url, locked, resolve


class AnnotationFile(NamedTuple):
    """One annotation file: where it belongs, and where it can be had."""

    path: Path
    storage: str
    url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    member: str | None = None
    """Its name inside of what the URL sends."""

    @property
    def checksums(self) -> dict[str, str]:
        """What is published of what the URL sends."""
        return {n: v for n, v in (("sha256", self.sha256), ("md5", self.md5)) if v}


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


def download_command(
    name: str, *, type: str | None = None, split: str | None = None, images: bool = False
) -> str:
    """What to type to get the annotations, or with ``images`` the media too, of a data set."""
    words = ["lavis-clone", "download", name]
    words += ["--type", type] if type and type != "default" else []
    words += ["--split", split] if split else []
    words += ["--images"] if images else []
    return " ".join(words)


def annotation_files(
    block: AnnotationBlock, *, where: str, place: Callable[[str], Path] = storage_path
) -> list[AnnotationFile]:
    """The annotation files of one split.

    Args:
        where: Dotted place of ``block`` in the config, for messages.
        place: From a ``storage`` to a path.

    Raises:
        FileError: an ``asset://`` or ``hf://`` location does not exist.
        ValueError: the block's lists differ in length.
    """
    storages = [block.storage] if isinstance(block.storage, str) else block.storage
    given = {"url": block.url, "md5": block.md5, "sha256": block.sha256, "member": block.member}
    columns = [_as_list(value) or [None] * len(storages) for value in given.values()]
    counts = {"storage": len(storages), **dict(zip(given, map(len, columns), strict=True))}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"{where}: needs as many of each, got {listed}")
    return [
        AnnotationFile(place(storage), storage, *source)
        for storage, *source in zip(storages, *columns, strict=True)
    ]


def annotation_paths(block: AnnotationBlock, *, where: str, command: str = "") -> list[Path]:
    """The annotation files of one split, downloaded at first use.

    Args:
        where: Dotted place of ``block`` in the config, for messages.
        command: What to type to download them, for messages; empty if there is nothing to type.

    Raises:
        FileError: a file is not there and cannot be had; says where to place it.
        ValueError: the block's lists differ in length.
    """
    files = annotation_files(block, where=where)
    return [_annotation_path(file, block, where, command) for file in files]


def media_root(
    storage: str | Path,
    *,
    builder: str,
    data_type: str,
    block: MediaBlock | None = None,
    command: str = "",
) -> Path:
    """The folder of a data set's pictures or videos.

    Args:
        block: What the config says of them.
        command: What to type to download them, for messages; empty if there is nothing to type.

    Raises:
        FileError: there is no such folder; names it, the builder and the command.
    """
    path = storage_path(storage)
    if not path.is_dir():
        advice = _advice(path, block, command)
        raise FileError(
            f"dataset {builder!r}: the folder of its {data_type} is missing: {path}; {advice}"
            f", or set datasets.{builder}.build_info.{data_type}.storage to where they are"
        )
    return path


def told_by_hand(text: str, place: Path) -> str:
    """Instructions of a config in one line, with the folder or file in place of ``{storage}``."""
    return " ".join(text.replace("{storage}", str(place)).split()).rstrip(".;")


def _advice(path: Path, block: MediaBlock | None, command: str) -> str:
    if block is not None and block.sources and command:
        return f"run `{command}`"
    if block is not None and block.by_hand:
        check = f" (`{command}` then checks it)" if command else ""
        return told_by_hand(block.by_hand, path) + check
    return "place them there"


def _annotation_path(
    file: AnnotationFile, block: AnnotationBlock, where: str, command: str
) -> Path:
    path, url = file.path, file.url
    if url and is_url(url):
        try:
            return _downloaded(file, url)
        except FileError as error:
            hint = f"; `{command}` gets it where there is a network" if command else ""
            raise FileError(f"{error}{hint}") from error
    if path.exists():  # a folder of pictures with texts is no file
        return path
    if not url:
        by_hand = f": {told_by_hand(block.by_hand, path)}" if block.by_hand else ""
        check = f"; `{command}` then checks it" if by_hand and command else ""
        raise FileError(
            f"{where}: no such annotation file: {path}; place it there{by_hand}{check}, or set "
            f"{where}.storage to where it is (it has no url to download from)"
        )
    try:
        return resolve(url)
    except FileError as error:
        raise FileError(f"{where}: neither {path} nor its url: {error}") from error


def _downloaded(file: AnnotationFile, url: str) -> Path:
    if file.member is None:
        return download(url, target=file.path, md5=file.md5, sha256=file.sha256, remember=True)
    if not file.path.is_file():
        archive = download(url, md5=file.md5, sha256=file.sha256, remember=True)
        with locked(file.path):
            if not file.path.is_file():
                extract_member(archive, file.member, file.path)
    return file.path


def _as_list(value: str | list[str] | None) -> list[str | None]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
