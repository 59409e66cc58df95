"""What the packets of a video file tell of its frames, or in one line why it cannot be read."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

KNOWN_TO_DECORD = ("h264", "mpeg4", "vp9")
"""Codecs of which a packet is a frame, and which decord's old FFmpeg decodes: AV1 is not, and HEVC
has key frames that decord loses its way at."""
STAMPED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Formats, as FFmpeg calls them, that say when each frame is shown, so that it can be searched for;
``avi`` says it where frames are stored in the order in which they are shown."""
MAY_LACK = 4
"""Frames that a file may have less than its length says."""
AV_SECOND = 1_000_000
"""A second in the unit of a container's ``duration``."""
IDR = 5
"""H.264's type of a part of a picture that all decoding can start with."""


class VideoError(ValueError):
    """A video cannot be read. The message is one line and names the file."""


class VideoNotFound(VideoError, FileNotFoundError):
    """There is no file where the video should be."""


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
    is_plain, in_order, end = True, True, 0
    with opened(path) as (container, stream):
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
            end = max(end, _end(packet))
        codec, file_format = stream.codec_context.name, container.format.name
        if file_format in STAMPED:
            _check_length(path, container, stream, end, times)
    known = sorted(time for time in times if time is not None)
    is_stamped = file_format in STAMPED or (file_format == "avi" and in_order)
    if not is_stamped or len(set(known)) < len(times):
        return Timeline(_count(path), None, (), decord_agrees=False)
    if not known:
        raise VideoError(f"{path}: the video has no frames")
    agrees = is_plain and codec in KNOWN_TO_DECORD
    return Timeline(len(known), tuple(known), tuple(sorted(keys)), agrees)


@contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
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
    with opened(path) as (container, stream):
        count = sum(1 for _ in container.decode(stream))
    if not count:
        raise VideoError(f"{path}: the video has no frames")
    return count


def _end(packet: av.Packet) -> int:
    """When a packet's frame is no longer shown, or its sound over, in the stream's unit."""
    return (packet.pts or 0) + (packet.duration or 0)


def _check_length(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    end: int,
    times: Sequence[int | None],
) -> None:
    """Compare where a file's packets end with how long the file says it is.

    Args:
        end: Of the video's last frame.
        times: Of its frames. ``MAY_LACK`` of them may be absent, as not all files are exact, and
            the last may stay as long as any other.

    Raises:
        VideoError: the end is missing: a file that was cut off between two packets.
    """
    known = sorted(time for time in times if time is not None)
    if container.duration is None or stream.time_base is None or len(known) < 2:
        return
    longest = max(b - a for a, b in itertools.pairwise(known))
    usual = Fraction(known[-1] - known[0], len(known) - 1)
    slack = max(MAY_LACK * usual, Fraction(longest)) * stream.time_base
    told = Fraction(container.duration, AV_SECOND)
    found = (end - min(known[0], 0)) * stream.time_base
    if found + slack >= told:
        return
    with opened(path) as (again, _):  # sound, or another stream, may be longer than the video
        for packet in again.demux():
            if packet.size and packet.time_base is not None:
                found = max(found, _end(packet) * packet.time_base)
    if found + slack < told:
        raise VideoError(
            f"{path}: damaged video: it ends after {float(found):.2f} of {float(told):.2f} seconds"
        )


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
