"""Moves a file from an HTTP server to this disk, whole or not at all.

What has arrived lies in ``<target>.part`` until it is complete and checked; then it is renamed. A
broken transfer goes on where it stopped, if the server says that the file is still the same one.
Big files may come over several connections (ranges.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lavis_clone.common.ranges import Changed, RangedFile, fetch_ranges, is_worthwhile
from lavis_clone.common.web import (
    CHUNK,
    Broken,
    FileError,
    Remote,
    TransferOptions,
    Unreachable,
    length_of,
    open_url,
    patiently,
    probe,
    receive,
    version_of,
)

__all__ = [
    "FileError",
    "Mismatch",
    "TransferOptions",
    "Unreachable",
    "digest",
    "fetch_bytes",
    "look_up",
    "num_there",
    "transfer",
]

logger = logging.getLogger(__name__)


class Mismatch(FileError):
    """A file does not have the checksum that was expected."""


def transfer(url: str, target: Path, options: TransferOptions | None = None) -> None:
    """Bring ``url`` to ``target``. Two processes must not do this at once for one target.

    Raises:
        Unreachable: there is no way to the server.
        FileError: the server does not have the file, or sends another one than was expected.
    """
    options = options or TransferOptions()
    ranged = RangedFile(target)
    if (options.connections > 1 or ranged.exists) and _transfer_ranges(url, ranged, options):
        return
    part = _Part(target)

    def attempt() -> bool:
        with options.slot():
            _attempt(url, part, options)
        return _matches(url, part, options)

    patiently(url, options, attempt, lambda: part.size)
    part.finish()


def look_up(url: str, options: TransferOptions | None = None) -> Remote:
    """What the server says about a file.

    Raises:
        Unreachable: there is no way to the server.
        FileError: the server does not have the file.
    """
    options = options or TransferOptions()
    found: list[Remote] = []

    def attempt() -> bool:
        with options.slot():
            found.append(probe(url, timeout=options.timeout))
        return True

    patiently(url, options, attempt, lambda: 0)
    return found[0]


def num_there(target: Path) -> int:
    """How many bytes of an unfinished file an earlier transfer has left."""
    ranged = RangedFile(target)
    return ranged.num_done if ranged.load() else _Part(target).size


def fetch_bytes(url: str, *, max_bytes: int, timeout: float = 30.0) -> bytes:
    """What ``url`` sends, kept in memory only.

    Raises:
        FileError: it cannot be had, or is longer than ``max_bytes``.
    """
    data = bytearray()
    try:
        with open_url(url, {}, timeout) as response:
            expected = length_of(response)
            while len(data) <= max_bytes and (chunk := receive(response)):
                data += chunk
    except Broken as error:
        raise Unreachable(f"cannot read {url}: {error}") from error
    if len(data) > max_bytes:
        raise FileError(f"{url} is longer than {max_bytes} bytes")
    if expected is not None and len(data) < expected:
        raise Unreachable(f"{url} broke off after {len(data)} of {expected} bytes")
    return bytes(data)


def digest(path: Path, algorithm: str) -> str:
    """The hex digest of a file's content."""
    hasher = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


class _Part:
    """The unfinished file beside a target, and which version of the file it is a part of."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.version_path = target.with_name(target.name + ".part.version")
        self.was_resumed = False

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The server's word for the version, good for ``If-Range``; empty when it gave none."""
        return self.version_path.read_text() if self.version_path.exists() else ""

    def start(self, version: str) -> None:
        self.was_resumed = False
        self.path.write_bytes(b"")
        self.version_path.write_text(version)

    def discard(self) -> None:
        for path in (self.path, self.version_path):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.version_path.unlink(missing_ok=True)


def _transfer_ranges(url: str, ranged: RangedFile, options: TransferOptions) -> bool:
    """Fetch a file over several connections; False when it has to come over one, from its start."""
    remote = look_up(url, options)
    _check_size(url, remote.size, options)
    was_resumed = ranged.load() and _is_same(ranged, remote, options)
    if not was_resumed:
        lost, part = ranged.num_done, _Part(ranged.target)
        ranged.discard()
        _count(options, -lost)
        if not is_worthwhile(remote, options):
            return False
        can_adopt = bool(part.size and part.version == remote.version)
        was_resumed = can_adopt
        if part.size and not can_adopt:
            _count(options, -part.size)
            part.discard()
        ranged.begin(remote, options.connections, prefix=part.path if can_adopt else None)
        part.version_path.unlink(missing_ok=True)
    logger.debug("%s: %d of %d bytes are there", url, ranged.num_done, ranged.size)
    try:
        with _counting(options, ranged.target, remote.size, ranged.num_done) as count:
            fetch_ranges(url, ranged, options, count)
    except Changed as error:
        logger.warning("%s: %s; beginning again over one connection", url, error)
        _count(options, -ranged.num_done)
        ranged.discard()
        return False
    wrong = _wrong_checksum(ranged.path, options)
    if wrong is not None:
        _count(options, -ranged.num_done)
        ranged.discard()
        if not was_resumed:
            raise _mismatch(url, wrong, ranged.target)
        return False
    ranged.finish()
    return True


