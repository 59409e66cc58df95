"""Archives from strangers: what is in them comes out, and nothing else happens."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lavis_clone.common import archives
from lavis_clone.common.archives import ArchiveError, Limits, extract_member, is_archive, unpack
from lavis_clone.common.files import FileError

FILES = {"train/a.jpg": b"a" * 1000, "train/deep/b.jpg": b"b", "list.txt": "é".encode()}
TAR_MODES: dict[str, Any] = {
    ".tar": "w",
    ".tar.gz": "w:gz",
    ".tgz": "w:gz",
    ".tar.bz2": "w:bz2",
    ".tar.xz": "w:xz",
}
SMALL = Limits(ratio=1.0, floor=10_000, files=100)


def make(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """An archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, data in files.items():
                opened.writestr(name, data)
        return path
    with tarfile.open(path, TAR_MODES["".join(path.suffixes)]) as opened_tar:
        for name, data in files.items():
            add(opened_tar, name, data)
    return path


def add(opened: tarfile.TarFile, name: str, data: bytes = b"", **changes: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    opened.addfile(info, io.BytesIO(data))


def tar_of(path: Path, name: str, data: bytes = b"", **changes: Any) -> Path:
    with tarfile.open(path, "w") as opened:
        add(opened, "good.txt", b"good")
        add(opened, name, data, **changes)
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def open_up(archive: Path, limits: Limits | None = None) -> Path:
    """Unpack into ``out`` beside the archive."""
    out = archive.parent / "out"
    unpack(archive, out, work=out / ".work", limits=limits)
    return out


@pytest.mark.parametrize("suffix", [".zip", *TAR_MODES])
def test_archives_of_all_kinds(tmp_path: Path, suffix: str) -> None:
    archive = make(tmp_path / f"x{suffix}")
    assert is_archive(archive.name) and not is_archive("x.json.gz")
    out = tmp_path / "out"
    found = unpack(archive, out, work=out / ".work")
    assert files_in(out) == FILES
    assert (found.files, found.bytes, sorted(found.names)) == (3, 1003, ["list.txt", "train"])
    nameless = archive.rename(tmp_path / "file")  # what it is stands in its first bytes
    assert files_in(open_up(nameless)) == FILES


def test_what_is_there_stays_and_what_is_new_wins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "train").mkdir(parents=True)
    (out / "train" / "old.jpg").write_bytes(b"old")
    (out / "list.txt").write_bytes(b"old")
    open_up(make(tmp_path / "x.zip"))
    assert files_in(out) == {**FILES, "train/old.jpg": b"old"}


BAD_NAMES = [
    "/etc/passwd",
    "../up.txt",
    "a/../../up.txt",
    "..",
    "C:/x.txt",
    "c:x.txt",
    "\\\\server\\share\\x.txt",
    "..\\up.txt",
    "a\\..\\..\\up.txt",
    "line\nbreak.txt",
]


@pytest.mark.parametrize("kind", [".zip", ".tar"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, kind: str, name: str) -> None:
    archive = make(tmp_path / f"x{kind}", {"good.txt": b"good", name: b"bad"})
    with pytest.raises(ArchiveError, match=r"x\.(zip|tar): cannot be unpacked: ") as caught:
        open_up(archive)
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == {archive.name: archive.read_bytes()}


def test_backslashes_part_folders(tmp_path: Path) -> None:
    out = open_up(make(tmp_path / "x.zip", {"train\\a.jpg": b"a"}))
    assert files_in(out) == {"train/a.jpg": b"a"}


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../etc/passwd"),
        (tarfile.LNKTYPE, "../secret"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "absent.txt"),
        (tarfile.SYMTYPE, "."),
    ],
)
def test_no_link_leads_out_of_the_folder(tmp_path: Path, kind: bytes, target: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    archive = tar_of(tmp_path / "x.tar", "link", type=kind, linkname=target)
    with pytest.raises(ArchiveError, match="link 'link'"):
        open_up(archive)
    assert not (tmp_path / "out" / "good.txt").exists()


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        (tarfile.LNKTYPE, "b/link", "good.txt"),
        (tarfile.SYMTYPE, "b/link", "../good.txt"),
        (tarfile.SYMTYPE, "link", "good.txt"),
    ],
)
def test_a_link_within_becomes_a_copy(tmp_path: Path, kind: bytes, name: str, target: str) -> None:
    out = open_up(tar_of(tmp_path / "x.tar", name, type=kind, linkname=target))
    assert files_in(out) == {"good.txt": b"good", name: b"good"}
    assert not (out / name).is_symlink() and (out / name).stat().st_nlink == 1


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as opened:
        add(opened, "folder", type=tarfile.DIRTYPE)
        add(opened, "way", type=tarfile.SYMTYPE, linkname="folder")
        add(opened, "way/a.txt", b"a")
    with pytest.raises(ArchiveError, match="leads to no file"):
        open_up(path)


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as opened:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="symbolic link 'link': '/etc/passwd' is an absolute"):
        open_up(path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_device_is_made(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ArchiveError, match="'dev' is a device"):
        open_up(tar_of(tmp_path / "x.tar", "dev", type=kind))


def test_modes_of_strangers_are_not_taken_over(tmp_path: Path) -> None:
    out = open_up(tar_of(tmp_path / "x.tar", "tool", b"#!", mode=0o6777))
    (tmp_path / "plain").touch()
    assert (out / "tool").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_bomb_does_not_go_off(tmp_path: Path, suffix: str) -> None:
    archive = make(tmp_path / f"x{suffix}", {"good": b"good", "zeros": bytes(3_000_000)})
    assert archive.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match="unpack"):
        open_up(archive, SMALL)
    assert list(tmp_path.rglob("*")) in ([archive, tmp_path / "out"], [tmp_path / "out", archive])


