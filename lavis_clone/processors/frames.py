"""Reads chosen frames of a video file with PyAV or decord, or says in one line why it cannot.

Both give the same frames: FFmpeg turns them upright and scales them with its bilinear filter.
Shapes: K frames of H x W pixels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from lavis_clone.processors.packets import Timeline, VideoError, VideoNotFound, opened, scan

if TYPE_CHECKING:
    import av

__all__ = [
    "Size",
    "Timeline",
    "VideoError",
    "VideoNotFound",
    "decode_all",
    "has_decord",
    "read_with_decord",
    "read_with_pyav",
    "scan",
]

CAN_SKIP = ("h264", "hevc", "mpeg4", "mpeg2video")
"""Codecs with frames that no other frame needs, which can be passed over undecoded."""
TURNS = {90: ("cclock",), 180: ("clock", "clock"), 270: ("clock",)}
"""FFmpeg's ``transpose`` for a rotation, in degrees, that a file asks for."""


class Size(NamedTuple):
    """Pixels of the frames to give; -1 for the video's own."""

    height: int = -1
    width: int = -1


def read_with_pyav(
    path: Path, timeline: Timeline, indices: Sequence[int], size: Size
) -> np.ndarray[Any, Any]:
    """Decode the frames at ``indices``, which ascend, into ``(K, H, W, 3)`` uint8 RGB.

    Goes to the last key frame before a frame whenever that is nearer than the frame before it, and
    passes over frames that no other one needs.

    Raises:
        VideoError: the video is damaged.
    """
    with opened(path) as (container, stream):
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


def decode_all(path: Path) -> Iterator[av.VideoFrame]:
    """Decode every frame that a video shows, one after another.

    Raises:
        VideoNotFound: there is no such file.
        VideoError: the file is no video, is damaged anywhere, or has no frames.
    """
    count = 0
    with opened(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoError(f"{path}: damaged video: it ends within a frame")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise VideoError(f"{path}: damaged video: frame {count} cannot be decoded")
                count += 1
                yield frame
    if not count:
        raise VideoError(f"{path}: the video has no frames")


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
