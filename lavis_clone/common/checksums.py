"""Compares files with checksums that were published, or that were noted at first use."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path

from lavis_clone.common.atomic import write_atomic
from lavis_clone.common.transfer import Mismatch, digest, transfer
from lavis_clone.common.web import FileError, TransferOptions

ALGORITHM = "sha256"
"""What is noted at first use."""


def verify(path: Path, algorithm: str, expected: str) -> None:
    """Compare a file with its checksum, unless that was done since its last change.

    Raises:
        FileError: it has another one.
    """
    stat = path.stat()
    note = path.with_name(f".{path.name}.{algorithm}")
    verdict = f"{expected.lower()} {stat.st_size} {stat.st_mtime_ns}"
    if note.exists() and note.read_text() == verdict:
        return
    found = digest(path, algorithm)
    if found != expected.lower():
        raise FileError(f"{path} has the {algorithm} {found}, not {expected}; remove it")
    with contextlib.suppress(OSError):  # a cache that one may only read
        write_atomic(note, verdict)


class FirstUse:
    """The checksums that URLs without a published one had when they were first downloaded.

    A server that later sends something else is told of, instead of being believed. There is a small
    file for each URL, so that processes do not get into each other's way.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, url: str) -> Path:
        """Where the checksum of a URL is noted."""
        return self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"

    def known(self, url: str) -> str | None:
        """The SHA-256 that a URL had at first use; None when it was not used before."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            return str(json.loads(self.path(url).read_text(encoding="utf-8"))[ALGORITHM])
        return None

    def note(self, url: str, path: Path) -> str:
        """Note the SHA-256 of what came from a URL, unless one is known; returns it."""
        known = self.known(url)
        if known is not None:
            return known
        found = digest(path, ALGORITHM)
        content = {"url": url, ALGORITHM: found, "bytes": path.stat().st_size}
        with contextlib.suppress(OSError):  # a cache that one may only read
            write_atomic(self.path(url), json.dumps(content, indent=1))
        return found


def transfer_checked(
    url: str, target: Path, options: TransferOptions, first_use: FirstUse | None
) -> None:
    """``transfer``; a file without a published checksum must be the one that came at first use.

    Raises:
        Unreachable: there is no way to the server.
        FileError: the server does not have the file, or sends another one than was expected.
    """
    if first_use is None or options.checksums:
        transfer(url, target, options)
        return
    known = first_use.known(url)
    expected = {ALGORITHM: known} if known else None
    try:
        transfer(url, target, dataclasses.replace(options, checksums=expected))
    except Mismatch as error:
        raise FileError(
            f"{error}; at first use it had that one: if the change is intended, remove "
            f"{first_use.path(url)}"
        ) from error
    first_use.note(url, target)
