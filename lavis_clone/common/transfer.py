"""Moves a file from an HTTP server to this disk, whole or not at all.

What has arrived lies in ``<target>.part`` until it is complete and checked; then it is renamed. A
broken transfer goes on where it stopped, if the server says that the file is still the same one.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
USER_AGENT = "lavis_clone"
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE = 60.0


class FileError(OSError):
    """A file cannot be had. The message is one line and names the file."""


class Unreachable(FileError):
    """The server cannot be reached, or stopped answering."""


class _Broken(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, reason: str, *, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """How patient a transfer is, and what it checks."""

    checksums: Mapping[str, str] | None = None
    """``{"sha256": hex digest}``; any algorithm that ``hashlib`` knows."""
    timeout: float = 30.0
    """Seconds without a byte after which an attempt counts as failed."""
    retries: int = 3
    """Attempts after the first one that may fail in a row; one that brought bytes starts anew."""
    pause: float = 0.5
    """Seconds before the first retry, doubled with each one that fails."""


def transfer(url: str, target: Path, options: TransferOptions | None = None) -> None:
    """Bring ``url`` to ``target``. Two processes must not do this at once for one target.

    Raises:
        Unreachable: there is no way to the server.
        FileError: the server does not have the file, or sends another one than was expected.
    """
    options = options or TransferOptions()
    part = _Part(target)
    failures, most = 0, 0
    while True:
        try:
            _attempt(url, part, options)
            if _matches(url, part, options):
                break
        except _Broken as error:
            most, failures = (part.size, 0) if part.size > most else (most, failures + 1)
            if failures > options.retries:
                raise Unreachable(f"cannot download {url}: {error}") from error
            pause = error.pause or options.pause * 2**failures
            logger.warning("%s: %s; trying again in %.1f s", url, error, pause)
            time.sleep(min(pause, LONGEST_PAUSE))
    part.finish()


def fetch_bytes(url: str, *, max_bytes: int, timeout: float = 30.0) -> bytes:
    """What ``url`` sends, kept in memory only.

    Raises:
        FileError: it cannot be had, or is longer than ``max_bytes``.
    """
    data = bytearray()
    try:
        with _open(url, {}, timeout) as response:
            expected = _length(response)
            while len(data) <= max_bytes and (chunk := _receive(response)):
                data += chunk
    except _Broken as error:
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


def _attempt(url: str, part: _Part, options: TransferOptions) -> None:
    """Ask for what is missing of ``part`` and append it; return when the part is complete."""
    start = part.size if part.version or options.checksums else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and part.version:
        headers["If-Range"] = part.version
    with _open(url, headers, options.timeout) as response:
        if response.status == 200:
            start = 0
            part.start(_version(response))
        else:
            _check_rest(response, part, start)
        if response.status != 416:
            _append(response, part, start)


def _check_rest(response: Any, part: _Part, start: int) -> None:
    """Let pass a 206 that goes on at ``start``, and a 416 that says that ``start`` is the end."""
    said = response.headers.get("Content-Range", "").strip()
    fits = said.startswith(f"bytes {start}-") or said == f"bytes */{start}"
    version = _version(response)
    if not start or not fits or (version and part.version and version != part.version):
        part.discard()
        raise _Broken(f"asked for the rest from {start}, got {said!r}; beginning again", pause=0.01)
    part.was_resumed = True


def _append(response: Any, part: _Part, start: int) -> None:
    length = _length(response)
    total = None if length is None else start + length
    free = shutil.disk_usage(part.path.parent).free
    if length is not None and length > free:
        raise FileError(f"{part.target} needs {length} more bytes, but its disk has {free} free")
    bar: Any = tqdm(
        total=total,
        initial=start,
        unit="B",
        unit_scale=True,
        desc=part.target.name,
        disable=None,  # shown on a terminal only
    )
    with bar, part.path.open("ab") as file:
        while chunk := _receive(response):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and part.size < total:
        raise _Broken(f"the connection broke after {part.size} of {total} bytes")


def _receive(response: Any) -> bytes:
    """What has arrived by now, so that a break loses nothing; empty at the end."""
    try:
        return bytes(response.read1(CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from error


def _matches(url: str, part: _Part, options: TransferOptions) -> bool:
    """Whether the part is the right file; False asks for another attempt from the beginning."""
    for algorithm, expected in (options.checksums or {}).items():
        found = digest(part.path, algorithm)
        if found.lower() == expected.lower():
            continue
        was_resumed = part.was_resumed
        part.discard()
        if was_resumed:  # the parts may be of two versions
            return False
        raise FileError(
            f"{url} has the {algorithm} {found}, not {expected}; nothing was put at {part.target}"
        )
    return True


def _open(url: str, headers: Mapping[str, str], timeout: float) -> Any:
    """A response of status 200, 206 or 416.

    Raises:
        _Broken: an attempt later may succeed.
        FileError: it will not.
    """
    fixed = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    try:
        request = urllib.request.Request(url, headers={**fixed, **headers})
        return _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and "Range" in headers:
            return error
        error.close()
        if error.code in TRANSIENT:
            raise _Broken(f"HTTP {error.code} {error.reason}", pause=_retry_after(error)) from error
        raise FileError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise FileError(f"{url!r} is not a usable URL: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from error


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https only, so that no redirect leads to a local file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _version(response: Any) -> str:
    """What ``If-Range`` may carry: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    with contextlib.suppress(ValueError):
        return float(error.headers.get("Retry-After", ""))
    return None


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