def test_a_bomb_of_many_files_or_of_links(tmp_path: Path) -> None:
    many = make(tmp_path / "x.tar.gz", {str(i): b"" for i in range(101)})
    with pytest.raises(ArchiveError, match="more than 100 files"):
        open_up(many, SMALL)
    links = tmp_path / "y.tar"
    with tarfile.open(links, "w") as opened:
        add(opened, "a", b"a" * 6000)
        for i in range(10):
            add(opened, f"link{i}", type=tarfile.SYMTYPE, linkname="a")
    with pytest.raises(ArchiveError, match="more than it may: at 'link"):
        open_up(links, SMALL)


def test_a_header_that_asks_for_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 36

    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with pytest.raises(ArchiveError, match="bytes at once"):
        open_up(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_broken_archive_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    archive = make(tmp_path / f"x{suffix}", {"a": os.urandom(50_000)})
    archive.write_bytes(archive.read_bytes()[:30_000])
    with pytest.raises(ArchiveError, match=f"{archive}: cannot be unpacked: ") as caught:
        open_up(archive)
    assert "\n" not in str(caught.value) and files_in(tmp_path).keys() == {archive.name}
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(ArchiveError, match=f"{archive}: cannot be unpacked: "):
        open_up(archive)


def test_content_that_does_not_have_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("a", b"right content")
    path.write_bytes(path.read_bytes().replace(b"right content", b"wrong content"))
    with pytest.raises(ArchiveError, match="CRC"):
        open_up(path)


def test_an_encrypted_archive(tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", {"a": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="'a' is encrypted"):
        open_up(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_unpacking_goes_on_where_it_was_interrupted(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, out = make(tmp_path / f"x{suffix}"), tmp_path / "out"
    written: list[str] = []
    copy = archives._copy

    def interrupted(member: Any, *rest: Any) -> int:
        if member.name == "list.txt" and len(written) < 3:
            rest[0].write(b"h")  # half of it
            written.append("half")
            raise KeyboardInterrupt
        written.append(member.name)
        return copy(member, *rest)

    monkeypatch.setattr(archives, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_up(archive)
    assert [path.name for path in out.iterdir()] == [".work"]
    assert files_in(open_up(archive)) == FILES
    assert written == ["train/a.jpg", "train/deep/b.jpg", "half", "list.txt"]


def test_moving_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, out = make(tmp_path / "x.zip"), tmp_path / "out"
    moved: list[str] = []
    move = archives._move

    def interrupted(entry: Path, place: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(entry.name)
        move(entry, place)

    monkeypatch.setattr(archives, "_move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_up(archive)
    monkeypatch.setattr(archives, "_move", move)
    monkeypatch.setattr(archives, "_extract", None)  # it need not be read again
    assert files_in(open_up(archive)) == FILES
    assert not (out / ".work").exists()


def test_a_full_disk_is_noticed_before_and_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10

    archive = make(tmp_path / "x.zip")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: Usage)
        with pytest.raises(FileError, match="needs 1003 more bytes, but its disk has 10 free"):
            open_up(archive)

        def full(*_arguments: Any) -> int:
            raise OSError(28, "No space left on device")

        patch.undo()
        patch.setattr(archives, "_copy", full)
        with pytest.raises(FileError, match=r"x\.zip: .*No space left"):
            open_up(archive)
    assert files_in(open_up(archive)) == FILES  # nothing was thrown away


def test_one_file_of_an_archive(tmp_path: Path) -> None:
    for suffix in (".zip", ".tar.gz"):
        archive, target = make(tmp_path / f"x{suffix}"), tmp_path / f"{suffix}.jpg"
        extract_member(archive, "train/a.jpg", target)
        assert target.read_bytes() == FILES["train/a.jpg"]
        with pytest.raises(ArchiveError, match="holds no file 'b' .it has train/a.jpg, train/deep"):
            extract_member(archive, "b", target)
        with pytest.raises(ArchiveError, match="unpacks? to .*more than"):
            extract_member(archive, "train/a.jpg", target, Limits(floor=10, ratio=0))
