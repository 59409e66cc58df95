"""RandomAugment: the operations against their formulas, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from lavis_clone.processors.augment import FILL, OPERATIONS, RandomAugment


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(2)
    return Image.fromarray(rng.integers(30, 200, (20, 30, 3), dtype=np.uint8))


def array(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_every_operation_keeps_size_and_source(picture, name, strength):
    before = picture.tobytes()
    for sign in (1, -1):
        found = OPERATIONS[name](picture, strength, sign)
        assert found.size == picture.size and found.mode == "RGB"
    assert picture.tobytes() == before


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_movements_are_opposite_by_sign_and_nothing_at_strength_0(picture, name):
    still = OPERATIONS[name](picture, 0.0, 1)
    assert np.array_equal(array(still), array(picture))
    there, back = (OPERATIONS[name](picture, 0.5, sign) for sign in (1, -1))
    assert not np.array_equal(array(there), array(back))
    assert tuple(FILL) in {tuple(p) for p in array(there).reshape(-1, 3)}


def test_level_5_moves_5_pixels(picture):
    moved = array(OPERATIONS["TranslateX"](picture, 0.5, 1))
    assert np.array_equal(moved[:, :25], array(picture)[:, 5:])
    assert (moved[:, 25:] == FILL).all()
    down = array(OPERATIONS["TranslateY"](picture, 1.0, -1))
    assert np.array_equal(down[10:], array(picture)[:10])
    assert (down[:10] == FILL).all()


def test_shear_moves_a_row_in_proportion_to_its_height(picture):
    sheared = array(OPERATIONS["ShearX"](picture, 1.0, 1))  # 0.3 pixels per row
    assert np.abs(sheared[10, 8:25] - _shifted(array(picture)[10], 0.3 * 10.5)[8:25]).max() <= 2


def _shifted(row, by):
    """``row`` (W, 3) moved right by a fraction of pixels, interpolated linearly."""
    places = np.arange(len(row)) - by
    return np.stack([np.interp(places, np.arange(len(row)), c) for c in row.T], axis=1)


def test_level_5_turns_by_15_degrees(picture):
    expected = picture.rotate(15, resample=Image.Resampling.BILINEAR, fillcolor=FILL)
    assert np.array_equal(array(OPERATIONS["Rotate"](picture, 0.5, 1)), array(expected))


@pytest.mark.parametrize("name", ["Brightness", "Sharpness"])
def test_enhancements_do_nothing_at_level_5_only(picture, name):
    assert OPERATIONS[name](picture, 0.5, 1) is picture
    bright = OPERATIONS[name](picture, 0.9, 1)
    expected = getattr(ImageEnhance, name)(picture).enhance(1.72)
    assert np.array_equal(array(bright), array(expected))
    assert not np.array_equal(array(bright), array(picture))


def test_histogram_operations(picture):
    for name, operation in (
        ("AutoContrast", ImageOps.autocontrast),
        ("Equalize", ImageOps.equalize),
    ):
        assert np.array_equal(array(OPERATIONS[name](picture, 0.5, 1)), array(operation(picture)))
    assert OPERATIONS["Identity"](picture, 1.0, 1) is picture


def test_draws_from_torch_and_applies_half():
    black = Image.new("RGB", (20, 20))
    augment = RandomAugment(1, 5, names=("TranslateX",))
    torch.manual_seed(0)
    kinds = []
    for _ in range(400):
        columns = np.asarray(augment(black))[0, :, 0]
        kinds.append((int(columns[0] > 0), int(columns[-1] > 0)))
    shares = {kind: kinds.count(kind) / 400 for kind in set(kinds)}
    assert shares[(0, 0)] == pytest.approx(0.5, abs=0.1)
    assert shares[(1, 0)] == pytest.approx(0.25, abs=0.08)
    assert shares[(0, 1)] == pytest.approx(0.25, abs=0.08)


def test_the_number_of_operations_counts():
    black = Image.new("RGB", (40, 40))
    augment = RandomAugment(3, 10, p=1.0, names=("TranslateX",))
    torch.manual_seed(0)
    found = {int((np.asarray(augment(black))[0, :, 0] == 128).sum()) for _ in range(40)}
    assert found == {10, 20, 30}  # three steps of 10 pixels, to and fro
    assert RandomAugment(0)(black) is black


@pytest.mark.parametrize(
    "wrong", [{"ops": -1}, {"level": -1}, {"level": 11}, {"names": ("Flip",)}, {"names": ()}]
)
def test_wrong_values_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandomAugment(**wrong)
