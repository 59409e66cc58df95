"""Pictures as tensors: what PIL gives, pixel for pixel, and the same errors."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lavis_clone.processors.augment import OPERATIONS, RandomAugment, _affine
from lavis_clone.processors.image import BlipImageTrainProcessor
from lavis_clone.processors.pictures import ImageError, ImageNotFound, load_image
from lavis_clone.processors.pixels import load_pixels

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def smooth():
    small = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)


def saved(image, form="JPEG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation):
    found = Image.Exif()
    found[EXIF_ORIENTATION] = orientation
    return found


@pytest.mark.parametrize(
    "form, options",
    [
        ("JPEG", {}),
        ("JPEG", {"subsampling": 0, "quality": 95}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": exif(6).tobytes()}),
        ("JPEG", {"exif": b"Exif\0\0nonsense"}),
        ("PNG", {}),
        ("WEBP", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_those_of_pil(smooth, form, options, mode):
    data = saved(
        smooth.convert(mode if form == "JPEG" or mode != "CMYK" else "RGB"), form, **options
    )
    found, expected = load_pixels(data), load_image(data)
    assert np.array_equal(found.values.permute(1, 2, 0).numpy(), np.asarray(expected))
    assert (found.width, found.height, found.scale) == (*expected.size, 1)


def test_damaged_and_missing_pictures_are_told_as_ever(smooth, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(smooth)[:5000])
    for load in (load_image, load_pixels):
        with pytest.raises(ImageError, match="a.jpg: damaged picture: image file is truncated"):
            load(path)
        with pytest.raises(ImageNotFound, match="none.jpg"):
            load(tmp_path / "none.jpg")
        with pytest.raises(ImageError, match="not a picture"):
            load(b"hello")


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_pictures_know_their_size(smooth, orientation):
    data = saved(smooth.crop((0, 0, 637, 479)), exif=exif(orientation))
    found = load_pixels(data, at_least=100)
    size = (637, 479) if orientation == 1 else (479, 637)
    assert (found.width, found.height, found.scale) == (*size, 4)
    assert found.values.shape[1:] == (-(-size[1] // 4), -(-size[0] // 4))
    assert load_pixels(data, at_least=400).scale == 1


PLAIN = {"image_size": 48, "hflip": 0.0, "randaugment_ops": 0}


def drawn(processor, item, seed):
    torch.manual_seed(seed)
    return processor(item)


def test_fast_decoding_draws_the_same_crops(smooth):
    values = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
    whole = BlipImageTrainProcessor(**PLAIN, **values)
    fast = BlipImageTrainProcessor(**PLAIN, **values, fast_decode=True)
    data = saved(smooth)
    assert load_pixels(data, at_least=fast.decode_size).scale > 1
    apart = [(drawn(whole, data, s) - drawn(fast, data, s)).abs() for s in range(5)]
    assert max(float(a.mean()) for a in apart) < 3  # levels of 255; other crops are 40 apart
    other = (drawn(whole, data, 1) - drawn(whole, data, 2)).abs()
    assert float(other.mean()) > 10


def test_files_and_pictures_give_the_same(smooth, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(smooth))
    processor = BlipImageTrainProcessor(48, color_jitter=0.2, grayscale=0.5)
    for seed in range(4):
        expected = drawn(processor, load_image(path), seed)
        for item in (path, path.read_bytes()):
            assert drawn(processor, item, seed).equal(expected)


def test_a_subclass_may_take_pil_pictures(smooth):
    class Inverted(BlipImageTrainProcessor):
        def transform(self, item):
            assert isinstance(item, Image.Image)
            return -super().transform(item)

    data = saved(smooth)
    expected = -drawn(BlipImageTrainProcessor(48), data, 0)
    assert drawn(Inverted(48), data, 0).equal(expected)


@pytest.mark.parametrize("strength", [0.5, 0.55])
@pytest.mark.parametrize("name, place", [("TranslateX", 2), ("TranslateY", 5)])
def test_shifts_by_whole_pixels_are_those_of_interpolation(smooth, name, place, strength):
    for sign in (1, -1):
        matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        matrix[place] = sign * strength * 10
        found = OPERATIONS[name](smooth, strength, sign)
        assert found.tobytes() == _affine(smooth, tuple(matrix)).tobytes()


def test_operations_that_change_nothing_are_not_done():
    torch.manual_seed(0)
    idle = RandomAugment(20, 5, p=1.0, names=("Identity", "Brightness", "Sharpness"))
    assert idle.draw() == []
    assert RandomAugment(20, 4, p=1.0, names=("Identity", "Brightness")).draw()
