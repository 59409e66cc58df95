"""Reads any picture as 8-bit RGB, or says in one line why it cannot."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from lavis_clone.common.files import resolve
from lavis_clone.common.members import member_of

ImageSource: TypeAlias = "str | Path | bytes | IO[bytes] | Image.Image"

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_SOURCES = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")


class ImageError(ValueError):
    """A picture cannot be read. The message is one line and names the file."""


class ImageNotFound(ImageError, FileNotFoundError):
    """There is no file where the picture should be."""


def load_image(
    source: ImageSource, *, background: str = "white", at_least: int | None = None
) -> Image.Image:
    """Read a picture as it is meant to be seen.

    The EXIF orientation is applied, transparency is laid over ``background``, 16-bit and floating
    point greys are scaled to 8 bits, palettes and CMYK are converted; of an animation the first
    frame is taken. An RGB picture without any of this is returned as it is, and ``source`` is
    never changed.

    Args:
        source: A path, an ``asset://``, ``hf://`` or http(s) location, a member of a tar file
            (``common.members``), the bytes of a file, an open binary file, or a PIL picture.
        background: A colour that PIL knows.
        at_least: Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, several times faster, as
            long as neither side gets shorter than this. The pixels then differ a little from
            those of a full decoding.

    Raises:
        ImageNotFound: there is no such file.
        ImageError: the file is no picture, is damaged, or has more than twice
            ``PIL.Image.MAX_IMAGE_PIXELS`` pixels (178,956,970 unless that is changed).
        FileError: a location with ``://`` cannot be had.
    """
    if isinstance(source, Image.Image):
        return as_seen(source, "picture", background)
    with opened(source) as (file, name):
        image = open_image(file, name)
        if at_least is not None and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        return as_seen(image, name, background)


@contextlib.contextmanager
def opened(source: Any) -> Iterator[tuple[IO[bytes], str]]:
    """A seekable binary file, and what to call it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source), f"picture of {len(source)} bytes"
    elif isinstance(source, (str, Path)) and (member := member_of(source)):
        try:
            data = member.read()
        except OSError as error:
            raise ImageError(f"{member}: cannot be read: {error}") from error
        yield io.BytesIO(data), str(member)
    elif isinstance(source, (str, Path)):
        is_location = isinstance(source, str) and "://" in source
        path = resolve(source) if is_location else Path(source).expanduser()
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise ImageNotFound(f"{path}: no such picture") from error
        except IsADirectoryError as error:
            raise ImageError(f"{path}: is a directory, not a picture") from error
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise ImageError(f"{str(path)!r}: cannot be read: {error}") from error
        with file:
            yield file, str(path)
    elif hasattr(source, "read"):
        yield _seekable(source), str(getattr(source, "name", "open file"))
    else:
        raise TypeError(
            "a picture must be a path, bytes, an open binary file or a PIL picture, "
            f"got {type(source).__name__}"
        )


def _seekable(file: Any) -> IO[bytes]:
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    data = file.read()
    if not isinstance(data, bytes):
        raise ImageError(f"{getattr(file, 'name', 'open file')}: must be opened in binary mode")
    return io.BytesIO(data)


def open_image(file: IO[bytes], name: str) -> Image.Image:
    """A picture whose header has been read, and no more.

    Raises:
        ImageError: it is none.
    """
    if not file.read(1):
        raise ImageError(f"{name}: is empty, not a picture")
    file.seek(0)
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture, or of a format that is not known") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: too large: {error}; shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:  # what Pillow's readers raise on a damaged header is not listed
        raise _damaged(name, error) from error


def as_seen(image: Image.Image, name: str, background: str = "white") -> Image.Image:
    """Decode what ``open_image`` opened, as it is meant to be seen.

    Raises:
        ImageError: it is damaged.
    """
    try:
        image.load()
        image = _turned(image)
        if min(image.size) < 1:
            raise ImageError(f"{name}: has no pixels: {image.width} x {image.height}")
        return _to_rgb(image, background)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too large: {error}") from error
    except Exception as error:  # what Pillow's decoders raise on damaged data is not listed
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"{name}: damaged picture: {reason}")


def _turned(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, and drop its source so that it is applied once."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # metadata that cannot be read says nothing; Pillow raises many kinds
        return image
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    turned.info = {k: v for k, v in image.info.items() if k not in _ORIENTATION_SOURCES}
    return turned


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bit(image).convert("RGB")
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        if image.mode == "La":  # premultiplied grey has no way to RGBA but this
            image = image.convert("LA")
        over = Image.new("RGBA", image.size, background)
        over.alpha_composite(image.convert("RGBA"))
        return over.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale greys to 0..255.

    ``I;16`` is 0..65535. ``I`` and ``F`` do not say their range: it is the smallest of 0..1 (``F``
    only), 0..255, 0..65535 and 0..the largest value that holds all of theirs.
    """
    values = np.asarray(image).astype(np.float64)  # (H, W)
    if not np.isfinite(values).all():
        raise ImageError("picture holds NaN or infinite values")
    ranges = {"I": (255.0, 65535.0), "F": (1.0, 255.0, 65535.0)}.get(image.mode, (65535.0,))
    largest = float(values.max())
    top = next((r for r in ranges if largest <= r), largest)
    scaled = np.rint(values.clip(min=0) * (255.0 / top))
    return Image.fromarray(scaled.astype(np.uint8))
