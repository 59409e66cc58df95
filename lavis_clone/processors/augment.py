"""RandomAugment, as BLIP and ALBEF train with it: a few random operations per picture.

Source: RandAugment (Cubuk et al., 2019) with the operations and level formulas of
salesforce-lavis 1.0.2. Random numbers come from torch's generator, so that seeding it makes a
worker's pictures reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance, ImageOps

MAX_LEVEL = 10
FILL = (128, 128, 128)
MAX_SHEAR = 0.3
MAX_TRANSLATE = 10.0
"""Pixels at level 10."""
MAX_ROTATE = 30.0
"""Degrees at level 10."""

Operation = Callable[[Image.Image, float, int], Image.Image]
"""(RGB picture, strength from 0 to 1, sign) -> RGB picture"""


def _identity(image: Image.Image, _strength: float, _sign: int) -> Image.Image:
    return image


def _auto_contrast(image: Image.Image, _strength: float, _sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _strength: float, _sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def _brightness(image: Image.Image, strength: float, _sign: int) -> Image.Image:
    factor = _enhance_factor(strength)
    return image if factor == 1 else ImageEnhance.Brightness(image).enhance(factor)


def _sharpness(image: Image.Image, strength: float, _sign: int) -> Image.Image:
    factor = _enhance_factor(strength)
    return image if factor == 1 else ImageEnhance.Sharpness(image).enhance(factor)


def _enhance_factor(strength: float) -> float:
    """0.1 to 1.9; exactly 1, which changes nothing, at half strength (level 5)."""
    return strength * 1.8 + 0.1


def _shear_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, -sign * strength * MAX_SHEAR, 0, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, -sign * strength * MAX_SHEAR, 1, 0))


def _translate_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _translate(image, sign * strength * MAX_TRANSLATE, 0)


def _translate_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _translate(image, 0, sign * strength * MAX_TRANSLATE)


def _translate(image: Image.Image, left: float, up: float) -> Image.Image:
    if left != int(left) or up != int(up):
        return _affine(image, (1, 0, left, 0, 1, up))
    moved = Image.new(image.mode, image.size, FILL)  # the same, without interpolation
    moved.paste(image, (-int(left), -int(up)))
    return moved


def _rotate(image: Image.Image, strength: float, sign: int) -> Image.Image:
    angle = sign * strength * MAX_ROTATE
    return image.rotate(angle, resample=Image.Resampling.BILINEAR, fillcolor=FILL)


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """``matrix`` takes a place in the result to its place in ``image``."""
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BILINEAR,
        fillcolor=FILL,
    )


OPERATIONS: dict[str, Operation] = {
    "Identity": _identity,
    "AutoContrast": _auto_contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "Equalize": _equalize,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
}


@dataclass(frozen=True)
class RandomAugment:
    """Draws ``ops`` operations with replacement and applies each with probability ``p``.

    At level 5, which LAVIS ships, Brightness and Sharpness have the factor 1 and so change
    nothing; another level makes them work.
    """

    ops: int = 2
    level: int = 5
    """From 0 to 10: shear up to 0.3, shifts up to 10 pixels, turns up to 30 degrees."""
    p: float = 0.5
    names: tuple[str, ...] = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        if self.ops < 0:
            raise ValueError(f"ops ({self.ops}) must not be negative")
        if not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"level ({self.level}) must lie in 0..{MAX_LEVEL}")
        if unknown := [n for n in self.names if n not in OPERATIONS] or not self.names:
            raise ValueError(f"names must be some of {', '.join(OPERATIONS)}, got {unknown}")

    @property
    def _idle(self) -> tuple[str, ...]:
        """Operations that change nothing."""
        is_one = _enhance_factor(self.level / MAX_LEVEL) == 1
        return ("Identity", "Brightness", "Sharpness") if is_one else ("Identity",)

    def __call__(self, image: Image.Image) -> Image.Image:
        """RGB picture to RGB picture of the same size."""
        return self.apply(image, self.draw())

    def apply(self, image: Image.Image, drawn: Sequence[tuple[Operation, int]]) -> Image.Image:
        """Do what was drawn, one after another."""
        for operation, sign in drawn:
            image = operation(image, self.level / MAX_LEVEL, sign)
        return image

    def draw(self) -> list[tuple[Operation, int]]:
        """What to do this time, each with its sign; nothing where nothing would change."""
        chosen = self.choose()
        chances, signs = torch.rand(2, self.ops).tolist()
        return [
            (OPERATIONS[self.names[index]], 1 if sign < 0.5 else -1)
            for index, chance, sign in zip(chosen, chances, signs, strict=True)
            if chance <= self.p and self.names[index] not in self._idle
        ]

    def choose(self) -> list[int]:
        """Numbers of ``ops`` operations."""
        found: list[int] = torch.randint(len(self.names), (self.ops,)).tolist()
        return found


@dataclass(frozen=True)
class VideoRandomAugment(RandomAugment):
    """Draws ``ops`` different operations for all frames of a video, and applies each.

    All frames are sheared, shifted and turned the same way; in v1.0.2 each went its own way, and
    the video trembled.
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ops > len(self.names):
            raise ValueError(
                f"ops ({self.ops}) must be at most {len(self.names)}, or one comes twice"
            )

    def of_frames(self, frames: Sequence[Image.Image]) -> list[Image.Image]:
        """RGB frames to RGB frames of the same size."""
        changed = list(frames)
        for operation, sign in self.draw():
            changed = [operation(frame, self.level / MAX_LEVEL, sign) for frame in changed]
        return changed

    def choose(self) -> list[int]:
        found: list[int] = torch.randperm(len(self.names))[: self.ops].tolist()
        return found
