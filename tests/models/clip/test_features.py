"""Features are open_clip's, alone and in any batch."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from lavis_clone.models.clip.model import ClipModel
from tests.models import tiny
from tests.models.clip.toys import CLASSIC, MAKES, TEXTS, build, images, reference


@pytest.mark.parametrize("make", MAKES)
def test_features_are_those_of_open_clip(make: str) -> None:
    model = build(MAKES[make])
    twin, pictures = reference(MAKES[make], model), images(3)
    ids = open_clip.SimpleTokenizer(context_length=20)(TEXTS)
    with torch.no_grad():
        image = F.normalize(twin.encode_image(pictures, normalize=False), dim=-1)
        text = F.normalize(twin.encode_text(ids, normalize=False), dim=-1)
        for words in (TEXTS, ids):  # read by us, or ready
            found = model.extract_features({"image": pictures, "text_input": words})
            torch.testing.assert_close(found.image_embeds_proj, image, rtol=0, atol=1e-5)
            torch.testing.assert_close(found.text_embeds_proj, text, rtol=0, atol=1e-5)
    assert (text[0] - text[1]).abs().max() > 0.01


@pytest.mark.parametrize("make", MAKES)
def test_a_sample_is_the_same_in_any_batch(make: str) -> None:
    model, pictures = build(MAKES[make]), images(4)
    together = model.extract_features({"image": pictures, "text_input": TEXTS})
    for row in range(4):
        one = {"image": pictures[row : row + 1], "text_input": TEXTS[row : row + 1]}
        for key, value in model.extract_features(one).items():
            torch.testing.assert_close(value[0], together[key][row], rtol=1e-4, atol=1e-5)


def test_padding_is_not_read_where_it_has_no_effect() -> None:
    model = build(CLASSIC)
    seen: list[int] = []
    model.get_submodule("token_embedding").register_forward_hook(
        lambda _module, args, _output: seen.append(args[0].shape[1])
    )
    model.embed_texts(["a cat", "two dogs"])
    model.encode_text(model.tokenize("a cat").input_ids)  # ids are taken as they are
    assert seen == [4, 20]


def test_there_is_one_type_of_features_whatever_is_given() -> None:
    model, pictures = build(CLASSIC), images(2)
    both = {"image": pictures, "text_input": TEXTS[:2]}
    every = ["image_embeds", "image_embeds_proj", "text_embeds", "text_embeds_proj"]
    assert list(model.extract_features(both).keys()) == every
    assert list(model.extract_features({"image": pictures}).keys()) == every[:2]
    assert list(model.extract_features({"text_input": "a cat"}).keys()) == every[2:]
    assert list(model.extract_features(both, mode="text").keys()) == every[2:]
    assert list(model.extract_features(both, mode=["image"]).keys()) == every[:2]
    assert model.extract_features({"text_input": "a cat"}).text_embeds.shape == (1, 24)


@pytest.mark.parametrize(
    ("samples", "mode", "message"),
    [
        ({}, None, "mode must be one or more of image, text, got None"),
        ({"text_input": "a"}, "multimodal", "mode must be one or more of image, text, got 'multi"),
        ({"text_input": "a"}, "image", r"mode 'image' needs samples\['image'\]"),
        ({"image": torch.ones(1, 3, 8, 8)}, None, "takes images of 32 x 32 pixels, got 8 x 8"),
        ({"image": torch.full((1, 3, 32, 32), float("nan"))}, None, "NaN or infinite pixels"),
        ({"text_input": []}, None, "there are no texts to encode"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    samples: dict[str, Any], mode: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(CLASSIC).extract_features(samples, mode=mode)


def test_pictures_and_texts_are_embedded_to_be_compared() -> None:
    model, pictures = build(CLASSIC), images(3)
    found, words = model.embed_images(pictures), model.embed_texts(TEXTS)
    features = model.extract_features({"image": pictures, "text_input": TEXTS})
    assert found.projected.equal(features.image_embeds_proj)
    assert found.tokens.shape == (3, 1, 24)
    torch.testing.assert_close(words.projected, features.text_embeds_proj)
    assert words.input_ids.shape == words.mask.shape == (4, 20)
    assert words.mask.sum(dim=1).tolist() == [5, 8, 2, 10]
    scale = model.logit_scale.detach().exp()
    torch.testing.assert_close(1 / model.temp, scale)


def test_other_sizes_of_pictures_have_positions_of_their_own() -> None:
    small = build(CLASSIC)
    large = build(CLASSIC, image_size=64)
    state = large.convert(copy.deepcopy(small.state_dict()), pretrained=False)
    assert state["visual.positional_embedding"].shape == (17, 64)
    assert state["visual.positional_embedding"][0].equal(
        small.get_parameter("visual.positional_embedding")[0]
    )
    large.load_state_dict(state)
    assert large.encode_image(images(1, size=64)).isfinite().all()
    assert large.image_size == 64


def test_an_own_vocabulary_makes_a_small_model(tmp_path: Any) -> None:
    words = tiny.write_vocabulary(tmp_path)
    model = ClipModel.from_config(tiny.clip_block("clip")(words)).eval()
    count = len(words.read_text().splitlines())
    assert model.get_parameter("token_embedding.weight").shape == (count, 12)
    text = model.tokenize(["a red cat", "the dog runs on and on and on and on and on and on"])
    assert text.num_truncated == 1
    assert text.input_ids.shape == (2, 12)
    end = text.input_ids[0, 4]
    assert text.input_ids[1, -1] == end  # cut, with its end
    assert text.mask.sum(dim=1).tolist() == [5, 12]
    features = model.embed_texts(["a red cat", "the dog"]).projected
    again = model.embed_texts(["the dog"]).projected
    torch.testing.assert_close(features[1:], again)
    saved = model.save_pretrained(tmp_path / "saved")
    loaded = ClipModel.from_pretrained(saved).eval()
    torch.testing.assert_close(loaded.embed_texts(["the dog"]).projected, again)
