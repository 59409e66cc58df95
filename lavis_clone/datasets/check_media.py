"""Opens every picture, video and file of features once, and finds those that are one and the same.

A picture is known by two hashes: that of its file's bytes, and a difference hash of 64 bits, whose
bits say of a 9 x 8 thumbnail in grey whether each pixel is brighter than the one to its right
(after http://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html). It outlives
another size, format or quality, but not a crop or a mirror. Of a video it is that of the first
frame that is not of one colour.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from lavis_clone.common.members import member_of
from lavis_clone.processors.dialogue import FeatureError, read_features
from lavis_clone.processors.frames import VideoError, decode_all
from lavis_clone.processors.pictures import ImageError, load_image

Source: TypeAlias = Path | io.BytesIO
"""A file, a member of a tar file by its path, or a picture of a table."""

FLAT = 8
"""Levels of grey that a thumbnail must span to have a hash."""
MARGIN = 2
"""Levels of grey by which a pixel must be brighter to set its bit, so that noise sets none."""
MAX_BITS = 3
"""Bits in which the hashes of two pictures that look the same may differ."""
BAND_BITS = 16
"""Hashes that differ in 3 bits agree in one of 4 bands of 16, by which they are looked up."""
MAX_DIFFERENCE = 6.0
"""Levels, of 255, by which their 32 x 32 thumbnails may differ in the mean."""
MAX_LOOKED_AT = 10_000
"""Pairs of pictures with like hashes that are compared by their thumbnails."""


class MediaFacts(NamedTuple):
    """What one file is."""

    problem: str | None = None
    """Why it cannot be used; the rest is then not known."""
    is_missing: bool = False
    num_bytes: int = 0
    digest: bytes = b""
    """BLAKE2b of the file, 16 bytes."""
    look: int | None = None
    """The difference hash; None for one colour, and for features."""
    height: int = 0
    """Pixels; of features, the number of frames."""
    width: int = 0


class MediaProbe(Dataset[MediaFacts]):
    """The facts of each of some files, decoded in full.

    Args:
        sources: Gives a file by its number.
        roles: What each is: ``video``, or else a picture, or features if it ends in ``.npy``.
    """

    def __init__(self, sources: Callable[[int], Source], roles: Sequence[str]) -> None:
        self._sources, self._roles = sources, roles

    def __len__(self) -> int:
        return len(self._roles)

    def __getitem__(self, index: int) -> MediaFacts:
        return facts_of(self._sources(index), is_video=self._roles[index] == "video")


def facts_of(source: Source, *, is_video: bool) -> MediaFacts:
    """Read and decode one file."""
    try:
        num_bytes, digest = _content(source)
        if isinstance(source, Path) and source.suffix == ".npy":
            height, width = read_features(source).shape
            look = None
        elif isinstance(source, Path) and is_video:
            look, height, width = _watch(source)
        else:
            picture = load_image(source)
            look, height, width = difference_hash(picture), picture.height, picture.width
        return MediaFacts(None, False, num_bytes, digest, look, height, width)
    except (ImageError, VideoError, FeatureError, OSError) as error:
        return MediaFacts(str(error), isinstance(error, FileNotFoundError))


def difference_hash(picture: Image.Image) -> int | None:
    """64 bits that alike pictures share; None for a picture of one colour."""
    grey = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    levels = np.asarray(grey, dtype=np.int16)  # (8, 9)
    if int(levels.max()) - int(levels.min()) < FLAT:
        return None
    brighter = levels[:, :-1] > levels[:, 1:] + MARGIN
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


def alike(
    looks: Sequence[int | None], others: Sequence[int | None]
) -> Iterator[tuple[int, int, int]]:
    """Pairs of hashes that differ in a few bits.

    Yields:
        The places in ``looks`` and ``others``, and in how many bits.
    """
    ours, ours_at = _known(looks)
    theirs, theirs_at = _known(others)
    found: set[tuple[int, int]] = set()
    for shift in range(0, 64, BAND_BITS):
        mask = np.uint64((1 << BAND_BITS) - 1)
        bands = (ours >> np.uint64(shift)) & mask
        order = np.argsort(bands, kind="stable")
        bands = bands[order]
        wanted = (theirs >> np.uint64(shift)) & mask
        starts, ends = np.searchsorted(bands, wanted), np.searchsorted(bands, wanted, "right")
        for number in np.flatnonzero(ends > starts):
            rows = order[starts[number] : ends[number]]
            bits = np.bitwise_count(ours[rows] ^ theirs[number])
            for row, distance in zip(rows[bits <= MAX_BITS], bits[bits <= MAX_BITS], strict=True):
                pair = int(ours_at[row]), int(theirs_at[number])
                if pair not in found:
                    found.add(pair)
                    yield (*pair, int(distance))


def look_the_same(one: Source, other: Source) -> bool:
    """Whether two pictures with like hashes are also alike in colour."""
    difference = np.abs(_thumbnail(one) - _thumbnail(other)).mean()
    return bool(difference <= MAX_DIFFERENCE)


def _known(looks: Sequence[int | None]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    places = [place for place, look in enumerate(looks) if look is not None]
    known = np.array([looks[place] for place in places], dtype=np.uint64)
    return known, np.array(places, dtype=np.int64)


@lru_cache(maxsize=256)
def _thumbnail(source: Source) -> NDArray[np.float32]:
    picture = load_image(source).resize((32, 32), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32)


def _watch(path: Path) -> tuple[int | None, int, int]:
    """The look, height and width of a video, all of whose frames are decoded."""
    look, height, width = None, 0, 0
    for frame in decode_all(path):
        height, width = frame.height, frame.width
        look = look if look is not None else difference_hash(frame.to_image())
    return look, height, width


def _content(source: Source) -> tuple[int, bytes]:
    """The length of a file, and the hash of its bytes."""
    if isinstance(source, io.BytesIO):
        data = source.getvalue()
    elif member := member_of(source):
        data = member.read()
    else:
        return _content_of_file(source)
    return len(data), hashlib.blake2b(data, digest_size=16).digest()


def _content_of_file(path: Path) -> tuple[int, bytes]:
    if not path.is_file():
        return 0, b""  # what opens it tells why
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    return path.stat().st_size, digest
