from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from lavis_clone.common import files
from lavis_clone.common.files import (
    FileError,
    atomic_path,
    cached_path,
    config_file,
    download,
    fetch,
    resolve,
    write_atomic,
)
from tests.common.server import BODY, Site, serve

SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = bytes(reversed(BODY))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LAVIS_CLONE_OFFLINE", raising=False)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # between two attempts
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as running:
        yield running


def leftovers(path: Path) -> list[str]:
    """What lies beside a downloaded file, apart from its lock."""
    names = {f.name for f in path.parent.iterdir()} - {path.name, f"{path.name}.lock"}
    return sorted(names)


def leave_a_part(site: Site) -> None:
    """Of ``/x``, its first 100,000 bytes."""
    site.cuts, site.statuses = [100_000], [200, 404]
    with pytest.raises(FileError):
        download(f"{site.url}/x")


def test_a_file_is_downloaded_once_into_a_directory_of_its_url(site: Site, cache: Path) -> None:
    url = f"{site.url}/models/model%20a.pth?v=1"
    path = download(url)
    assert path == download(url) == resolve(url) == cached_path(url)
    assert path.name == "model a.pth" and path.parent.parent == cache / "downloads"
    assert path.read_bytes() == BODY and leftovers(path) == []
    assert sum(site.counts.values()) == 1
    assert cached_path(f"{site.url}/other/model%20a.pth") != path


@pytest.mark.parametrize("path", ["", "/", "/..", "/a/%2e%2e"])
def test_urls_without_a_usable_name(path: str) -> None:
    found = cached_path(f"http://host{path}")
    assert found.name in ("file", "a") and ".." not in found.parts


def test_a_broken_connection_is_resumed(site: Site) -> None:
    site.cuts = [100_000, 50_000]
    assert download(f"{site.url}/x").read_bytes() == BODY
    ranges = [(r.get("Range"), r.get("If-Range")) for r in site.requests]
    assert ranges == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]


