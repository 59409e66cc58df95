"""Reads chosen frames of a video file with PyAV or decord, or says in one line why it cannot.

Both give the same frames: FFmpeg turns them upright and scales them with its bilinear filter.
Shapes: K frames of H x W pixels.
"""

from __future__ import annotations

import bisect
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    import av

KNOWN_TO_DECORD = ("h264", "mpeg4", "vp9")
"""Codecs of which a packet is a frame, and which decord's old FFmpeg decodes: AV1 is not, and HEVC
has key frames that decord loses its way at."""
STAMPED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Formats, as FFmpeg calls them, that say when each frame is shown, so that it can be searched for;
``avi`` says it where frames are stored in the order in which they are shown."""
CAN_SKIP = ("h264", "hevc", "mpeg4", "mpeg2video")
"""Codecs with frames that no other frame needs, which can be passed over undecoded."""
IDR = 5
"""H.264's type of a part of a picture that all decoding can start with."""
TURNS = {90: ("cclock",), 180: ("clock", "clock"), 270: ("clock",)}
"""FFmpeg's ``transpose`` for a rotation, in degrees, that a file asks for."""


class VideoError(ValueError):
    """A video cannot be read. The message is one line and names the file."""


class VideoNotFound(VideoError, FileNotFoundError):
    """There is no file where the video should be."""


class Size(NamedTuple):
    """Pixels of the frames to give; -1 for the video's own."""

    height: int = -1
    width: int = -1


@dataclass(frozen=True)
class Timeline:
    """The frames that a video shows, as its packets tell."""

    count: int
    times: tuple[int, ...] | None
    """When each is shown, ascending, in the stream's unit; None if the file does not say: then
    frames are found by counting."""
    keys: tuple[int, ...]
    """Times of frames that decoding can start with, ascending."""
    decord_agrees: bool
    """Whether decord decodes the video and finds the same frames. It counts those that an edit list
    cuts off, and finds wrong ones in formats that do not say when each is shown, and behind key
    frames that are no new start (of "open" groups of pictures)."""

    def key_before(self, time: int) -> int:
        """Where to start for the frame of a time: at the last key frame that is not after it."""
        assert self.times is not None
        place = bisect.bisect_right(self.keys, time)
        return self.keys[place - 1] if place else min(self.times[0], time)


def scan(path: Path) -> Timeline:
    """Look at the packets of a video; without decoding them, where they say enough.

    Raises:
        VideoNotFound: there is no such file.
        VideoError: the file is no video, is damaged, or has no frames.
    """
    times: list[int | None] = []
    keys: list[int] = []
    is_plain, in_order = True, True
    with _opened(path) as (container, stream):
        for packet in container.demux(stream):
            if not packet.size:  # the last one, which is no frame
                continue
            if packet.is_corrupt:
                raise VideoError(f"{path}: damaged video: it ends within a frame")
            time = packet.pts
            if packet.is_keyframe and time is not None:
                keys.append(time)
                is_plain = is_plain and _is_new_start(packet, stream.codec_context)
            if packet.is_discard:  # cut off by an edit list: decoded for others, never shown
                is_plain = False
            else:
                times.append(time)
            in_order = in_order and time == packet.dts
        codec, file_format = stream.codec_context.name, container.format.name
    known = sorted(time for time in times if time is not None)
    is_stamped = file_format in STAMPED or (file_format == "avi" and in_order)
    if not is_stamped or len(set(known)) < len(times):
        return Timeline(_count(path), None, (), decord_agrees=False)
    if not known:
        raise VideoError(f"{path}: the video has no frames")
    agrees = is_plain and codec in KNOWN_TO_DECORD
    return Timeline(len(known), tuple(known), tuple(sorted(keys)), agrees)


def read_with_pyav(
    path: Path, timeline: Timeline, indices: Sequence[int], size: Size
) -> np.ndarray[Any, Any]:
    """Decode the frames at ``indices``, which ascend, into ``(K, H, W, 3)`` uint8 RGB.

    Goes to the last key frame before a frame whenever that is nearer than the frame before it, and
    passes over frames that no other one needs.

    Raises:
        VideoError: the video is damaged.
    """
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = torch.get_num_threads()  # 1 in a worker process
        if timeline.times is None:
            frames = _by_number(container, stream, indices)
        else:
            times = [timeline.times[index] for index in indices]
            frames = _Search(container, stream, timeline, times).frames()
        scaler = _Scaler(stream, size)
        found = [scaler(frame) for frame in frames]
    if not found:
        raise VideoError(f"{path}: the video has no frames that can be decoded")
    found += [found[-1]] * (len(indices) - len(found))  # packets at the end that show nothing
    return np.stack(found)


def read_with_decord(
    path: Path, timeline: Timeline, indices: Sequence[int], size: Size
) -> np.ndarray[Any, Any]:
    """Decode the frames at ``indices`` into ``(K, H, W, 3)`` uint8 RGB.

    Raises:
        VideoError: decord cannot read the video, or counts other frames than it shows.
    """
    decord = _decord()
    try:
        reader = decord.VideoReader(
            str(path), width=size.width, height=size.height, num_threads=torch.get_num_threads()
        )
        count = len(reader)
        frames: np.ndarray[Any, Any] = reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [""]
        raise VideoError(f"{path}: decord cannot read it: {reason[0]:.200}") from error
    if count != timeline.count:
        raise VideoError(f"{path}: decord finds {count} frames, and there are {timeline.count}")
    return frames


def has_decord() -> bool:
    """Whether decord is installed."""
    return importlib.util.find_spec("decord") is not None


