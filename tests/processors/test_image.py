"""The image processors: numbers, fields and randomness."""

from __future__ import annotations

import dataclasses
import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from lavis_clone.common.config import ConfigError
from lavis_clone.common.registry import UnknownName, registry
from lavis_clone.processors import load_processor
from lavis_clone.processors.image import (
    MEAN,
    STD,
    Blip2ImageTrainProcessor,
    BlipImageBaseProcessor,
    BlipImageEvalProcessor,
    BlipImageTrainProcessor,
    ClipImageTrainProcessor,
)

IMAGE_NAMES = [n for n in registry.list_processors() if "_image_" in n]
TRAIN_NAMES = [n for n in IMAGE_NAMES if n.endswith("_train")]


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((80, 60))


def drawn(processor, picture, seed=0):
    torch.manual_seed(seed)
    return processor(picture)


def test_the_names_of_v1_0_2_are_there():
    expected = {"base_processor", "blip_caption", "blip_question", *IMAGE_NAMES}
    assert expected <= set(registry.list_processors())
    assert len(IMAGE_NAMES) >= 5 and len(TRAIN_NAMES) >= 3


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_every_image_processor(name, picture):
    processor = load_processor(name, {"name": name, "image_size": 32})
    before = picture.tobytes()
    found = drawn(processor, picture)
    assert found.shape == (3, 32, 32) and found.dtype == torch.float32
    assert drawn(pickle.loads(pickle.dumps(processor)), picture).equal(found)
    assert drawn(type(processor).build(image_size=32), picture).equal(found)
    assert drawn(processor, picture.convert("RGBA")).equal(found)
    assert picture.tobytes() == before
    with pytest.raises(ConfigError, match=r"image_size \(0\) must be at least 1"):
        load_processor(name, {"image_size": 0})
    with pytest.raises(ConfigError, match="unknown key; did you mean 'image_size'"):
        load_processor(name, {"image_sise": 3})


@pytest.mark.parametrize("name", TRAIN_NAMES)
def test_randomness_comes_from_torch_alone(name, picture):
    processor = load_processor(name, {"image_size": 32})
    states = random.getstate(), np.random.get_state()[1].tolist()
    views = [drawn(processor, picture, seed) for seed in range(4)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert drawn(processor, picture, 3).equal(views[3])
    assert len({v.numpy().tobytes() for v in views}) > 2


def test_defaults_and_positions_are_those_of_v1_0_2():
    processor = BlipImageTrainProcessor(224, MEAN, STD, 0.3, 0.9)
    assert (processor.image_size, processor.min_scale, processor.max_scale) == (224, 0.3, 0.9)
    assert [
        (p.image_size, p.min_scale, p.max_scale, p.hflip, p.randaugment_ops)
        for p in (BlipImageTrainProcessor(), Blip2ImageTrainProcessor(), ClipImageTrainProcessor())
    ] == [(384, 0.5, 1.0, 0.5, 2), (364, 0.5, 1.0, 0.5, 0), (224, 0.9, 1.0, 0.0, 0)]
    assert (processor.mean, processor.std) == (MEAN, STD)


def test_own_mean_and_std():
    grey = Image.new("RGB", (4, 4), (51, 102, 204))
    found = BlipImageEvalProcessor.build(image_size=4, mean=[0, 0, 0], std=[1, 1, 2])(grey)
    assert torch.allclose(found[:, 0, 0], torch.tensor([0.2, 0.4, 0.4]))
    with pytest.raises(ConfigError, match="std positive"):
        BlipImageEvalProcessor.build(std=[1, 1, 0])
    with pytest.raises(ConfigError, match="must have 3 items"):
        BlipImageEvalProcessor.build(mean=[1, 1])


PLAIN = {"image_size": 32, "hflip": 0.0, "randaugment_ops": 0, "min_scale": 1.0}


def test_flip_is_a_mirror():
    picture = Image.effect_noise((40, 40), 90)
    plain = drawn(BlipImageTrainProcessor(**PLAIN), picture)
    flipped = drawn(BlipImageTrainProcessor(**{**PLAIN, "hflip": 1.0}), picture)
    assert flipped.equal(plain.flip(-1)) and not flipped.equal(plain)


def test_grayscale_makes_the_channels_equal(picture):
    size = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    found = drawn(BlipImageTrainProcessor(**PLAIN, **size, grayscale=1.0), picture)
    assert found[0].equal(found[1]) and found[0].equal(found[2])
    coloured = drawn(BlipImageTrainProcessor(**PLAIN, **size, grayscale=0.0), picture)
    assert not coloured[0].equal(coloured[1])


@pytest.mark.parametrize("field, strength", [("color_jitter", 0.4), ("affine", 1.0)])
def test_strengths_change_the_picture_each_time_anew(picture, field, strength):
    plain = drawn(BlipImageTrainProcessor(**PLAIN), picture)
    processor = BlipImageTrainProcessor(**PLAIN, **{field: strength})
    views = [drawn(processor, picture, seed) for seed in range(3)]
    assert len({v.numpy().tobytes() for v in [plain, *views]}) == 4
    assert drawn(BlipImageTrainProcessor(**PLAIN, **{field: 0.0}), picture).equal(plain)


def test_affine_fills_with_white():
    black = Image.new("RGB", (32, 32))
    processor = BlipImageTrainProcessor(**PLAIN, affine=2.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert drawn(processor, black).unique().tolist()[:: 10**6] == [0.0]
    assert drawn(processor, black).max() == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"hflip": 1.5},
        {"hflip": -0.1},
        {"grayscale": 2},
        {"color_jitter": -1},
        {"affine": 3},
        {"randaugment_ops": -1},
        {"randaugment_level": 11},
        {"min_scale": 0},
        {"min_scale": 0.9, "max_scale": 0.5},
        {"max_scale": 1.1},
    ],
    ids=str,
)
def test_fields_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        load_processor("blip_image_train", wrong)


def test_fast_decode_never_needs_a_crop_enlarged(tmp_path):
    Image.new("RGB", (1600, 1200), "red").save(tmp_path / "a.jpg")
    fast = BlipImageTrainProcessor(64, fast_decode=True)
    assert BlipImageTrainProcessor(64).decode_size is None
    assert fast.decode_size == 105  # a crop of half the area and 4:3 is 64 high then
    assert drawn(fast, tmp_path / "a.jpg").shape == (3, 64, 64)


def test_unknown_processor_offers_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'blip_image_eval'"):
        load_processor("blip_image_evl")


def test_a_processor_in_laviss_style_works():
    class Halved(BlipImageBaseProcessor):
        def __init__(self, factor: float, mean=None, std=None) -> None:
            super().__init__(mean=mean, std=std)
            self.factor = factor
            self.transform = lambda image: self.normalize(image) * self.factor

        @classmethod
        def from_config(cls, cfg=None):
            return cls(factor=(cfg or {}).get("factor", 0.5))

    picture = Image.new("RGB", (4, 4))
    plain = BlipImageEvalProcessor(4)(picture)
    assert Halved.from_config({"name": "halved"})(picture).equal(plain * 0.5)
    assert [f.name for f in dataclasses.fields(BlipImageEvalProcessor)] == [
        "image_size",
        "mean",
        "std",
        "interpolation",
    ]
