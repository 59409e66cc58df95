"""A web server on this machine that can misbehave."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(i * 7 % 251 for i in range(300_000))


@dataclass
class Site:
    """What the server does, by path; a test may change it while the server runs."""

    url: str = ""
    body: bytes = BODY
    bodies: dict[str, bytes] = field(default_factory=dict)
    """What single paths send in place of ``body``."""
    etag: str | None = '"one"'
    has_ranges: bool = True
    lies_about_ranges: bool = False
    """Sends the first byte when it is asked for, but no other range."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off, first come first cut."""
    statuses: list[int] = field(default_factory=list)
    """What the next requests get; 200 for the usual."""
    extra_length: int = 0
    """By how much Content-Length exceeds what is sent."""
    delay: float = 0.0
    slowness: float = 0.0
    """Seconds before each 10,000 bytes."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request, in order."""
    counts: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    """How many answers there were at the same time, at most."""
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """Answers as its site says."""

    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        site = self.site
        with site.lock:
            site.now += 1
            site.most_at_once = max(site.most_at_once, site.now)
        self.is_counted = True
        try:
            self.answer()
        finally:
            self.leave()

    def leave(self) -> None:
        """Count as done, just before the client can know that it is."""
        with self.site.lock:
            self.site.now -= self.is_counted
        self.is_counted = False

    def answer(self) -> None:
        site = self.site
        site.requests.append(dict(self.headers))
        site.counts[self.path] += 1
        status = site.statuses.pop(0) if site.statuses else 200
        if status != 200:
            self.send_error(status)
        elif self.path.startswith("/moved"):
            self.redirect(self.path.removeprefix("/moved"))
        elif self.path == "/to-a-file":
            self.redirect("ftp://127.0.0.1/etc/passwd")
        elif self.path.startswith("/absent"):
            self.send_error(404)
        else:
            self.send_body()

    def redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.end_headers()

    def send_body(self) -> None:
        site = self.site
        body = site.bodies.get(self.path.partition("?")[0], site.body)
        threading.Event().wait(site.delay)
        start, end = self.asked(len(body))
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        is_probe = self.headers.get("Range") == "bytes=0-0"
        if is_probe:
            self.leave()  # nobody waits for the byte
        rest, is_part = body[start:end], start > 0 or end < len(body)
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(rest) + site.extra_length))
        self.end_headers()
        self.send_slowly(rest[: site.cuts.pop(0)] if site.cuts and not is_probe else rest)

    def send_slowly(self, data: bytes) -> None:
        step = 10_000 if self.site.slowness else max(len(data), 1)
        with suppress(ConnectionError):  # the client has gone
            for start in range(0, len(data), step):
                threading.Event().wait(self.site.slowness)
                if start + step >= len(data):
                    self.leave()
                self.wfile.write(data[start : start + step])

    def asked(self, length: int) -> tuple[int, int]:
        """The first byte to send, and the one after the last."""
        site, asked = self.site, self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, site.etag)
        if not asked or not site.has_ranges or not same:
            return 0, length
        if site.lies_about_ranges and asked != "bytes=0-0":
            return 0, length
        first, _, last = asked.removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1, length) if last else length


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
