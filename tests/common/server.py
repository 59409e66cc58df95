"""A web server on this machine that can misbehave."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(i * 7 % 251 for i in range(300_000))


@dataclass
class Site:
    """What the server does, by path; a test may change it while the server runs."""

    url: str = ""
    body: bytes = BODY
    etag: str | None = '"one"'
    has_ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off, first come first cut."""
    statuses: list[int] = field(default_factory=list)
    """What the next requests get; 200 for the usual."""
    extra_length: int = 0
    """By how much Content-Length exceeds what is sent."""
    delay: float = 0.0
    requests: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request, in order."""
    counts: Counter[str] = field(default_factory=Counter)


class Handler(BaseHTTPRequestHandler):
    """Answers as its site says."""

    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
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
        threading.Event().wait(site.delay)
        start, asked = 0, self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, site.etag)
        if asked and site.has_ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(site.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = site.body[start:]
        self.send_response(206 if start else 200)
        if start:
            end = f"{len(site.body) - 1}/{len(site.body)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(rest) + site.extra_length))
        self.end_headers()
        self.wfile.write(rest[: site.cuts.pop(0)] if site.cuts else rest)


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
