"""Unpacks ``.zip`` and ``.tar`` archives from strangers: nothing lands outside of its folder.

An archive is unpacked into a working folder on the same disk, and only when all of it is there is
it moved to where it belongs. Both steps go on where they were interrupted.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import functools
import gzip
import io
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

from lavis_clone.common.atomic import atomic_path, write_atomic
from lavis_clone.common.web import FileError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
COMPRESSIONS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
CHUNK = 1 << 20
LARGEST_READ = 16 << 20
"""Bytes that the header of a tar member may ask for at once."""
MAX_KEPT = 1000
"""How many of the uppermost names are remembered, to see later whether they are still there."""


class ArchiveError(FileError):
    """An archive is broken or malicious. The message is one line and names it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may grow to; beyond it, it is taken for a bomb."""

    ratio: float = 200.0
    """How many times its own size all of its files may have."""
    floor: int = 1 << 30
    """Bytes that any archive may unpack to, however small it is."""
    files: int = 20_000_000

    def max_bytes(self, archive: Path) -> int:
        return max(self.floor, int(self.ratio * archive.stat().st_size))


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What came out of an archive."""

    files: int
    bytes: int
    names: list[str]
    """The uppermost files and folders, or the first thousand of them."""


class _Member(NamedTuple):
    """One entry of an archive."""

    name: str
    size: int
    kind: str
    """``file``, ``folder``, ``hard link``, ``symbolic link`` or what else it is."""
    open: Callable[[], Any]
    """Reads a file's content."""
    link: str = ""
    """Where a link leads."""


def is_archive(name: str) -> bool:
    """Whether a file name is that of an archive that ``unpack`` reads."""
    return name.lower().endswith(SUFFIXES)


def unpack(
    archive: Path,
    folder: Path,
    *,
    work: Path,
    limits: Limits | None = None,
    on_bytes: Callable[[int], object] = lambda _number: None,
) -> Unpacked:
    """Put what is in ``archive`` into ``folder``, beside what is there already.

    Args:
        work: A folder for this archive alone, on the same disk; it is removed at the end.
        on_bytes: Told how many bytes have been written.

    Raises:
        ArchiveError: the archive is broken, or one of its entries leads out of the folder, is a
            device, or is larger than it may be. ``folder`` is left as it was.
        FileError: there is too little space on the disk.
    """
    ready, content = work / "ready.json", work / "content"
    if ready.exists():  # it was interrupted while it moved
        found = Unpacked(**json.loads(ready.read_text(encoding="utf-8")))
    else:
        content.mkdir(parents=True, exist_ok=True)
        try:
            with _told_in_one_line(archive):
                _check_space(archive, content)
                found = _extract(archive, content, limits or Limits(), on_bytes)
        except ArchiveError:
            shutil.rmtree(work, ignore_errors=True)
            raise
        write_atomic(ready, json.dumps(asdict(found)))
    if content.exists():
        _merge(content, folder)
    shutil.rmtree(work)
    return found


def extract_member(archive: Path, name: str, target: Path, limits: Limits | None = None) -> None:
    """Write the file that an archive has under ``name`` to ``target``.

    Raises:
        ArchiveError: it has no such file, or is broken.
    """
    most, names = (limits or Limits()).max_bytes(archive), []
    with _told_in_one_line(archive), _members(archive, most) as members:
        for member in members:
            names.append(member.name)
            if member.kind == "file" and member.name.removeprefix("./") == name:
                with atomic_path(target) as temporary, temporary.open("wb") as out:
                    _copy(member, out, most)
                return
    listed = ", ".join(names[:10])
    raise ArchiveError(f"{archive}: holds no file {name!r} (it has {listed or 'none'})")


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of an entry's name, if it stays in its folder on every system.

    Raises:
        ValueError: it does not.
    """
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if plain.startswith("/") or PureWindowsPath(plain).anchor:
        raise ValueError(f"{name!r} is an absolute path")
    if ".." in parts:
        raise ValueError(f"{name!r} leads out of its folder")
    if any(ord(letter) < 32 for letter in name):
        raise ValueError(f"{name!r} holds control characters")
    return parts


def _check_space(archive: Path, content: Path) -> None:
    """A ``.zip`` says beforehand what it will need."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            needed = sum(info.file_size for info in opened.infolist())
        needed -= sum(path.stat().st_size for path in content.rglob("*") if path.is_file())
        free = shutil.disk_usage(content).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"needs {needed} more bytes, but its disk has {free} free")


def _extract(
    archive: Path, content: Path, limits: Limits, on_bytes: Callable[[int], object]
) -> Unpacked:
    most = limits.max_bytes(archive)
    files, written = 0, 0
    top: dict[str, None] = {}
    with _members(archive, most) as members:
        for member in members:
            parts = safe_parts(member.name)
            if not parts:
                continue
            path = content.joinpath(*parts)
            if len(top) < MAX_KEPT:
                top[parts[0]] = None
            if member.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                continue
            files += 1
            if files > limits.files:
                raise ArchiveError(f"holds more than {limits.files} files")
            path.parent.mkdir(parents=True, exist_ok=True)
            written += _write(member, path, content, most - written)
            on_bytes(member.size)
    return Unpacked(files=files, bytes=written, names=list(top))


