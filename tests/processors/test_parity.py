"""Results of salesforce-lavis 1.0.2 on the same picture and texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lavis_clone.processors import load_processor

CASES = Path(__file__).parents[1] / "parity" / "cases"
TEXTS = json.loads((CASES / "processors.json").read_text())["outputs"]
TENSORS = load_file(CASES / "processors.safetensors")
EVAL = sorted(name for name in TENSORS if "_eval_" in name)

IMAGE_TOLERANCE = 1e-4
ONE_LEVEL = 1 / 255 / 0.26 + 1e-3
"""What a pixel that is off by one of 256 levels differs by after normalisation."""


def picture():
    return Image.fromarray(TENSORS["picture"].numpy())


@pytest.mark.parametrize("case", EVAL)
def test_eval_pictures(case):
    name, size = case.rsplit("_", 1)
    found = load_processor(name, {"image_size": int(size)})(picture())
    assert found.shape == TENSORS[case].shape
    assert (found - TENSORS[case]).abs().max() <= IMAGE_TOLERANCE


def test_there_are_eval_cases():
    assert len(EVAL) >= 3


@pytest.mark.parametrize("name", ["blip2_image_train", "clip_image_train"])
def test_train_pictures_draw_the_same_crop(name):
    """torchvision's crop, so the random stream agrees; its faster kernel rounds differently."""
    torch.manual_seed(0)
    found = load_processor(name, {"image_size": 64})(picture())
    assert (found - TENSORS[f"{name}_64_seed0"]).abs().max() <= ONE_LEVEL


@pytest.mark.parametrize(
    "key, name, config",
    [
        ("blip_caption", "blip_caption", {"prompt": "a picture of "}),
        ("blip_caption_max5", "blip_caption", {"max_words": 5}),
        ("blip_question", "blip_question", {}),
    ],
)
def test_texts(key, name, config):
    processor = load_processor(name, config)
    assert [processor(text) for text in TEXTS["text"]] == TEXTS[key]
