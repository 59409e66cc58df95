"""Turns a picture into the tensor that the image encoders take.

All processors here take what ``load_image`` takes (a path, bytes, an open file, any PIL picture)
and return a float32 tensor ``(3, S, S)``, RGB, normalised; S is ``image_size``. BLIP, ALBEF,
CLIP and ALPRO all use CLIP's mean and standard deviation. Random numbers come from torch's
generator alone.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, RandomAffine, RandomResizedCrop
from torchvision.transforms.v2 import functional

from lavis_clone.common.registry import registry
from lavis_clone.processors.augment import RandomAugment
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.pictures import ImageError, ImageNotFound, ImageSource, load_image
from lavis_clone.processors.pixels import Pixels, load_pixels

__all__ = [
    "Blip2ImageTrainProcessor",
    "BlipImageBaseProcessor",
    "BlipImageEvalProcessor",
    "BlipImageTrainProcessor",
    "ClipImageEvalProcessor",
    "ClipImageTrainProcessor",
    "ImageError",
    "ImageNotFound",
    "ImageSource",
    "load_image",
]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

CROP_RATIO = (3 / 4, 4 / 3)
"""Width to height of a random crop, before it is resized to a square."""
LONGEST_RESIZE = 16
"""A picture more than this much longer than wide is cropped and resized in one step."""

AFFINE_DEGREES, AFFINE_SHEAR = 15.0, 10.0
AFFINE_SHIFT, AFFINE_SCALE = 0.1, 0.15
"""What ``affine: 1.0`` allows, either way; shift as a share of the side."""

Triple = tuple[float, float, float]


@dataclass
class NormalizingProcessor(BaseProcessor):
    """Makes square tensors of one mean and standard deviation."""

    image_size: int = 384
    """S, the side of the square in pixels."""
    mean: Triple | None = None
    """Per channel, for values from 0 to 1; None for CLIP's."""
    std: Triple | None = None

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size ({self.image_size}) must be at least 1")
        self.mean = MEAN if self.mean is None else self.mean
        self.std = STD if self.std is None else self.std
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                "mean and std must have three numbers each, and std positive ones, "
                f"got {self.mean} and {self.std}"
            )
        self._offset = torch.tensor(self.mean).view(3, 1, 1)
        self._scale = torch.tensor(self.std).view(3, 1, 1)

    def normalize_pixels(self, pixels: Tensor) -> Tensor:
        """RGB from 0 to 255, ``(..., 3, H, W)``, to float32 of the same shape."""
        return pixels.contiguous().float().div_(255).sub_(self._offset).div_(self._scale)