def _is_same(ranged: RangedFile, remote: Remote, options: TransferOptions) -> bool:
    is_safe = bool(remote.version or options.checksums)
    is_same = (ranged.size, ranged.version) == (remote.size, remote.version)
    return is_same and is_safe and remote.has_ranges


def _attempt(url: str, part: _Part, options: TransferOptions) -> None:
    """Ask for what is missing of ``part`` and append it; return when the part is complete."""
    start = part.size if part.version or options.checksums else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and part.version:
        headers["If-Range"] = part.version
    with open_url(url, headers, options.timeout) as response:
        if response.status == 200:
            _check_size(url, length_of(response), options)
            _count(options, -part.size)
            start = 0
            part.start(version_of(response))
        else:
            _check_rest(response, part, start, options)
        if response.status != 416:
            _append(response, part, start, options)
    _check_size(url, part.size, options, part=part)


def _check_rest(response: Any, part: _Part, start: int, options: TransferOptions) -> None:
    """Let pass a 206 that goes on at ``start``, and a 416 that says that ``start`` is the end."""
    said = response.headers.get("Content-Range", "").strip()
    fits = said.startswith(f"bytes {start}-") or said == f"bytes */{start}"
    version = version_of(response)
    if not start or not fits or (version and part.version and version != part.version):
        _count(options, -part.size)
        part.discard()
        raise Broken(f"asked for the rest from {start}, got {said!r}; beginning again", pause=0.01)
    part.was_resumed = True


def _append(response: Any, part: _Part, start: int, options: TransferOptions) -> None:
    length = length_of(response)
    total = None if length is None else start + length
    free = shutil.disk_usage(part.path.parent).free
    if length is not None and length > free:
        raise FileError(f"{part.target} needs {length} more bytes, but its disk has {free} free")
    with _counting(options, part.target, total, start) as count, part.path.open("ab") as file:
        while chunk := receive(response):
            file.write(chunk)
            count(len(chunk))
            options.check_stop()
    if total is not None and part.size < total:
        raise Broken(f"the connection broke after {part.size} of {total} bytes")


def _matches(url: str, part: _Part, options: TransferOptions) -> bool:
    """Whether the part is the right file; False asks for another attempt from the beginning."""
    wrong = _wrong_checksum(part.path, options)
    if wrong is None:
        return True
    was_resumed = part.was_resumed
    _count(options, -part.size)
    part.discard()
    if was_resumed:  # the parts may be of two versions
        return False
    raise _mismatch(url, wrong, part.target)


def _wrong_checksum(path: Path, options: TransferOptions) -> tuple[str, str, str] | None:
    """Algorithm, found and expected digest of the first that does not fit."""
    for algorithm, expected in (options.checksums or {}).items():
        found = digest(path, algorithm)
        if found.lower() != expected.lower():
            return algorithm, found, expected
    return None


def _mismatch(url: str, wrong: tuple[str, str, str], target: Path) -> Mismatch:
    algorithm, found, expected = wrong
    return Mismatch(
        f"{url} has the {algorithm} {found}, not {expected}; nothing was put at {target}"
    )


def _check_size(
    url: str, size: int | None, options: TransferOptions, *, part: _Part | None = None
) -> None:
    """
    Raises:
        FileError: the file is not as long as it must be; ``part`` is thrown away.
    """
    if options.size is None or size is None or size == options.size:
        return
    if part is not None:
        _count(options, -part.size)
        part.discard()
    raise FileError(f"{url} has {size} bytes, not {options.size}")


def _count(options: TransferOptions, number: int) -> None:
    if options.on_bytes is not None and number:
        options.on_bytes(number)


@contextlib.contextmanager
def _counting(
    options: TransferOptions, target: Path, total: int | None, initial: int
) -> Iterator[Callable[[int], object]]:
    """Who is to be told of bytes that come: the caller's, else a bar on the terminal."""
    if options.on_bytes is not None:
        yield options.on_bytes
        return
    bar: Any = tqdm(
        total=total,
        initial=initial,
        unit="B",
        unit_scale=True,
        desc=target.name,
        disable=None,  # shown on a terminal only
    )
    with bar:
        yield bar.update
