"""Turns a video into the tensor that video models, and image models frame by frame, take.

Shapes: T frames of H x W pixels, or S x S; a video is ``(3, T, H, W)``, RGB.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional

from lavis_clone.common.files import resolve
from lavis_clone.common.registry import registry
from lavis_clone.processors.augment import VideoRandomAugment
from lavis_clone.processors.frames import (
    Size,
    Timeline,
    VideoError,
    VideoNotFound,
    has_decord,
    read_with_decord,
    read_with_pyav,
    scan,
)
from lavis_clone.processors.image import CROP_RATIO, NormalizingProcessor, check_scales

__all__ = [
    "AlproVideoBaseProcessor",
    "AlproVideoEvalProcessor",
    "AlproVideoTrainProcessor",
    "LoadedVideo",
    "VideoError",
    "VideoNotFound",
    "load_video",
    "read_video",
    "sample_frames",
]

logger = logging.getLogger(__name__)

MAX_INT = sys.maxsize
"""As a number of frames: all that there are."""
FLIP = 0.5
"""Probability of mirroring a video left and right."""
AUGMENT_OPS, AUGMENT_LEVEL = 2, 5

VideoSource: TypeAlias = "str | Path"
Sampling = Literal["uniform", "headtail", "random"]
Backend = Literal["auto", "decord", "pyav"]


class LoadedVideo(NamedTuple):
    """A video of a given number of frames."""

    frames: Tensor
    """``(3, T, H, W)``; a short video's last frame is repeated."""
    num_frames: int
    """How many of the T frames are no repetition."""