@dataclass
class BlipImageBaseProcessor(NormalizingProcessor):
    """Reads, and normalises; how the picture gets its size is the subclass's."""

    interpolation: Literal["bicubic", "bilinear"] = field(default="bicubic", kw_only=True)
    """How pixels are made of those of the picture. Not in LAVIS."""

    @property
    def resampling(self) -> Image.Resampling:
        """``interpolation`` as Pillow names it."""
        return Image.Resampling[self.interpolation.upper()]

    @property
    def decode_size(self) -> int | None:
        """How short a JPEG's sides may get when it is decoded; None for a full decoding."""
        return None

    def __call__(self, item: ImageSource) -> Tensor:
        return self.transform(load_image(item, at_least=self.decode_size))

    def normalize(self, image: Image.Image) -> Tensor:
        """RGB picture of W x H to ``(3, H, W)``."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return self.normalize_pixels(pixels)


@registry.register_processor("blip_image_eval")
@dataclass
class BlipImageEvalProcessor(BlipImageBaseProcessor):
    """Resizes to S x S; the aspect is not kept."""

    def transform(self, item: Any) -> Tensor:
        size = (self.image_size, self.image_size)
        return self.normalize(item.resize(size, self.resampling))


@registry.register_processor("clip_image_eval")
@dataclass
class ClipImageEvalProcessor(BlipImageBaseProcessor):
    """Resizes the shorter side to S, and takes the middle square."""

    image_size: int = 224

    def transform(self, item: Any) -> Tensor:
        size = self.image_size
        short, long = min(item.size), max(item.size)
        resized_long = int(size * long / short)
        start = round((resized_long - size) / 2.0)
        is_wide = item.width > item.height
        corner = (start, 0) if is_wide else (0, start)
        if long > LONGEST_RESIZE * short:
            unit = long / resized_long  # pixels of the picture in one of the result's
            low, high = start * unit, (start + size) * unit
            box = (low, 0, high, item.height) if is_wide else (0, low, item.width, high)
            return self.normalize(item.resize((size, size), self.resampling, box=box))
        shape = (resized_long, size) if is_wide else (size, resized_long)
        resized = item.resize(shape, self.resampling)
        return self.normalize(resized.crop((*corner, corner[0] + size, corner[1] + size)))


@registry.register_processor("blip_image_train")
@dataclass
class BlipImageTrainProcessor(BlipImageBaseProcessor):
    """A random crop resized to S x S, then random changes; the defaults are v1.0.2's.

    Order: crop, flip, affine, colour jitter, grey, RandomAugment, normalisation.
    """

    min_scale: float = 0.5
    """The crop's area, as a share of the picture's."""
    max_scale: float = 1.0
    _: KW_ONLY
    hflip: float = 0.5
    """Probability of mirroring left and right."""
    affine: float = 0.0
    """Strength of a random turn (15 degrees), shift (10%), zoom (15%) and shear (10 degrees), with
    white where nothing was; the figures hold for 1.0."""
    color_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation; of hue a quarter of it."""
    grayscale: float = 0.0
    """Probability of losing all colour."""
    randaugment_ops: int = 2
    """RandomAugment's operations per picture; 0 for none."""
    randaugment_level: int = 5
    """From 0 to 10. At v1.0.2's 5, Brightness and Sharpness change nothing; any other level
    repairs that."""
    fast_decode: bool = False
    """Decode large JPEG files at reduced size, as long as no crop has to be enlarged for it. Crops
    are the same but for the rounding to pixels of the reduced picture, which is a little softer."""

    reads_files: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.min_scale, self.max_scale)
        for name in ("hflip", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 1]")
        for name in ("affine", "color_jitter"):
            if not 0 <= getattr(self, name) <= 2:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 2]")
        try:
            self._augment = RandomAugment(self.randaugment_ops, self.randaugment_level)
        except ValueError as error:
            raise ValueError(f"randaugment_{error}") from error
        self._steps = [*_affine_step(self.affine), *_jitter_step(self.color_jitter)]

    @property
    def decode_size(self) -> int | None:
        if not self.fast_decode:
            return None
        return math.ceil(self.image_size / math.sqrt(self.min_scale * CROP_RATIO[0]))

    def __call__(self, item: ImageSource) -> Tensor:
        if type(self).transform is not BlipImageTrainProcessor.transform:  # takes a PIL picture
            return super().__call__(item)
        return self.transform(load_pixels(item, at_least=self.decode_size))

    def transform(self, item: Any) -> Tensor:
        """The work itself, on ``Pixels`` or a PIL picture."""
        pixels = self._random_crop(item if isinstance(item, Pixels) else load_pixels(item))
        if _happens(self.hflip):
            pixels = pixels.flip(-1)
        image = _to_image(pixels) if self._steps else None
        for step in self._steps:
            image = step(image)
        if self.grayscale and _happens(self.grayscale):
            image = ImageOps.grayscale(image or _to_image(pixels)).convert("RGB")
        if self.randaugment_ops and (drawn := self._augment.draw()):
            image = self._augment.apply(image or _to_image(pixels), drawn)
        return self.normalize_pixels(pixels) if image is None else self.normalize(image)

    def _random_crop(self, picture: Pixels) -> Tensor:
        """Crop and resize, ``(3, S, S)`` uint8; torch's kernel is several times as fast as
        Pillow's. The crop is drawn for the whole picture, however large it was decoded."""
        shape = torch.empty((3, picture.height, picture.width), device="meta")
        drawn = RandomResizedCrop.get_params(
            shape, scale=[self.min_scale, self.max_scale], ratio=list(CROP_RATIO)
        )
        top, left, bottom, right = (
            round(place / picture.scale)
            for place in (drawn[0], drawn[1], drawn[0] + drawn[2], drawn[1] + drawn[3])
        )
        crop = picture.values[:, top : max(bottom, top + 1), left : max(right, left + 1)]
        return functional.resize(
            crop.unsqueeze(0).contiguous(memory_format=torch.channels_last),
            [self.image_size, self.image_size],
            interpolation=InterpolationMode(self.interpolation),
            antialias=True,
        )[0]


@registry.register_processor("blip2_image_train")
@dataclass
class Blip2ImageTrainProcessor(BlipImageTrainProcessor):
    """``blip_image_train`` without RandomAugment."""

    image_size: int = 364
    randaugment_ops: int = 0


@registry.register_processor("clip_image_train")
@dataclass
class ClipImageTrainProcessor(BlipImageTrainProcessor):
    """A large random crop and nothing else."""

    image_size: int = 224
    min_scale: float = 0.9
    hflip: float = 0.0
    randaugment_ops: int = 0


def check_scales(min_scale: float, max_scale: float) -> None:
    """Refuse shares of a picture's area that no random crop can have.

    Raises:
        ValueError: naming them.
    """
    if not 0 < min_scale <= max_scale <= 1:
        raise ValueError(
            f"min_scale ({min_scale}) and max_scale ({max_scale}) must lie in (0, 1], the first "
            "not above the second"
        )


def _to_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _happens(probability: float) -> bool:
    return probability > 0 and torch.rand(1).item() < probability


def _affine_step(strength: float) -> list[Any]:
    if not strength:
        return []
    shift, zoom = AFFINE_SHIFT * strength, AFFINE_SCALE * strength
    step = RandomAffine(
        AFFINE_DEGREES * strength,
        translate=(shift, shift),
        scale=(1 - zoom, 1 + zoom),
        shear=AFFINE_SHEAR * strength,
        interpolation=InterpolationMode.BILINEAR,
        fill=255,
    )
    return [step]


def _jitter_step(strength: float) -> list[Any]:
    if not strength:
        return []
    return [ColorJitter(strength, strength, strength, strength / 4)]
