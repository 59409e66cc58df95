"""Reads the items of a JSON list one by one, so that a large file is never in memory as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20
"""Characters that are read at a time."""

_SPACE = re.compile(r"[ \t\r\n]*")
_ENDS = tuple(",] \t\r\n")
"""What may follow an item; anything else may be the rest of a number."""
_DECODER = json.JSONDecoder()


class NoJsonList(ValueError):
    """A file is no JSON list, or a broken one; ``json.loads`` says where."""


def json_items(path: Path, *, chunk: int = CHUNK) -> Iterator[Any]:
    """The items of the list that a file holds.

    Raises:
        NoJsonList: it holds something else. Items before a broken one have been given by then.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file, chunk)
        if text.next_character() != "[":
            raise NoJsonList(f"{path}: is no list")
        text.place += 1
        if text.next_character() != "]":
            yield text.value()
            while text.next_character() == ",":
                text.place += 1
                yield text.value()
        if text.next_character() != "]":
            raise NoJsonList(f"{path}: a list that does not end")
        text.place += 1
        if text.next_character():
            raise NoJsonList(f"{path}: holds more than a list")


class _Text:
    """The part of a file that is being looked at, and the place that has been reached in it."""

    def __init__(self, file: IO[str], chunk: int) -> None:
        self._file, self._chunk = file, chunk
        self._part = ""
        self.place = 0

    def next_character(self) -> str:
        """The next one that is no space, not taken; "" at the end of the file."""
        while True:
            match = _SPACE.match(self._part, self.place)
            self.place = match.end() if match else self.place
            if self.place < len(self._part):
                return self._part[self.place]
            if not self._read_on():
                return ""

    def value(self) -> Any:
        """The value that begins here."""
        self.next_character()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._part, self.place)
            except json.JSONDecodeError as error:
                if not self._read_on():
                    raise NoJsonList(str(error)) from error
                continue
            if self._part[end : end + 1] in _ENDS or not self._read_on():
                self.place = end
                return value

    def _read_on(self) -> bool:
        """Read more: as much as there is, so that a long value is not tried too often."""
        self._part = self._part[self.place :]
        self.place = 0
        more = self._file.read(max(self._chunk, len(self._part)))
        self._part += more
        return bool(more)