def load_video(  # noqa: PLR0913  # v1.0.2's signature
    video_path: VideoSource,
    n_frms: int = MAX_INT,
    height: int = -1,
    width: int = -1,
    sampling: Sampling = "uniform",
    *,
    generator: torch.Generator | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Read frames of a video, in order: ``(3, T, H, W)`` uint8, T being exactly ``n_frms``.

    ``read_video`` documents the arguments, and says how many frames there really are.
    """
    return read_video(
        video_path, n_frms, height, width, sampling, generator=generator, backend=backend
    ).frames


def read_video(  # noqa: PLR0913  # as load_video
    video_path: VideoSource,
    n_frms: int = MAX_INT,
    height: int = -1,
    width: int = -1,
    sampling: Sampling = "uniform",
    *,
    generator: torch.Generator | None = None,
    backend: Backend = "auto",
) -> LoadedVideo:
    """Read frames of a video, uint8.

    A video is turned as its file asks for. One that has fewer than ``n_frms`` frames is given
    whole, and its last frame repeated.

    Args:
        video_path: A path, or an ``asset://``, ``hf://`` or http(s) location.
        n_frms: T; without it, all frames, which may be gigabytes.
        height: H; -1 for the video's own.
        width: W; the aspect is not kept.
        sampling: See ``sample_frames``.
        generator: Of the draws; None for torch's own.
        backend: ``auto`` takes PyAV, and decord for what PyAV cannot decode and decord is known to
            read well.

    Raises:
        VideoNotFound: there is no such file.
        VideoError: it is no video, is damaged, or has no frames.
        FileError: a location with ``://`` cannot be had.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be {', '.join(get_args(Backend))}, got {backend!r}")
    if min(height, width) < -1 or 0 in (height, width):
        raise ValueError(f"height ({height}) and width ({width}) must be positive, or -1")
    is_location = isinstance(video_path, str) and "://" in video_path
    path = resolve(video_path) if is_location else Path(video_path).expanduser()
    timeline = scan(path)
    indices = sample_frames(timeline.count, n_frms, sampling, generator=generator)
    decoded = _decoded(path, timeline, indices, Size(height, width), backend)
    frames = torch.from_numpy(decoded).permute(3, 0, 1, 2)  # (3, K, H, W)
    missing = 0 if n_frms == MAX_INT else n_frms - len(indices)
    if missing:
        frames = torch.cat([frames, frames[:, -1:].expand(-1, missing, -1, -1)], dim=1)
    return LoadedVideo(frames.contiguous(), len(indices))


def sample_frames(
    count: int,
    n_frms: int = MAX_INT,
    sampling: Sampling = "uniform",
    *,
    generator: torch.Generator | None = None,
) -> list[int]:
    """Choose ``n_frms`` different frames of ``count``, or all if there are no more; ascending.

    ``uniform`` takes the first of equal parts, ``headtail`` draws half from the first half and the
    rest from the second, ``random`` draws from all.

    Raises:
        ValueError: a number is less than 1, or there is no such way.
    """
    if min(count, n_frms) < 1:
        raise ValueError(f"count ({count}) and n_frms ({n_frms}) must be at least 1")
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling must be {', '.join(get_args(Sampling))}, got {sampling!r}")
    if n_frms >= count:
        return list(range(count))
    if sampling == "uniform":
        return [int(i * (count / n_frms)) for i in range(n_frms)]
    if sampling == "random":
        return _draw(n_frms, 0, count, generator)
    half, head = count // 2, n_frms // 2
    return _draw(head, 0, half, generator) + _draw(n_frms - head, half, count, generator)


def _draw(number: int, start: int, end: int, generator: torch.Generator | None) -> list[int]:
    """So many different ones of ``start`` to ``end``, ascending."""
    order = torch.randperm(end - start, generator=generator)
    return sorted((start + order[:number]).tolist())


def _decoded(
    path: Path, timeline: Timeline, indices: list[int], size: Size, backend: Backend
) -> np.ndarray[Any, Any]:
    """``(K, H, W, 3)`` uint8"""
    if backend == "decord":
        return read_with_decord(path, timeline, indices, size)
    try:
        return read_with_pyav(path, timeline, indices, size)
    except VideoError as error:
        if backend == "pyav" or not (timeline.decord_agrees and has_decord()):
            raise
        try:
            frames = read_with_decord(path, timeline, indices, size)
        except VideoError:
            raise error from None  # of the two, PyAV says it more clearly
        logger.warning("decord reads what PyAV does not: %s", error)
        return frames


@dataclass
class AlproVideoBaseProcessor(NormalizingProcessor):
    """Reads a video at S x S, and normalises; what else happens to it is the subclass's."""

    SAMPLING: ClassVar[Sampling] = "uniform"

    image_size: int = 256
    n_frms: int = MAX_INT
    """T; by default all frames, of which videos differ in number and make no batch."""
    _: KW_ONLY
    sampling: Sampling | None = None
    """How frames are chosen: ``uniform``, ``headtail`` or ``random``; None for the processor's own
    way. Not in LAVIS."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_frms < 1:
            raise ValueError(f"n_frms ({self.n_frms}) must be at least 1")

    def __call__(self, item: VideoSource) -> Tensor:
        """A video file to ``(3, T, S, S)`` float32."""
        return self.load(item).frames

    def load(self, item: VideoSource) -> LoadedVideo:
        """The same, and how many frames the video really has.

        Raises:
            VideoError: see ``read_video``.
        """
        size = self.image_size
        video = read_video(item, self.n_frms, size, size, self.sampling or self.SAMPLING)
        return LoadedVideo(self.transform(video.frames), video.num_frames)

    def transform(self, item: Any) -> Tensor:
        """``(3, T, S, S)`` uint8 to float32"""
        frames: Tensor = item.transpose(0, 1)  # (T, 3, S, S)
        return self.normalize_pixels(frames).transpose(0, 1).contiguous()


@registry.register_processor("alpro_video_eval")
@dataclass
class AlproVideoEvalProcessor(AlproVideoBaseProcessor):
    """Takes frames at equal distances."""


@registry.register_processor("alpro_video_train")
@dataclass
class AlproVideoTrainProcessor(AlproVideoBaseProcessor):
    """Draws frames of both halves; crops, mirrors and changes all of them in the same way."""

    SAMPLING: ClassVar[Sampling] = "headtail"

    min_scale: float = 0.5
    """The crop's area, as a share of the frame's."""
    max_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.min_scale, self.max_scale)
        self._augment = VideoRandomAugment(AUGMENT_OPS, AUGMENT_LEVEL)

    def transform(self, item: Any) -> Tensor:
        frames: Tensor = item.transpose(0, 1)  # (T, 3, S, S)
        top, left, height, width = RandomResizedCrop.get_params(
            frames, scale=[self.min_scale, self.max_scale], ratio=list(CROP_RATIO)
        )
        frames = functional.resized_crop(
            frames,
            *(top, left, height, width),
            size=[self.image_size, self.image_size],
            interpolation=InterpolationMode.BICUBIC,
            antialias=True,
        )
        if torch.rand(1).item() < FLIP:
            frames = frames.flip(-1)
        pictures = [Image.fromarray(f.numpy()) for f in frames.permute(0, 2, 3, 1).contiguous()]
        changed = np.stack([np.asarray(picture) for picture in self._augment.of_frames(pictures)])
        return super().transform(torch.from_numpy(changed).permute(3, 0, 1, 2))  # (3, T, S, S)