@lru_cache(maxsize=1)
def _decord() -> Any:
    try:
        import decord  # noqa: PLC0415  # not on every platform
    except ImportError as error:
        raise ImportError("decord is not installed: pip install decord, or decord2") from error
    decord.logging.set_level(decord.logging.FATAL)  # what it has to say is in our errors
    return decord


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The file and its video; what FFmpeg has against it becomes a ``VideoError``."""
    import av  # noqa: PLC0415  # only for whoever reads videos

    _check_file(path)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            yield container, _video_stream(container, path)
    except av.FFmpegError as error:
        reason = " ".join((error.strerror or type(error).__name__).split())
        raise VideoError(f"{path}: damaged, or not a video: {reason}") from error


def _check_file(path: Path) -> None:
    try:
        num_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise VideoNotFound(f"{path}: no such video") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise VideoError(f"{str(path)!r}: cannot be read: {error}") from error
    if path.is_dir():
        raise VideoError(f"{path}: is a directory, not a video")
    if not num_bytes:
        raise VideoError(f"{path}: is empty, not a video")


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    from av.stream import Disposition  # noqa: PLC0415  # as above

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if streams:
        return streams[0]
    if container.streams.audio:
        raise VideoError(f"{path}: has sound, but no pictures")
    raise VideoError(f"{path}: the video has no frames")


def _count(path: Path) -> int:
    """The frames of a video whose packets do not tell when they are shown."""
    with _opened(path) as (container, stream):
        count = sum(1 for _ in container.decode(stream))
    if not count:
        raise VideoError(f"{path}: the video has no frames")
    return count


def _is_new_start(packet: av.Packet, context: av.VideoCodecContext) -> bool:
    """Whether a key frame cuts all ties with what is before it: in H.264, an IDR picture."""
    if context.name != "h264":
        return True
    header, data = context.extradata or b"", bytes(packet)
    if len(header) < 5 or header[0] != 1:  # not as MP4 and Matroska store it
        return False
    size = (header[4] & 3) + 1  # bytes that the length of a part of the packet takes
    place = 0
    while place + size < len(data):
        if data[place + size] & 31 == IDR:
            return True
        place += size + int.from_bytes(data[place : place + size], "big")
    return False


def _by_number(
    container: av.container.InputContainer, stream: av.VideoStream, indices: Sequence[int]
) -> Iterator[av.VideoFrame]:
    chosen = set(indices)
    return (f for number, f in enumerate(container.decode(stream)) if number in chosen)


class _Search:
    """Finds frames by their times.

    Args:
        times: Those of the frames, ascending.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        timeline: Timeline,
        times: Sequence[int],
    ) -> None:
        self.container, self.stream, self.timeline, self.times = container, stream, timeline, times
        self._wanted = set(times)
        self._skips = stream.codec_context.name in CAN_SKIP

    def frames(self) -> Iterator[av.VideoFrame]:
        """The frame of each time, or the next one where a packet shows nothing."""
        frame: av.VideoFrame | None = None
        ahead: Iterator[av.VideoFrame] = iter(())
        for time in self.times:
            key = self.timeline.key_before(time)
            if frame is None or key > _time(frame):
                ahead = self._from(key)
                frame = next(ahead, frame)
            while frame is not None and _time(frame) < time:
                following = next(ahead, None)
                if following is None:
                    break
                frame = following
            if frame is not None:
                yield frame

    def _from(self, time: int) -> Iterator[av.VideoFrame]:
        """All frames from a key frame on; from the start, if the file finds only later ones."""
        start = self.timeline.times[0] if self.timeline.times else time
        for place in (time, start):
            self.container.seek(place, stream=self.stream)
            frames = self._decoded()
            first = next(frames, None)
            if first is not None and _time(first) <= time:
                break
        if first is not None:
            yield first
        yield from frames

    def _decoded(self) -> Iterator[av.VideoFrame]:
        context = self.stream.codec_context
        for packet in self.container.demux(self.stream):
            skip = self._skips and packet.pts not in self._wanted
            context.skip_frame = "NONREF" if skip else "DEFAULT"
            for frame in packet.decode():
                if frame.pts is not None:
                    yield frame


def _time(frame: av.VideoFrame) -> int:
    assert frame.pts is not None
    return frame.pts


class _Scaler:
    """Turns frames upright, scales them and makes them RGB."""

    def __init__(self, stream: av.VideoStream, size: Size) -> None:
        self._stream, self._size = stream, size
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray[Any, Any]:
        """``(H, W, 3)``"""
        if self._graph is None:  # what the stream is like is certain when a frame is there
            self._graph = self._chain(frame)
        self._graph.push(frame)
        scaled: av.VideoFrame = self._graph.pull()  # type: ignore[assignment]  # of pictures
        return scaled.to_ndarray()

    def _chain(self, frame: av.VideoFrame) -> av.filter.Graph:
        from av.filter import Graph  # noqa: PLC0415  # as above

        turn = round(frame.rotation / 90) * 90 % 360
        height, width = frame.height, frame.width
        if turn in (90, 270):
            height, width = width, height
        wanted = self._size
        height = height if wanted.height < 0 else wanted.height
        width = width if wanted.width < 0 else wanted.width
        graph = Graph()
        nodes = [graph.add_buffer(template=self._stream)]
        nodes += [graph.add("transpose", way) for way in TURNS.get(turn, ())]
        nodes.append(graph.add("scale", f"{width}:{height}:flags=bilinear"))
        nodes.append(graph.add("format", "rgb24"))
        nodes.append(graph.add("buffersink"))
        for node, following in zip(nodes, nodes[1:], strict=False):
            node.link_to(following)
        graph.configure()
        return graph
