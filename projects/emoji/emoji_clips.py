"""Clips of animated emoji: how they are read, what is made of them, and how they are written.

Shapes: T = ``FRAMES`` frames of S = ``SIZE`` pixels both ways, RGB on white.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from emoji_concepts import BuildError
from emoji_drawings import write_atomic
from PIL import Image

FRAMES = 16
RATE = 10
"""Frames a second."""
SIZE = 96
SMALL = 56
"""Pixels of a drawing that moves up or down, and the least of one that grows or shrinks."""
HALVES = ("first", "second")
"""Of an animation. One half is to train on and the other to evaluate with."""
PLAIN = "plain"
MADE = ("still", "rising", "sinking", "growing", "shrinking", "then")
"""What is made of plain clips, see ``made``; ``then`` takes two."""
X264 = {"crf": "18", "threads": "1", "x264-params": "mbtree=0"}
"""So that the same frames always give the same file: with more threads, or with its look ahead at
blocks, x264 does not."""

Frames = np.ndarray[Any, np.dtype[np.uint8]]
"""``(T, S, S, 3)``"""


@dataclass(frozen=True)
class Clip:
    """One file of the set.

    Attributes:
        what: ``plain`` or one of ``MADE``.
        half: Which half of the animations it shows.
        keys: The concepts that it shows, one after the other.
    """

    what: str
    half: str
    keys: tuple[str, ...]

    @property
    def path(self) -> str:
        """The file, relative to the folder of all videos."""
        return f"{self.what}/{self.half}_{'_'.join(self.keys)}.mp4"

    @classmethod
    def at(cls, path: str) -> Clip:
        """The clip whose file that is."""
        what, _, name = path.removesuffix(".mp4").partition("/")
        half, *keys = name.split("_")
        return cls(what, half, tuple(keys))

    @property
    def parts(self) -> list[Clip]:
        """The plain clips that it is made of."""
        return [Clip(PLAIN, self.half, (key,)) for key in self.keys]


def is_animated(path: Path) -> bool:
    """Whether a WebP file holds more than one picture.

    Raises:
        BuildError: it is no picture.
    """
    with _opened(path) as picture:
        return getattr(picture, "n_frames", 1) > 1


def write_halves(job: tuple[Path, Path, str, tuple[str, ...]]) -> None:
    """Write the plain clips of an animation.

    Args:
        job: The WebP file, the folder of all videos, the concept's key, and which halves.

    Raises:
        BuildError: the animation cannot be read.
    """
    source, videos, key, halves = job
    for half, frames in read_halves(source).items():
        if half in halves:
            write_atomic(videos / Clip(PLAIN, half, (key,)).path, encoded(frames))


def read_halves(path: Path) -> dict[str, Frames]:
    """Both halves of an animation, each as T frames at equal distances.

    Raises:
        BuildError: it cannot be read.
    """
    with _opened(path) as picture:
        count = getattr(picture, "n_frames", 1)
        cuts = (0, (count + 1) // 2, count)
        wanted = {
            half: np.linspace(cuts[i], cuts[i + 1], FRAMES, endpoint=False).astype(int).tolist()
            for i, half in enumerate(HALVES)
        }
        found = {}
        for index in sorted({i for indices in wanted.values() for i in indices}):
            try:
                picture.seek(index)
                found[index] = _on_white(picture)
            except (OSError, EOFError, ValueError) as error:
                raise BuildError(f"cannot read {path}: frame {index}: {error}") from error
    return {half: np.stack([found[i] for i in indices]) for half, indices in wanted.items()}


def write_made(job: tuple[Clip, Path]) -> None:
    """Write a clip that is made of plain ones, which are there.

    Args:
        job: The clip, and the folder of all videos.
    """
    clip, videos = job
    parts = [decoded(videos / part.path) for part in clip.parts]
    write_atomic(videos / clip.path, encoded(made(clip.what, parts)))


def made(what: str, parts: list[Frames]) -> Frames:
    """What becomes of plain clips.

    Args:
        what: ``still``: one picture all the time; ``rising`` and ``sinking``: the animation,
            smaller, moves up or down; ``growing`` and ``shrinking``; ``then``: the first animation
            at double speed, then the second.
        parts: Two clips for ``then``, else one.
    """
    frames = parts[0]
    if what == "still":
        return np.repeat(frames[FRAMES // 2][None], FRAMES, axis=0)
    if what == "then":
        return np.concatenate([part[::2] for part in parts])
    way = np.linspace(0, 1, FRAMES)
    if what in ("rising", "shrinking"):
        way = way[::-1]
    if what in ("rising", "sinking"):
        placed = [(SMALL, round((SIZE - SMALL) * w)) for w in way]
    else:
        sizes = [round(SMALL + (SIZE - SMALL) * w) for w in way]
        placed = [(size, (SIZE - size) // 2) for size in sizes]
    return np.stack([_placed(f, *place) for f, place in zip(frames, placed, strict=True)])


def motion(frames: Frames) -> float:
    """How much a clip moves: the mean over all pixels of the range of their values, 0 to 255."""
    values = frames.astype(int)
    return float((values.max(axis=0) - values.min(axis=0)).mean())


def encoded(frames: Frames) -> bytes:
    """An MP4 file, H.264; the same one for the same frames.

    Colours are converted here: left to the encoder, the first file of a process came out otherwise.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for frame in frames:
            coloured = av.VideoFrame.from_ndarray(frame, format="rgb24")
            planes = coloured.reformat(format="yuv420p").to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def decoded(path: Path) -> Frames:
    """All frames of a clip.

    Raises:
        BuildError: it cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError) as error:
        raise BuildError(f"cannot read {path}: {error}") from error
    if len(frames) != FRAMES:
        raise BuildError(f"{path} has {len(frames)} frames, not {FRAMES}; remove it, build again")
    return np.stack(frames)


def keys_of(clips: Iterable[Clip]) -> dict[str, tuple[str, ...]]:
    """The halves that are needed of each concept for clips."""
    needed: dict[str, set[str]] = {}
    for clip in clips:
        for key in clip.keys:
            needed.setdefault(key, set()).add(clip.half)
    return {key: tuple(sorted(halves)) for key, halves in needed.items()}


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error}") from error


def _on_white(picture: Image.Image) -> Frames:
    """``(S, S, 3)``"""
    small = picture.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", small.size, "white")
    return np.asarray(Image.alpha_composite(canvas, small).convert("RGB"))


def _placed(frame: Frames, size: int, top: int) -> Frames:
    """A frame ``(S, S, 3)`` at another size, so many pixels from the top, in the middle."""
    canvas = Image.new("RGB", (SIZE, SIZE), "white")
    small = Image.fromarray(frame).resize((size, size), Image.Resampling.LANCZOS)
    canvas.paste(small, ((SIZE - size) // 2, top))
    return np.asarray(canvas)
