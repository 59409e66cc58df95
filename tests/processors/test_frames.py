"""Reading videos: decord and PyAV see the same, and what cannot be read says so in one line."""

from __future__ import annotations

import sys

import av
import numpy as np
import pytest
import torch

from lavis_clone.processors import frames
from lavis_clone.processors.frames import Size, VideoError, VideoNotFound, scan
from lavis_clone.processors.video import load_video, read_video
from tests.processors.videos import (
    cut_off,
    number,
    picture,
    shifted,
    turned,
    write_sound,
    write_video,
)

needs_decord = pytest.mark.skipif(not frames.has_decord(), reason="decord is not installed")


def jitter(count, seed=0):
    """Times of frames in milliseconds, at very different distances."""
    steps = np.random.default_rng(seed).integers(5, 200, count)
    return [int(time) for time in np.cumsum(steps)]


def numbers(video):
    """Which pictures a video ``(3, T, H, W)`` shows."""
    return [number(frame) for frame in video.unbind(1)]


KINDS = {
    "h264.mp4": {},
    "b_pyramid.mkv": {"x264": "bframes=4:b-adapt=0:b-pyramid=normal"},
    "no_b.mp4": {"x264": "bframes=0"},
    "vfr.mp4": {"times": jitter(30)},
    "open.mp4": {"x264": "open-gop=1:bframes=3:b-adapt=0"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "odd.mp4": {"size": (126, 94)},
    "b_frames.avi": {},
    "stream.ts": {},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "vp8.webm": {"codec": "libvpx"},
}
FOR_PYAV = ("open.mp4", "b_frames.avi", "stream.ts", "mpeg2.mpg", "vp8.webm")
"""What decord would read wrongly, or is not trusted with."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("videos")
    for name, options in KINDS.items():
        write_video(made / name, **options)
    return made


@pytest.mark.parametrize("name", KINDS)
def test_all_frames_come_in_order(folder, name):
    video = read_video(folder / name, backend="pyav")
    assert numbers(video.frames) == list(range(30))
    assert video.frames.dtype == torch.uint8 and video.num_frames == 30


@needs_decord
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(-1, -1), (112, 224)])
def test_decord_and_pyav_see_the_same(folder, name, size):
    path = folder / name
    timeline = scan(path)
    for indices in (range(30), [0, 9, 10, 11, 19, 29], [28], [3, 17]):
        own = frames.read_with_pyav(path, timeline, indices, Size(*size))
        assert numbers(torch.from_numpy(own).permute(3, 0, 1, 2)) == list(indices)
        if timeline.decord_agrees:
            other = frames.read_with_decord(path, timeline, indices, Size(*size))
            assert own.shape == other.shape
            assert np.abs(own.astype(int) - other).mean() < 0.5
        chosen = load_video(path, height=size[0], width=size[1])[:, indices]
        assert numbers(chosen) == list(indices)
    assert timeline.decord_agrees == (name not in FOR_PYAV)


@pytest.mark.parametrize("seed", range(6))
def test_any_frames_of_any_stream(tmp_path, seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(5, 35))
    x264 = f"keyint={random.integers(3, 15)}:min-keyint=1:bframes={random.integers(0, 5)}"
    x264 += f":b-pyramid=normal:open-gop={random.integers(0, 2)}:ref={random.integers(1, 5)}"
    name = str(random.choice(["a.mp4", "a.mkv"]))
    path = write_video(tmp_path / name, count, x264=x264, times=jitter(count, seed))
    timeline = scan(path)
    assert timeline.count == count
    for _ in range(4):
        indices = sorted(random.choice(count, min(count, 6), replace=False).tolist())
        own = frames.read_with_pyav(path, timeline, indices, Size())
        assert numbers(torch.from_numpy(own).permute(3, 0, 1, 2)) == indices
        if timeline.decord_agrees and frames.has_decord():
            other = frames.read_with_decord(path, timeline, indices, Size())
            assert np.array_equal(own, other)


@needs_decord
@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_a_video_is_turned_as_it_asks(folder, tmp_path, degrees, backend):
    path = turned(folder / "h264.mp4", tmp_path / "turned.mp4", degrees)
    video = load_video(path, 2, backend=backend)
    upright = np.rot90(picture(15, 128, 96), -degrees // 90).copy()
    assert video.shape == (3, 2, *upright.shape[:2])
    away = (video[:, 1].permute(1, 2, 0).float() - torch.from_numpy(upright).float()).abs()
    assert away.mean() < 5
    assert load_video(path, 2, height=64, width=128, backend=backend).shape == (3, 2, 64, 128)


def test_frames_that_an_edit_list_cuts_off_are_not_shown(folder, tmp_path):
    path = shifted(folder / "no_b.mp4", tmp_path / "cut.mp4", 5)
    timeline = scan(path)
    assert timeline.count == 25 and not timeline.decord_agrees
    assert numbers(load_video(path)) == list(range(5, 30))
    assert numbers(load_video(path, 5)) == [5, 10, 15, 20, 25]


def test_decoding_starts_at_the_nearest_key_frame(folder, monkeypatch):
    path = folder / "no_b.mp4"
    timeline = scan(path)
    decoded = []
    scaler = frames._Search._decoded

    def counting(search):
        for frame in scaler(search):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(frames._Search, "_decoded", counting)
    own = frames.read_with_pyav(path, timeline, [1, 21, 22], Size())
    assert numbers(torch.from_numpy(own).permute(3, 0, 1, 2)) == [1, 21, 22]
    assert timeline.times is not None
    places = [timeline.times.index(time) for time in decoded]
    assert places == [0, 1, 20, 21, 22]


def test_frames_that_no_other_needs_are_passed_over(folder):
    path = folder / "b_pyramid.mkv"
    timeline = scan(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert timeline.times is not None
        wanted = [timeline.times[i] for i in (0, 19)]
        found = list(frames._Search(container, stream, timeline, wanted)._decoded())
        assert {timeline.times[0], timeline.times[19]} <= {frame.pts for frame in found}
        assert len(found) < 25  # of 30


def test_a_file_that_does_not_say_when_is_counted(folder, tmp_path):
    raw = write_video(tmp_path / "raw.h264", 12)
    timeline = scan(raw)
    assert timeline.count == 12
    assert numbers(load_video(raw, 4, backend="pyav")) == [0, 3, 6, 9]
    assert numbers(load_video(raw)) == list(range(12))


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="no AV1 encoder")
def test_av1_is_read_by_pyav(tmp_path):
    path = write_video(tmp_path / "av1.mp4", 12, codec="libsvtav1")
    assert not scan(path).decord_agrees
    assert numbers(load_video(path, 4)) == [0, 3, 6, 9]


def failing(message):
    def reading(*_):
        raise VideoError(message)

    return reading


@needs_decord
def test_pyav_that_fails_is_replaced_where_decord_is_trusted(folder, monkeypatch, caplog):
    monkeypatch.setattr("lavis_clone.processors.video.read_with_pyav", failing("no"))
    assert numbers(load_video(folder / "h264.mp4", 3)) == [0, 10, 20]
    assert "decord reads what PyAV does not: no" in caplog.text
    with pytest.raises(VideoError, match=r"^no$"):
        load_video(folder / "h264.mp4", 3, backend="pyav")
    with pytest.raises(VideoError, match=r"^no$"):
        load_video(folder / "vp8.webm", 3)
    monkeypatch.setattr("lavis_clone.processors.video.read_with_decord", failing("nor this"))
    with pytest.raises(VideoError, match=r"^no$"):
        load_video(folder / "h264.mp4", 3)


def test_decord_reads_only_where_it_is_asked(folder, monkeypatch):
    monkeypatch.setattr("lavis_clone.processors.video.read_with_decord", failing("asked"))
    assert numbers(load_video(folder / "h264.mp4", 3)) == [0, 10, 20]
    with pytest.raises(VideoError, match=r"^asked$"):
        load_video(folder / "h264.mp4", 3, backend="decord")


def test_without_decord_pyav_reads(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.setattr("lavis_clone.processors.video.has_decord", lambda: False)
    assert numbers(load_video(folder / "h264.mp4", 3)) == [0, 10, 20]
    frames._decord.cache_clear()
    with pytest.raises(ImportError, match="pip install decord"):
        load_video(folder / "h264.mp4", 3, backend="decord")


# --- bad files -----------------------------------------------------------------------------------


def bad_files(folder):
    """Files that are no videos, and what is said of each."""
    good = write_video(folder / "good.mp4", container={"movflags": "faststart"})
    data = good.read_bytes()
    late = write_video(folder / "late.mp4")
    middle = (data.find(b"mdat") + len(data)) // 2
    contents = {
        "empty.mp4": (b"", "is empty, not a video"),
        "text.mp4": (b"hello " * 100, "damaged, or not a video: Invalid data"),
        "truncated.mp4": (data[: len(data) * 2 // 3], "damaged video: it ends within a frame"),
        "headless.mp4": (late.read_bytes()[: len(data) // 2], "damaged, or not a video"),
        "dirty.mp4": (
            data[:middle] + b"\xff" * (len(data) - middle),
            "damaged, or not a video",
        ),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    write_sound(folder / "sound.m4a")
    write_video(folder / "none.mp4", 0)
    (folder / "folder.mp4").mkdir()
    told = {name: message for name, (_, message) in contents.items()}
    return told | {
        "sound.m4a": "has sound, but no pictures",
        "none.mp4": "the video has no frames",
        "folder.mp4": "is a directory, not a video",
        "missing.mp4": "no such video",
    }


def test_what_cannot_be_read_says_so_in_one_line(tmp_path):
    for name, message in bad_files(tmp_path).items():
        with pytest.raises(VideoError) as told:
            load_video(tmp_path / name)
        assert str(told.value).startswith(f"{tmp_path / name}: {message}"), name
        assert "\n" not in str(told.value)
        assert isinstance(told.value, VideoNotFound) == (name == "missing.mp4")


@pytest.mark.parametrize("name", ["h264.mp4", "b_pyramid.mkv", "vfr.mkv", "vp9.webm"])
def test_a_file_that_is_cut_off_between_two_frames(folder, tmp_path, name):
    source = folder / name
    if name == "vfr.mkv":
        source = write_video(tmp_path / "whole.mkv", times=jitter(30))
    for share in (1, 2, 3, 4, 5):
        path = cut_off(source, tmp_path / name, share / 9)
        with pytest.raises(VideoError) as told:
            scan(path)
        assert "damaged" in str(told.value)
    assert scan(source).count == 30


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_sound_may_be_longer_or_shorter_than_the_video(tmp_path, seconds):
    path = write_video(tmp_path / "a.mkv", sound=seconds)
    assert scan(path).count == 30
    with pytest.raises(VideoError, match="damaged"):
        scan(cut_off(path, path.with_name("b.mkv"), 0.5))


def test_a_null_byte_in_a_name(tmp_path):
    with pytest.raises(VideoError, match="cannot be read"):
        load_video(f"{tmp_path}/a\0b.mp4")
