"""Asks HTTP servers for files and for ranges of them; what a server says is read here alone."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lavis_clone.common.threads import Stopped

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
USER_AGENT = "lavis_clone"
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE = 60.0


class FileError(OSError):
    """A file cannot be had. The message is one line and names the file."""


class Unreachable(FileError):
    """The server cannot be reached, or stopped answering."""


class Broken(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, reason: str, *, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """How patient a transfer is, what it checks, and what it shares with others."""

    checksums: Mapping[str, str] | None = None
    """``{"sha256": hex digest}``; any algorithm that ``hashlib`` knows."""
    size: int | None = None
    """Bytes that the file must have; None for what the server says."""
    timeout: float = 30.0
    """Seconds without a byte after which an attempt counts as failed."""
    retries: int = 3
    """Attempts after the first one that may fail in a row; one that brought bytes starts anew."""
    pause: float = 0.5
    """Seconds before the first retry, doubled with each one that fails."""
    connections: int = 1
    """How many ranges of a big file are fetched at a time."""
    slots: threading.Semaphore | None = None
    """Limits the connections of all transfers that share it."""
    on_bytes: Callable[[int], object] | None = None
    """Told how many bytes came, or were thrown away (negative); None shows a bar of its own."""
    stop: threading.Event | None = None
    """Calls the transfer off when it is set."""

    def check_stop(self) -> None:
        """
        Raises:
            Stopped: somebody called the transfer off.
        """
        if self.stop is not None and self.stop.is_set():
            raise Stopped("the transfer was called off")

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for the right to open a connection.

        Raises:
            Stopped: the transfer was called off meanwhile.
        """
        while self.slots is not None and not self.slots.acquire(timeout=0.2):
            self.check_stop()
        try:
            self.check_stop()
            yield
        finally:
            if self.slots is not None:
                self.slots.release()


@dataclass(frozen=True)
class Remote:
    """What a server says about a file without sending it."""

    size: int | None
    """Bytes; None when the server does not say."""
    version: str
    """Good for ``If-Range``; empty when the server gives none."""
    has_ranges: bool
    """Whether it sends parts of the file."""


def patiently(
    url: str, options: TransferOptions, attempt: Callable[[], bool], size: Callable[[], int]
) -> None:
    """Call ``attempt`` until it returns True, with growing pauses while it brings nothing.

    Args:
        size: How many bytes are there by now.

    Raises:
        Unreachable: too many attempts in a row broke.
        FileError: what ``attempt`` raised.
    """
    failures, most = 0, size()
    while True:
        try:
            if attempt():
                return
        except Broken as error:
            now = size()
            most, failures = (now, 0) if now > most else (most, failures + 1)
            if failures > options.retries:
                raise Unreachable(f"cannot download {url}: {error}") from error
            pause = min(error.pause or options.pause * 2**failures, LONGEST_PAUSE)
            logger.warning("%s: %s; trying again in %.1f s", url, error, pause)
            if options.stop is None:
                time.sleep(pause)
            elif options.stop.wait(pause):
                options.check_stop()


def probe(url: str, *, timeout: float = 30.0) -> Remote:
    """Ask for the first byte of a file, which tells more than HEAD, and works more often.

    Raises:
        Broken: an attempt later may succeed.
        FileError: the server does not have the file.
    """
    with open_url(url, {"Range": "bytes=0-0"}, timeout) as response:
        said = response.headers.get("Content-Range", "").strip()
        version = version_of(response)
        if response.status == 200:
            return Remote(length_of(response), version, has_ranges=False)
        total = re.fullmatch(r"bytes (?:0-0|\*)/(\d+)", said)
        if total is None:
            return Remote(None, version, has_ranges=False)
        return Remote(int(total[1]), version, has_ranges=int(total[1]) > 0)


def open_url(url: str, headers: Mapping[str, str], timeout: float) -> Any:
    """A response of status 200, 206 or 416.

    Raises:
        Broken: an attempt later may succeed.
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
            raise Broken(f"HTTP {error.code} {error.reason}", pause=_retry_after(error)) from error
        raise FileError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise FileError(f"{url!r} is not a usable URL: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from error


def receive(response: Any, limit: int = CHUNK) -> bytes:
    """What has arrived by now, so that a break loses nothing; empty at the end.

    Raises:
        Broken: the connection broke.
    """
    try:
        return bytes(response.read1(limit))
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_reason(error)) from error


def version_of(response: Any) -> str:
    """What ``If-Range`` may carry: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return str(etag if etag.startswith('"') else response.headers.get("Last-Modified", ""))


def length_of(response: Any) -> int | None:
    """Bytes that a response says it will send."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


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


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    with contextlib.suppress(ValueError):
        return float(error.headers.get("Retry-After", ""))
    return None


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
