"""Fetches one big file over several connections, a range of it at a time.

What has arrived lies in ``<target>.ranges``, as long as the whole file from the start; how much of
each range is there stands in ``<target>.ranges.json``, which never says more than the disk holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from lavis_clone.common.atomic import write_atomic
from lavis_clone.common.threads import Stopped
from lavis_clone.common.web import (
    Broken,
    FileError,
    Remote,
    TransferOptions,
    open_url,
    patiently,
    receive,
    version_of,
)

MIN_RANGE = 8 << 20
"""Bytes; a file of less than two of these is not worth a second connection."""
MAX_RANGE = 64 << 20
RANGES_PER_CONNECTION = 8
"""So that a slow connection holds up the end by little."""
SECONDS_BETWEEN_NOTES = 1.0
SECONDS_TO_END = 2.0
"""How long to wait for the other connections when one has failed; they end with the process."""


class Changed(Exception):
    """The server has another version of the file by now, or does not send ranges of it."""


class RangedFile:
    """An unfinished file, and which bytes of it are there.

    Attributes:
        size: Bytes of the whole file.
        step: Bytes of a range; the last one may be shorter.
        done: How many bytes of each range are there, from its start.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".ranges")
        self.note_path = target.with_name(target.name + ".ranges.json")
        self.version, self.size, self.step = "", 0, 1
        self.done: list[int] = []
        self._noted: list[int] = []

    @property
    def exists(self) -> bool:
        return self.note_path.exists() and self.path.exists()

    @property
    def num_done(self) -> int:
        """Bytes that are there."""
        return sum(self.done)

    def bounds(self, index: int) -> tuple[int, int]:
        """The first byte of a range that is missing, and the one after its last."""
        start = index * self.step
        return start + self.done[index], min(start + self.step, self.size)

    def missing(self) -> list[int]:
        """The ranges that are not complete, in order."""
        return [i for i in range(len(self.done)) if len(range(*self.bounds(i)))]

    def load(self) -> bool:
        """Read the note of an earlier run; False when there is none that fits its file."""
        if not self.exists:
            return False
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
            done = [int(count) for count in note["done"]]
            size, step = int(note["size"]), int(note["step"])
            fits = step > 0 and len(done) == -(-size // step) and size == self.path.stat().st_size
            if fits and all(0 <= count <= step for count in done):
                self.version, self.size, self.step = str(note["version"]), size, step
                self.done, self._noted = done, list(done)
                return True
        return False

    def begin(self, remote: Remote, connections: int, *, prefix: Path | None = None) -> None:
        """Start anew, or from ``prefix``: a file whose bytes are the first ones of this."""
        size = remote.size or 0
        wanted = size // (connections * RANGES_PER_CONNECTION)
        self.version, self.size = remote.version, size
        self.step = max(MIN_RANGE, min(MAX_RANGE, wanted))
        there = prefix.stat().st_size if prefix is not None else 0
        starts = range(0, size, self.step)
        self.done = [max(0, min(there - start, self.step, size - start)) for start in starts]
        self.note_path.unlink(missing_ok=True)
        if prefix is not None:
            os.replace(prefix, self.path)
        else:
            self.path.write_bytes(b"")
        os.truncate(self.path, size)  # sparse: takes no space yet
        self._write_note(list(self.done))

    def note(self) -> None:
        """Write down what is there, when the disk has it."""
        done = list(self.done)
        if done != self._noted:
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())
            self._write_note(done)

    def discard(self) -> None:
        for path in (self.note_path, self.path):
            path.unlink(missing_ok=True)
        self.done = []

    def finish(self) -> None:
        os.replace(self.path, self.target)
        self.note_path.unlink(missing_ok=True)

    def _write_note(self, done: list[int]) -> None:
        note = {"version": self.version, "size": self.size, "step": self.step, "done": done}
        write_atomic(self.note_path, json.dumps(note))
        self._noted = done


def is_worthwhile(remote: Remote, options: TransferOptions) -> bool:
    """Whether a file can be fetched in ranges that certainly belong together, and is big enough."""
    is_safe = bool(remote.version or options.checksums)
    return remote.has_ranges and is_safe and is_big(remote.size)


def is_big(size: int | None) -> bool:
    """Whether several connections are worth their while."""
    return size is not None and size >= 2 * MIN_RANGE


def fetch_ranges(
    url: str, file: RangedFile, options: TransferOptions, count: Callable[[int], object]
) -> None:
    """Bring what is missing of ``file``.

    Args:
        count: Told of the bytes that come.

    Raises:
        Changed: what is there is of no use.
        Unreachable: the server stopped answering.
        FileError: it has the file no more, or the disk is full.
        Stopped: somebody called it off.
    """
    needed, free = file.size - file.num_done, shutil.disk_usage(file.path.parent).free
    if needed > free:
        raise FileError(f"{file.target} needs {needed} more bytes, but its disk has {free} free")
    work = _Work(url, file, options, count)
    number = min(max(options.connections, 1), len(work.missing))
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            work.ending.wait(SECONDS_BETWEEN_NOTES)
            if work.ending.is_set():
                break
            file.note()
            options.check_stop()
    finally:
        work.ending.set()
        for thread in threads:
            thread.join(SECONDS_TO_END)
        file.note()
    if work.error is not None:
        raise work.error


class _Work:
    """What the connections of one file share."""

    def __init__(
        self, url: str, file: RangedFile, options: TransferOptions, count: Callable[[int], object]
    ) -> None:
        self.url, self.file, self.options, self.count = url, file, options, count
        self.missing = file.missing()
        self.ending = threading.Event()
        """Set when nothing more is to be done: all is there, or something failed."""
        self.error: Exception | None = None
        self._unfinished = len(self.missing)
        self._lock = threading.Lock()

    def run(self) -> None:
        """Fetch one missing range after another."""
        try:
            while (index := self._take()) is not None:
                self._fetch(index)
        except Exception as error:
            with self._lock:
                self.error = self.error or error
            self.ending.set()

    def _take(self) -> int | None:
        with self._lock:
            return self.missing.pop(0) if self.missing and not self.ending.is_set() else None

    def _fetch(self, index: int) -> None:
        def attempt() -> bool:
            with self.options.slot():
                self._attempt(index)
            return True

        patiently(self.url, self.options, attempt, lambda: self.file.done[index])
        with self._lock:
            self._unfinished -= 1
            if not self._unfinished:
                self.ending.set()

    def _attempt(self, index: int) -> None:
        file = self.file
        start, end = file.bounds(index)
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if file.version:
            headers["If-Range"] = file.version
        with open_url(self.url, headers, self.options.timeout) as response:
            said = response.headers.get("Content-Range", "").strip()
            known = {f"bytes {start}-{end - 1}/{total}" for total in (file.size, "*")}
            version = version_of(response)
            is_other = bool(version and file.version and version != file.version)
            if response.status != 206 or said not in known or is_other:
                raise Changed(f"asked for bytes {start}-{end - 1}, got {said or 'all'!r}")
            with file.path.open("rb+") as out:
                out.seek(start)
                while start < end and (chunk := receive(response)[: end - start]):
                    out.write(chunk)
                    out.flush()
                    start += len(chunk)
                    file.done[index] += len(chunk)
                    self.count(len(chunk))
                    self.options.check_stop()
                    if self.ending.is_set():
                        raise Stopped("another connection failed")
        if start < end:
            raise Broken(f"the connection broke {end - start} bytes before the end of a range")