def test_a_download_that_was_killed_goes_on(site: Site) -> None:
    leave_a_part(site)
    assert download(f"{site.url}/x").read_bytes() == BODY
    assert site.requests[-1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_meanwhile_is_begun_again(site: Site, ranges: bool) -> None:
    leave_a_part(site)
    site.body, site.etag, site.has_ranges = OTHER, '"two"', ranges
    assert download(f"{site.url}/x").read_bytes() == OTHER


def test_a_server_without_ranges_or_versions_is_asked_for_the_whole_again(site: Site) -> None:
    site.cuts, site.has_ranges, site.etag = [100_000, 200_000], False, None
    assert download(f"{site.url}/x").read_bytes() == BODY
    assert [r.get("Range") for r in site.requests] == [None, None, None]


def test_a_checksum_makes_resuming_safe_without_versions(site: Site) -> None:
    site.cuts, site.etag = [100_000], None
    assert download(f"{site.url}/x", sha256=SHA256).read_bytes() == BODY
    assert site.requests[-1]["Range"] == "bytes=100000-"


def test_parts_of_two_versions_are_found_by_their_checksum(site: Site) -> None:
    path = cached_path(f"{site.url}/x")
    path.parent.mkdir(parents=True)
    path.with_name("x.part").write_bytes(OTHER[:100_000])
    site.etag = None
    assert download(f"{site.url}/x", sha256=SHA256).read_bytes() == BODY


@pytest.mark.parametrize("length", [len(BODY), len(BODY) + 5])
def test_a_part_that_is_as_long_as_the_file_or_longer(site: Site, length: int) -> None:
    path = cached_path(f"{site.url}/x")
    path.parent.mkdir(parents=True)
    path.with_name("x.part").write_bytes((BODY + b"extra")[:length])
    path.with_name("x.part.version").write_text('"one"')
    assert download(f"{site.url}/x").read_bytes() == BODY
    assert leftovers(path) == []


def test_a_server_that_keeps_breaking_off_is_given_up(site: Site) -> None:
    site.extra_length, site.etag = 10, None
    with pytest.raises(FileError) as caught:
        download(f"{site.url}/x", retries=2)
    path = cached_path(f"{site.url}/x")
    message = str(caught.value)
    assert (
        "\n" not in message
        and f"{site.url}/x" in message
        and f"place the file at {path}" in message
    )
    assert not path.exists() and len(site.requests) == 4


def test_a_server_that_is_busy_is_asked_again(site: Site) -> None:
    site.statuses = [503, 429, 500]
    assert download(f"{site.url}/x", retries=3).read_bytes() == BODY


def test_an_absent_file_is_asked_for_once(site: Site) -> None:
    url = f"{site.url}/absent.pth"
    with pytest.raises(FileError) as caught:
        download(url)
    assert str(caught.value) == f"{url}: the server answers 404 Not Found"
    assert site.counts["/absent.pth"] == 1


def test_redirects_are_followed_to_the_web_only(site: Site) -> None:
    assert download(f"{site.url}/moved/x").read_bytes() == BODY
    with pytest.raises(FileError):
        download(f"{site.url}/to-a-file", retries=0)


def test_a_wrong_checksum_leaves_nothing(site: Site) -> None:
    url = f"{site.url}/x"
    with pytest.raises(FileError) as caught:
        download(url, sha256="0" * 64)
    path = cached_path(url)
    assert str(caught.value) == (
        f"{url} has the sha256 {SHA256}, not {'0' * 64}; nothing was put at {path}"
    )
    assert not path.exists() and leftovers(path) == []


def test_checksums_are_checked_again_when_the_file_changes(site: Site) -> None:
    md5 = hashlib.md5(BODY).hexdigest()
    path = download(f"{site.url}/x", sha256=SHA256.upper(), md5=md5)
    path.write_bytes(OTHER)
    os.utime(path, (1, 1))
    with pytest.raises(FileError, match=f"{path} has the sha256 .*remove it"):
        download(f"{site.url}/x", sha256=SHA256)


def test_a_file_can_be_put_where_the_caller_wants(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "annotations" / "train.json"
    assert download(f"{site.url}/x", target=target) == target
    assert target.read_bytes() == BODY


def test_offline_says_where_to_place_the_file(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    url = f"{site.url}/x"
    path = cached_path(url)
    with pytest.raises(FileError, match=f"LAVIS_CLONE_OFFLINE.*place the file at {path}"):
        download(url)
    with pytest.raises(FileError, match="LAVIS_CLONE_OFFLINE"):
        fetch(url, max_bytes=10)
    write_atomic(path, b"placed by hand")
    assert download(url).read_bytes() == b"placed by hand"
    assert site.requests == []


def test_an_unreachable_server_says_where_to_place_the_file(site: Site) -> None:
    url = "http://127.0.0.1:9/x"
    with pytest.raises(
        FileError, match=f"Connection refused.*place the file at {cached_path(url)}"
    ):
        download(url, retries=1)


def test_a_full_disk_is_noticed_before_writing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage)
    with pytest.raises(FileError, match="needs 300000 more bytes, but its disk has 1000 free"):
        download(f"{site.url}/x")


def test_a_cache_that_cannot_be_written(site: Site, cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file, not a directory")
    with pytest.raises(FileError, match=f"cannot download {site.url}/x to {cache}"):
        download(f"{site.url}/x")


def test_two_processes_download_once(site: Site, tmp_path: Path) -> None:
    site.delay = 0.3
    code = (
        "import sys; from lavis_clone.common.files import download; "
        "assert download(sys.argv[1]).stat().st_size == 300000"
    )
    command = [sys.executable, "-c", code, f"{site.url}/x"]
    root = Path(__file__).parents[2]
    running = [subprocess.Popen(command, cwd=root) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert site.counts["/x"] == 1


def test_fetch_keeps_nothing_and_has_a_limit(site: Site, cache: Path) -> None:
    assert fetch(f"{site.url}/x", max_bytes=300_000) == BODY
    with pytest.raises(FileError, match="longer than 1000 bytes"):
        fetch(f"{site.url}/x", max_bytes=1000)
    site.cuts = [500]
    with pytest.raises(FileError, match="broke off after 500 of 300000"):
        fetch(f"{site.url}/x", max_bytes=300_000)
    for url in (f"{site.url}/absent", "ftp://host/x", "http://127.0.0.1:9/x", "http://[::1"):
        with pytest.raises(FileError):
            fetch(url, max_bytes=10)
    assert not cache.exists()


def test_paths_and_schemes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_atomic(tmp_path / "a.txt", "é")
    assert resolve("~/a.txt") == resolve(tmp_path / "a.txt") == tmp_path / "a.txt"
    with pytest.raises(FileError, match=r"no such file: .*b\.txt"):
        resolve(tmp_path / "b.txt")
    with pytest.raises(FileError, match="unknown scheme 's3'"):
        resolve("s3://bucket/x")


def test_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "package_root", lambda: tmp_path)
    write_atomic(tmp_path / "assets" / "tiny" / "model.safetensors", b"x")
    assert resolve("asset://tiny/model.safetensors").read_bytes() == b"x"
    with pytest.raises(FileError, match=r"did you mean 'tiny/model\.safetensors'"):
        resolve("asset://tiny/model.safetensor")
    with pytest.raises(FileError, match="leads out"):
        resolve("asset://../secret")


def test_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    def hf_hub_download(repo: str, name: str, **keys: Any) -> str:
        calls.append((repo, name, keys["repo_type"], keys["revision"], keys["local_files_only"]))
        if name == "absent":
            raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find it.\nlong story")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    assert resolve("hf://org/name/a/b.pth@v2") == tmp_path / "a/b.pth"
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    assert resolve("hf://datasets/org/name/c.json") == tmp_path / "c.json"
    assert calls == [
        ("org/name", "a/b.pth", "model", "v2", False),
        ("org/name", "c.json", "dataset", None, True),
    ]
    with pytest.raises(FileError, match=r"cannot get hf://org/name/absent: cannot find it\. .*"):
        resolve("hf://org/name/absent")
    with pytest.raises(FileError, match="must look like"):
        resolve("hf://org/name")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    write_atomic(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and [f.name for f in path.parent.iterdir()] == ["x.json"]


def test_config_files_of_the_checkout_and_of_an_installed_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert config_file("configs/default.yaml").is_file()
    with pytest.raises(FileError, match=r"did you mean 'default\.yaml'"):
        config_file("configs/defaults.yaml")
    package = tmp_path / "site-packages" / "lavis_clone"
    monkeypatch.setattr(files, "package_root", lambda: package)
    monkeypatch.chdir(tmp_path)
    write_atomic(package / "configs" / "a.yaml", "")
    write_atomic(package.parent / "configs" / "not_ours.yaml", "")
    write_atomic(tmp_path / "projects" / "mine.yaml", "")
    assert config_file("configs/a.yaml") == package / "configs" / "a.yaml"
    assert config_file("projects/mine.yaml") == tmp_path / "projects" / "mine.yaml"
    assert config_file(tmp_path / "projects" / "mine.yaml").is_file()
    with pytest.raises(FileError):
        config_file("configs/not_ours.yaml")
