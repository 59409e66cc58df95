"""One big file over several connections, from servers that behave and from others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lavis_clone.common import ranges
from lavis_clone.common.files import FileError
from lavis_clone.common.ranges import RangedFile
from lavis_clone.common.threads import Stopped
from lavis_clone.common.transfer import TransferOptions, look_up, num_there, transfer
from tests.common.server import BODY, Site, serve

STEP = 50_000
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = bytes(reversed(BODY))
FOUR = TransferOptions(connections=4, pause=0.001, retries=2)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(ranges, "MIN_RANGE", STEP)
    monkeypatch.setattr(ranges, "SECONDS_BETWEEN_NOTES", 0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "x.zip"


def asked(site: Site) -> list[str | None]:
    return [headers.get("Range") for headers in site.requests]


def interrupt_after(site: Site, target: Path, number: int) -> None:
    """Call a transfer off when some bytes have come."""
    stop, come = threading.Event(), [0]
    site.slowness = 0.01

    def on_bytes(more: int) -> None:
        come[0] += more
        if come[0] >= number:
            stop.set()

    with pytest.raises(Stopped, match="called off"):
        transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, stop=stop, on_bytes=on_bytes))
    site.slowness = 0.0
    site.requests.clear()


def test_the_first_byte_tells_length_version_and_ranges(site: Site) -> None:
    found = look_up(f"{site.url}/x")
    assert (found.size, found.version, found.has_ranges) == (300_000, '"one"', True)
    site.has_ranges = False
    found = look_up(f"{site.url}/moved/x")
    assert (found.size, found.has_ranges) == (300_000, False)
    site.bodies["/empty"] = b""
    site.has_ranges = True
    assert look_up(f"{site.url}/empty").size == 0


def test_a_big_file_comes_in_ranges_over_several_connections(site: Site, target: Path) -> None:
    come: list[int] = []
    site.slowness = 0.05  # so that they overlap on a slow machine, too
    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, on_bytes=come.append))
    assert target.read_bytes() == BODY and sum(come) == len(BODY)
    steps = [f"bytes={start}-{start + STEP - 1}" for start in range(0, 300_000, STEP)]
    assert sorted(map(str, asked(site))) == sorted(["bytes=0-0", *steps])
    assert site.most_at_once >= 3
    assert os.listdir(target.parent) == ["x.zip"]


def test_connections_are_limited_over_all_files(site: Site, tmp_path: Path) -> None:
    site.slowness = 0.005
    options = dataclasses.replace(FOUR, slots=threading.Semaphore(2))
    threads = [
        threading.Thread(target=transfer, args=(f"{site.url}/{n}", tmp_path / n, options))
        for n in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / name).read_bytes() == BODY for name in ("a", "b", "c"))
    assert site.most_at_once == 2


def test_a_small_file_comes_over_one_connection(site: Site, target: Path) -> None:
    site.body = BODY[: 2 * STEP - 1]
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == site.body and asked(site) == ["bytes=0-0", None]


def test_broken_ranges_go_on_where_they_broke(site: Site, target: Path) -> None:
    site.cuts = [20_000, 1, 10_000]
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == BODY
    assert len(site.requests) == 1 + 6 + 3


def test_a_transfer_that_was_called_off_goes_on(site: Site, target: Path) -> None:
    interrupt_after(site, target, 50_000)
    assert 50_000 <= num_there(target) < 250_000
    interrupt_after(site, target, 20_000)
    there = num_there(target)
    assert 70_000 <= there < 300_000 and not target.exists()
    come: list[int] = []
    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, on_bytes=come.append))
    assert target.read_bytes() == BODY
    assert sum(come) == 300_000 - there


def test_what_several_connections_began_one_can_end_and_the_reverse(
    site: Site, target: Path
) -> None:
    interrupt_after(site, target, 100_000)
    transfer(f"{site.url}/x", target, TransferOptions())
    assert target.read_bytes() == BODY and "bytes=0-49999" not in asked(site)[1:]
    target.unlink()
    target.with_name("x.zip.part").write_bytes(BODY[:120_000])
    target.with_name("x.zip.part.version").write_text('"one"')
    site.requests.clear()
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == BODY
    assert "bytes=120000-149999" in asked(site) and len(site.requests) == 1 + 4
    assert os.listdir(target.parent) == ["x.zip"]


@pytest.mark.parametrize("damage", ["not json", "{}", None])
def test_a_note_that_does_not_fit_its_file_is_not_believed(
    site: Site, target: Path, damage: str | None
) -> None:
    interrupt_after(site, target, 100_000)
    ranged = RangedFile(target)
    if damage is None:
        note = json.loads(ranged.note_path.read_text())
        damage = json.dumps({**note, "done": [note["size"]] * len(note["done"])})
    ranged.note_path.write_text(damage)
    assert num_there(target) == 0
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == BODY


def test_a_file_that_changed_between_two_runs_is_begun_again(site: Site, target: Path) -> None:
    interrupt_after(site, target, 100_000)
    site.body, site.etag = OTHER, '"two"'
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == OTHER


def test_a_file_that_changes_while_it_comes_is_begun_again(site: Site, target: Path) -> None:
    site.slowness = 0.01
    come = [0]

    def change(more: int) -> None:
        come[0] += more
        if come[0] >= 60_000 and site.body is BODY:
            site.body, site.etag, site.slowness = OTHER, '"two"', 0.0

    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, on_bytes=change))
    assert target.read_bytes() == OTHER and come[0] == len(OTHER)


def test_a_server_that_does_not_keep_its_word_about_ranges(site: Site, target: Path) -> None:
    site.lies_about_ranges = True
    come: list[int] = []
    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, on_bytes=come.append))
    assert target.read_bytes() == BODY and sum(come) == len(BODY)


@pytest.mark.parametrize(("has_ranges", "etag"), [(False, '"one"'), (True, None)])
def test_without_ranges_or_versions_one_connection_has_to_do(
    site: Site, target: Path, has_ranges: bool, etag: str | None
) -> None:
    site.has_ranges, site.etag = has_ranges, etag
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == BODY and asked(site) == ["bytes=0-0", None]


def test_a_checksum_stands_in_for_a_version(site: Site, target: Path) -> None:
    site.etag = None
    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, checksums={"sha256": SHA256}))
    assert target.read_bytes() == BODY and len(site.requests) == 7


def test_a_wrong_checksum_leaves_nothing(site: Site, target: Path) -> None:
    with pytest.raises(FileError, match=f"has the sha256 {SHA256}, not 00"):
        transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, checksums={"sha256": "00"}))
    assert os.listdir(target.parent) == []


def test_ranges_of_two_versions_are_found_by_their_checksum(site: Site, target: Path) -> None:
    site.etag = None
    ranged = RangedFile(target)
    site.body = OTHER
    found = look_up(f"{site.url}/x")
    prefix = target.with_name("prefix")
    prefix.write_bytes(OTHER[:STEP])
    ranged.begin(found, 4, prefix=prefix)
    site.body = BODY
    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, checksums={"sha256": SHA256}))
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("connections", [1, 4])
def test_another_length_than_the_published_one(site: Site, target: Path, connections: int) -> None:
    options = dataclasses.replace(FOUR, connections=connections, size=299_999)
    with pytest.raises(FileError, match=f"{site.url}/x has 300000 bytes, not 299999"):
        transfer(f"{site.url}/x", target, options)
    assert os.listdir(target.parent) == []


def test_a_server_that_stops_answering(site: Site, target: Path) -> None:
    site.statuses = [200] * 3 + [503] * 100
    with pytest.raises(FileError, match="cannot download .*HTTP 503"):
        transfer(f"{site.url}/x", target, FOUR)
    there = num_there(target)
    site.statuses = []
    assert there
    transfer(f"{site.url}/x", target, FOUR)
    assert target.read_bytes() == BODY


def test_a_file_that_is_gone_by_now(site: Site, target: Path) -> None:
    site.statuses = [200, 200, 404, 404, 404, 404, 404]
    with pytest.raises(FileError, match="404"):
        transfer(f"{site.url}/x", target, FOUR)


def test_a_full_disk_is_noticed_before_writing(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage)
    with pytest.raises(FileError, match="needs 300000 more bytes, but its disk has 1000 free"):
        transfer(f"{site.url}/x", target, FOUR)


SCRIPT = """
import sys
from pathlib import Path
from lavis_clone.common import ranges
from lavis_clone.common.transfer import TransferOptions, transfer
ranges.MIN_RANGE, ranges.SECONDS_BETWEEN_NOTES = 50_000, 0.01
transfer(sys.argv[1], Path(sys.argv[2]), TransferOptions(connections=4))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_killed_leaves_what_another_goes_on_with(
    site: Site, target: Path, number: int
) -> None:
    site.slowness = 0.05
    environment: Any = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, f"{site.url}/x", str(target)]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while num_there(target) < 100_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(number)
    assert running.wait(60) != 0
    site.slowness = 0.0
    there = num_there(target)
    assert 100_000 <= there < 300_000
    come: list[int] = []
    transfer(f"{site.url}/x", target, dataclasses.replace(FOUR, on_bytes=come.append))
    assert target.read_bytes() == BODY and sum(come) == 300_000 - there
