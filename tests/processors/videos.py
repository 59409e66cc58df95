"""Writes small videos. Frame i of one is told by its colours: see ``number``."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

REGULAR = "keyint=10:min-keyint=10:scenecut=0"
"""What makes x264 set a key frame every 10 frames, and nowhere else."""
RATE = 16000
"""Samples of sound a second."""
STEP = 6
"""How much brighter each frame is than the one before it."""
TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""The upper left of an MP4 file's matrix for a turn clockwise."""


def picture(number: int, width: int, height: int) -> np.ndarray[Any, Any]:
    """Grey by its number, with a dark upper left corner."""
    frame = np.full((height, width, 3), 16 + STEP * number, np.uint8)
    frame[: height // 4, : width // 4] = 0
    return frame


def number(frame: Any) -> int:
    """Which ``picture`` a frame ``(3, H, W)`` shows, by its lower right quarter."""
    height, width = frame.shape[-2:]
    bright = frame[:, height // 2 :, width // 2 :].float().mean().item()
    return round((bright - 16) / STEP)


def write_video(  # noqa: PLR0913  # each of these makes files that are hard to read
    path: Path,
    count: int = 30,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (128, 96),
    times: Sequence[int] | None = None,
    x264: str = "",
    container: dict[str, str] | None = None,
    sound: float = 0.0,
) -> Path:
    """Write ``count`` frames with a key frame every 10.

    Args:
        size: Width and height.
        times: Of each frame, in milliseconds; None for 25 frames a second.
        x264: Parameters of the encoder, such as ``bframes=0``.
        container: Options of the file format.
        sound: Seconds of silence beside the frames; 0 for no sound.
    """
    with av.open(str(path), "w", options=container or {}) as file:
        options = {"x264-params": f"{REGULAR}:{x264}".rstrip(":")} if codec == "libx264" else {}
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size, stream.bit_rate = 10, 2_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        silence = file.add_stream("aac", rate=RATE) if sound else None
        if not count:
            file.start_encoding()  # or no file is written
        if silence is not None:
            _add_silence(file, silence, sound)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A second of silence, without pictures."""
    with av.open(str(path), "w") as file:
        _add_silence(file, file.add_stream("aac", rate=RATE), 1.0)
    return path


def _add_silence(file: Any, stream: Any, seconds: float) -> None:
    silence = np.zeros((1, round(RATE * seconds)), np.float32)
    frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
    frame.rate = RATE
    file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def cut_off(source: Path, path: Path, share: float) -> Path:
    """The start of a file, up to the end of the packet at this share of its packets."""
    with av.open(str(source)) as file:
        ends = sorted(
            packet.pos + packet.size
            for packet in file.demux()
            if packet.pos is not None and packet.size
        )
    path.write_bytes(source.read_bytes()[: ends[int(share * len(ends))]])
    return path


def shifted(source: Path, path: Path, frames: int) -> Path:
    """The same packets in an MP4 file whose edit list cuts off the first ``frames``."""
    uncut = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(source)) as old, av.open(str(path), "w", options=uncut) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is None:
                continue
            by = int(frames / (25 * packet.time_base))
            packet.pts, packet.dts, packet.stream = packet.pts - by, packet.dts - by, stream
            new.mux(packet)
    return path


def turned(source: Path, path: Path, degrees: int) -> Path:
    """An MP4 file that asks for being shown turned clockwise."""
    data = bytearray(source.read_bytes())
    place = data.find(b"tkhd") + 4
    place += 4 + (32 if data[place] == 1 else 20) + 16  # behind version, times, ids and volume
    a, b, c, d = TURNS[degrees]
    numbers = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", *numbers)
    path.write_bytes(data)
    return path
