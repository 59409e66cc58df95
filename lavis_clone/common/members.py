"""Names and reads files inside of uncompressed tar archives, in place.

A member is named ``<archive>.tar/<name>@<start>+<length>``: where its bytes are in the archive. So
any of them is read by itself, in any order, by any process.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import IO, NamedTuple

OPEN_ARCHIVES = 64
"""Archives that a process keeps open."""

_MEMBER = re.compile(r"(?P<archive>.+\.tar)/(?P<name>.+)@(?P<start>\d+)\+(?P<length>\d+)", re.S)


class Member(NamedTuple):
    """Bytes of an archive."""

    archive: Path
    name: str
    start: int
    length: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}@{self.start}+{self.length}"

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the archive cannot be read, or is shorter now.
        """
        data = os.pread(_opened(str(self.archive)).fileno(), self.length, self.start)
        if len(data) < self.length:
            raise OSError(f"{self.archive} ends within {self.name}; it has changed")
        return data


def member_of(path: str | Path) -> Member | None:
    """The member that a path names; None for the path of a file."""
    text = str(path)
    match = _MEMBER.fullmatch(text) if "@" in text else None
    if match is None:
        return None
    return Member(Path(match["archive"]), match["name"], int(match["start"]), int(match["length"]))


@functools.lru_cache(maxsize=OPEN_ARCHIVES)
def _opened(archive: str) -> IO[bytes]:
    """Kept open; reads do not move a shared position, so that forked processes may share it."""
    return open(archive, "rb")  # noqa: SIM115  # closed when it leaves the cache