def _write(member: _Member, path: Path, content: Path, most: int) -> int:
    """Write one file, unless it is there; returns its length."""
    if member.kind.endswith("link"):
        source = _link_target(member, content)
        if source.stat().st_size > most:
            raise ArchiveError(f"unpacks to more than it may: at {member.name!r}")
        if source != path:
            shutil.copyfile(source, path)
        return source.stat().st_size
    if member.kind != "file":
        raise ArchiveError(f"{member.name!r} is a {member.kind}")
    if path.is_file() and path.stat().st_size == member.size:
        return member.size  # it was interrupted later than here
    with path.open("wb") as out:
        return _copy(member, out, most)


def _link_target(member: _Member, content: Path) -> Path:
    """The file, already unpacked, that a link leads to; a copy takes the link's place."""
    start = PurePosixPath(member.name).parent if member.kind == "symbolic link" else ""
    joined = os.path.normpath(PurePosixPath(start, member.link.replace("\\", "/")).as_posix())
    try:
        source = content.joinpath(*safe_parts(joined))
    except ValueError as error:
        raise ValueError(f"{member.kind} {member.name!r}: {error}") from error
    if not source.is_file():
        raise ArchiveError(f"{member.kind} {member.name!r} leads to no file before it: {joined!r}")
    return source


def _copy(member: _Member, out: IO[bytes], most: int) -> int:
    """The bytes that were written, which are as many as the member is long."""
    total = 0
    with member.open() as source:
        while chunk := source.read(CHUNK):
            total += len(chunk)
            if total > most:
                raise ArchiveError(f"unpacks to more than it may: at {member.name!r}")
            out.write(chunk)
    if total != member.size:
        raise ArchiveError(f"{member.name!r} ends after {total} of {member.size} bytes")
    return total


@contextlib.contextmanager
def _members(archive: Path, most: int) -> Iterator[Iterator[_Member]]:
    """The entries of an archive, in order, whatever its name ends in."""
    with archive.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(archive) as opened:
            total = sum(info.file_size for info in opened.infolist())
            if total > most:
                raise ArchiveError(f"would unpack to {total} bytes, more than the {most} it may")
            yield _zip_members(opened)
        return
    readers = [reader for magic, reader in COMPRESSIONS.items() if start.startswith(magic)]
    with readers[0](archive) if readers else archive.open("rb") as raw:
        guard: Any = _Guard(raw, most)
        with tarfile.open(fileobj=guard, mode="r:") as opened_tar:
            yield _tar_members(opened_tar)


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 1:
            raise ArchiveError(f"{info.filename!r} is encrypted")
        kinds = {stat.S_IFLNK: "symbolic link", stat.S_IFREG: "file", stat.S_IFDIR: "folder", 0: ""}
        kind = kinds.get(mode, "device") or "file"
        if info.filename.endswith(("/", "\\")):
            kind = "folder"
        link = ""
        if kind == "symbolic link":
            if info.file_size > CHUNK:
                raise ArchiveError(f"{info.filename!r} is a link that is too long")
            link = opened.read(info).decode(errors="replace")
        name = info.orig_filename  # not cut at a zero byte
        yield _Member(name, info.file_size, kind, functools.partial(opened.open, info), link)


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    kinds = {tarfile.LNKTYPE: "hard link", tarfile.SYMTYPE: "symbolic link"}
    while (info := opened.next()) is not None:
        kind = "file" if info.isreg() else "folder" if info.isdir() else ""
        kind = kind or kinds.get(info.type, "device")
        read = functools.partial(opened.extractfile, info)
        yield _Member(info.name, info.size, kind, read, info.linkname)
        opened.members = []  # type: ignore[attr-defined]  # else it keeps millions of them


class _Guard(io.RawIOBase):
    """Lets a tar file be read, but not without limit: its headers are read at once."""

    def __init__(self, raw: IO[bytes], most: int) -> None:
        super().__init__()
        self.raw, self.most = raw, 2 * most + LARGEST_READ  # with headers and padding

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise ArchiveError(f"asks for {size} bytes at once")
        self._check(self.raw.tell() + size)
        return self.raw.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check(offset)
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _check(self, position: int) -> None:
        if position > self.most:
            raise ArchiveError("unpacks to more than it may")


@contextlib.contextmanager
def _told_in_one_line(archive: Path) -> Iterator[None]:
    """What is wrong with an archive, as an error that names it."""
    broken = (
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
    )
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{archive}: {error}") from error
    except (*broken, RuntimeError) as error:
        raise ArchiveError(f"{archive}: cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise FileError(f"{archive}: cannot be unpacked: {error.strerror or error}") from error
        raise ArchiveError(f"{archive}: cannot be unpacked: {error}") from error


def _merge(source: Path, target: Path) -> None:
    """Move what is in one folder into another, beside or in place of what is there."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in list(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        elif entry.is_dir() or not place.is_dir():
            _move(entry, place)
        else:
            raise FileError(f"{place} is a folder, but the archive has a file of that name")


def _move(entry: Path, place: Path) -> None:
    try:
        os.replace(entry, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(entry, place)  # a folder of the user's that leads to another disk
