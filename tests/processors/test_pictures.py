"""Every way in which a picture can come, and every way in which it can be bad."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from lavis_clone.processors.image import BlipImageEvalProcessor, ClipImageEvalProcessor
from lavis_clone.processors.pictures import ImageError, ImageNotFound, load_image

RED, WHITE, GREY = (255, 0, 0), (255, 255, 255), (128, 128, 128)
EXIF_ORIENTATION = 0x0112


def saved(image, path, **options):
    image.save(path, **options)
    return path


def corners(image):
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(xy) for xy in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


@pytest.fixture
def marked():
    """Red in the upper left corner, white elsewhere; 12 wide and 8 high."""
    image = Image.new("RGB", (12, 8), "white")
    image.putpixel((0, 0), RED)
    return image


@pytest.mark.parametrize(
    "image, expected",
    [
        (Image.new("1", (3, 2), 1), WHITE),
        (Image.new("L", (3, 2), 128), GREY),
        (Image.new("LA", (3, 2), (0, 0)), WHITE),
        (Image.new("LA", (3, 2), (0, 255)), (0, 0, 0)),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 255)), RED),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.new("RGBa", (3, 2), (0, 0, 0, 0)), WHITE),
        (Image.new("La", (3, 2), (0, 0)), WHITE),
        (Image.new("PA", (3, 2), (0, 0)), WHITE),
        (Image.new("RGB", (3, 2), "red").convert("P"), RED),
        (Image.new("RGB", (3, 2), "red").convert("CMYK"), RED),
        (Image.new("RGB", (3, 2), "red").convert("HSV"), RED),
        (Image.new("I;16", (3, 2), 32896), GREY),
        (Image.fromarray(np.full((2, 3), 32896, ">u2")), GREY),
        (Image.new("I", (3, 2), 128), GREY),
        (Image.new("I", (3, 2), 65535), WHITE),
        (Image.new("I", (3, 2), -5), (0, 0, 0)),
        (Image.new("I", (3, 2), 2**20), WHITE),
        (Image.new("F", (3, 2), 0.5), GREY),
        (Image.new("F", (3, 2), 128.0), GREY),
        (Image.new("F", (3, 2), 65535.0), WHITE),
    ],
    ids=lambda x: x.mode if isinstance(x, Image.Image) else "",
)
def test_every_mode_becomes_rgb(image, expected):
    before = image.copy()
    found = load_image(image)
    assert found.mode == "RGB" and found.size == (3, 2)
    assert np.abs(np.subtract(found.getpixel((1, 1)), expected)).max() <= 1
    assert image.mode == before.mode and image.tobytes() == before.tobytes()
    assert BlipImageEvalProcessor(8)(image).shape == (3, 8, 8)


def test_ycbcr_is_converted():
    found = load_image(Image.new("RGB", (2, 2), "red").convert("YCbCr"))
    assert np.abs(np.subtract(found.getpixel((0, 0)), RED)).max() <= 2


def test_rgb_is_returned_as_it_is(marked):
    assert load_image(marked) is marked


def test_background_can_be_chosen():
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert load_image(image, background="#808080").getpixel((0, 0)) == GREY


@pytest.mark.parametrize("options", [{"transparency": 0}, {}])
def test_palette_with_a_transparent_colour(tmp_path, options):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0] + [0] * 765)
    for name in ("a.png", "a.gif"):
        found = load_image(saved(image, tmp_path / name, **options))
        assert found.getpixel((0, 0)) == (WHITE if options else RED)


@pytest.mark.parametrize("mode, colour", [("L", 7), ("RGB", (7, 7, 7))])
def test_a_colour_that_png_calls_transparent(tmp_path, mode, colour):
    path = saved(Image.new(mode, (2, 2), colour), tmp_path / "a.png", transparency=colour)
    assert load_image(path).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(
    "orientation, red_corner", [(1, 0), (2, 1), (3, 3), (4, 2), (5, 0), (6, 1), (7, 3), (8, 2)]
)
def test_exif_orientation_is_applied_once(tmp_path, marked, orientation, red_corner):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    path = saved(marked, tmp_path / "a.png", exif=exif)
    found = load_image(path)
    assert corners(found).index(RED) == red_corner
    assert found.size == ((8, 12) if orientation >= 5 else (12, 8))
    assert load_image(found).tobytes() == found.tobytes()
    assert load_image(found.copy()).tobytes() == found.tobytes()
    with Image.open(path) as opened:
        assert load_image(opened).tobytes() == found.tobytes()


def test_unreadable_exif_is_no_reason_to_fail(tmp_path):
    path = saved(Image.new("RGB", (8, 8), "red"), tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
    assert load_image(path).size == (8, 8)


def test_16_bit_png_and_tiff(tmp_path):
    values = np.array([[0, 32896, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        found = load_image(saved(Image.fromarray(values), tmp_path / name))
        assert np.asarray(found)[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    image = Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK")
    path = saved(image, tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in path.read_bytes()  # such files hold inverted values
    assert np.abs(np.subtract(load_image(path).getpixel((8, 8)), (200, 30, 60))).max() <= 4
    tiff = load_image(saved(image, tmp_path / "a.tif"))
    assert np.abs(np.subtract(tiff.getpixel((8, 8)), (200, 30, 60))).max() <= 1


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    assert load_image(tmp_path / name).getpixel((4, 4)) == RED


def test_path_bytes_and_file_objects_agree(tmp_path, marked):
    path = saved(marked, tmp_path / "a.png")
    expected = marked.tobytes()
    assert load_image(path).tobytes() == expected
    assert load_image(str(path)).tobytes() == expected
    assert load_image(path.read_bytes()).tobytes() == expected
    with path.open("rb") as file:
        assert load_image(file).tobytes() == expected
    written = io.BytesIO()
    marked.save(written, "png")  # leaves the position at the end
    assert load_image(written).tobytes() == expected
    with path.open("r", encoding="latin1") as file, pytest.raises(ImageError, match="binary"):
        load_image(file)


def test_what_is_no_source_at_all():
    with pytest.raises(TypeError, match="a path, bytes, .* got int"):
        load_image(3)


def test_a_missing_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "none.jpg"
    with pytest.raises(FileNotFoundError) as caught:
        load_image(path)
    assert isinstance(caught.value, ImageError)
    assert str(caught.value) == f"{path}: no such picture"
    again = pickle.loads(pickle.dumps(caught.value))  # it may come from a worker process
    assert isinstance(again, ImageNotFound) and str(again) == str(caught.value)


def test_bad_files_are_named(tmp_path):
    photo = Image.effect_noise((64, 64), 80).convert("RGB")
    whole = saved(photo, tmp_path / "whole.jpg").read_bytes()
    png = saved(photo, tmp_path / "whole.png").read_bytes()
    bad = {
        "truncated.jpg": (whole[: len(whole) // 2], "damaged picture"),
        "truncated.png": (png[: len(png) // 2], "damaged picture"),
        "text.jpg": (b"these are words", "not a picture"),
        "empty.jpg": (b"", "empty"),
        "header.jpg": (whole[:20], "not a picture"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="is a directory"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="picture of 15 bytes: not a picture"):
        load_image(b"these are words")


def test_infinite_pixels_are_an_error():
    with pytest.raises(ImageError, match="NaN or infinite"):
        load_image(Image.fromarray(np.array([[np.inf, 0]], dtype=np.float32)))


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    path = saved(Image.new("1", (300, 200)), tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(ImageError, match=r"huge.png: too large: .*60000.*MAX_IMAGE_PIXELS"):
        load_image(path)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (20_000, 300)])
def test_tiny_and_long_pictures(size):
    image = Image.new("RGB", size, "red")
    for processor in (BlipImageEvalProcessor(8), ClipImageEvalProcessor(8)):
        found = processor(image)
        assert found.shape == (3, 8, 8)
        assert (found == found[:, :1, :1]).all()


def test_a_long_picture_is_cropped_as_a_short_one(monkeypatch):
    rng = np.random.default_rng(0)
    strip = Image.fromarray(rng.integers(0, 256, (9, 120, 3), dtype=np.uint8)).resize((600, 45))
    for image in (strip, strip.transpose(Image.Transpose.ROTATE_90)):
        in_two_steps = ClipImageEvalProcessor(32)(image)
        monkeypatch.setattr("lavis_clone.processors.image.LONGEST_RESIZE", 2)
        in_one_step = ClipImageEvalProcessor(32)(image)
        monkeypatch.undo()
        assert (in_one_step - in_two_steps).abs().max() < 0.05


def test_a_jpeg_may_be_decoded_at_reduced_size(tmp_path):
    path = saved(Image.new("RGB", (640, 480), "red"), tmp_path / "a.jpg")
    assert load_image(path, at_least=100).size == (160, 120)
    assert load_image(path, at_least=481).size == (640, 480)
