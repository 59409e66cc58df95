"""Reads pictures straight into tensors, for processors that need no PIL picture on the way."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import decode_jpeg
from torchvision.transforms.v2.functional import pil_to_tensor

from lavis_clone.processors.pictures import ImageSource, as_seen, load_image, open_image, opened


class Pixels(NamedTuple):
    """A picture, perhaps decoded at a part of its size."""

    values: Tensor
    """RGB, ``(3, H, W)`` uint8; a view of ``(H, W, 3)``."""
    height: int
    """Pixels of the whole picture."""
    width: int
    scale: int = 1
    """How many of its pixels make one of ``values``, in each direction: 1, 2, 4 or 8."""


def load_pixels(source: ImageSource, *, at_least: int | None = None) -> Pixels:
    """What ``load_image`` reads, pixel for pixel; of most JPEG files without its detour over PIL.

    Args:
        at_least: Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as of ``load_image``.

    Raises:
        ImageError, FileError: as ``load_image`` does.
    """
    if isinstance(source, Image.Image):
        return _of_image(load_image(source))
    with opened(source) as (file, name):
        image = open_image(file, name)
        full = image.size
        if at_least is not None and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        if image.size == full and _is_plain_jpeg(image):
            file.seek(0)
            data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
            try:
                return _whole(decode_jpeg(data))
            except RuntimeError:  # damaged: PIL reads it if it can, else it says why not
                file.seek(0)
                image = open_image(file, name)
        scale = round(full[0] / image.width)
        found = _of_image(as_seen(image, name))
        if scale == 1:
            return found
        height, width = found.values.shape[1:]
        is_turned = (width > height) != (image.width > image.height)
        return found._replace(
            height=full[0] if is_turned else full[1],
            width=full[1] if is_turned else full[0],
            scale=scale,
        )


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Whether nothing has to be done to the picture after decoding."""
    if image.format != "JPEG" or image.mode != "RGB":
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # metadata that cannot be read; PIL's way has its rules for it
        return False


def _of_image(image: Image.Image) -> Pixels:
    return _whole(pil_to_tensor(image))


def _whole(values: Tensor) -> Pixels:
    return Pixels(values, values.shape[1], values.shape[2])
