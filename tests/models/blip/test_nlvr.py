"""BLIP for two images: what it starts from, and texts of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lavis_clone.common.reading import ConfigError
from lavis_clone.models.blip.nlvr import BlipNLVR
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.foreign import with_twin_attention
from tests.models import tiny
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size
from tests.parity import synthetic

CASES = Path(__file__).parents[2] / "parity" / "cases"


def model_of(vocabulary: Path, **changes: Any) -> BlipNLVR:
    torch.manual_seed(0)
    given = tiny.block("blip_nlvr", **changes)(vocabulary)
    return BlipNLVR.from_config(given).eval()


def test_the_public_pretrained_model_is_a_start() -> None:
    model = full_size("blip_nlvr", "nlvr")
    missing = assert_is_a_start(model, public_file("blip_pretrain", "base"))
    layers = range(6, 12)
    merge = [f"text_encoder.encoder.layer.{i}.crossattention.output.merge_layer" for i in layers]
    parts = {name.rpartition(".")[0] for name in missing}
    assert parts == {"cls_head.0", "cls_head.2", *merge}


def test_the_public_fine_tuned_model_is_a_start_too() -> None:
    model = full_size("blip_nlvr", "nlvr")
    assert not assert_is_a_start(model, public_file("blip_nlvr", "nlvr"))


def test_a_new_start_sees_in_two_equal_images_what_one_shows(tmp_path: Path) -> None:
    """Both cross-attentions begin as copies, and their mean is what the one has made of it."""
    case, _ = synthetic.load(CASES, "blip_pretrain")
    state = synthetic.state_dict(case)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    block = {"vit": case["config"]["vit"], "med": case["config"]["med"]}
    given = block | {"pretrained": str(tmp_path / "pretrained.pth")}
    model = BlipNLVR.from_config(given).eval()
    single = BertModel(model.text_encoder.config).eval()
    prefix = "text_encoder."
    single.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix) and not name.endswith("position_ids")
        }
    )
    size = case["config"]["vit"]["img_size"]
    with torch.no_grad():
        text, tokens = (
            model.tokenize(["a cat", "two dogs"]),
            model.image_tokens(tiny.images(2, size=size)),
        )
        found = model.fuse(model.text_encoder, text, model.text_encoder.see(tokens.repeat(2, 1, 1)))
        torch.testing.assert_close(found, model.fuse(single, text, single.see(tokens)))


def test_only_cross_attention_of_the_text_encoder_is_doubled() -> None:
    one, layer = torch.ones(1), "encoder.layer.0"
    state = {
        f"text_encoder.{layer}.crossattention.self.key.bias": one,
        f"text_encoder_m.{layer}.crossattention.output.dense.bias": one,
        f"text_encoder.{layer}.crossattention.output.LayerNorm.bias": one,
        f"text_encoder.{layer}.attention.self.key.bias": one,
        f"text_decoder.bert.{layer}.crossattention.self.key.bias": one,
    }
    assert set(with_twin_attention(state)) == {
        f"text_encoder.{layer}.crossattention.self0.key.bias",
        f"text_encoder.{layer}.crossattention.self1.key.bias",
        f"text_encoder_m.{layer}.crossattention.output.dense0.bias",
        f"text_encoder_m.{layer}.crossattention.output.dense1.bias",
        *list(state)[2:],
    }
    twins = {name: one for name in with_twin_attention(state)}
    assert set(with_twin_attention(twins)) == set(twins)


def test_texts_are_cut_at_the_last_position_only(vocabulary: Path) -> None:
    block = {"med": tiny.text_block(max_position_embeddings=60), "max_txt_len": 0}
    model = model_of(vocabulary, **block)
    for count, length in ((50, 52), (58, 60), (100, 60)):
        text = model.tokenize(["cat " * count])
        assert text.input_ids.shape == (1, length)
        assert text.input_ids[0, -1] == model.tokenizer.sep_id
        images = {"image0": tiny.images(1), "image1": tiny.images(1, seed=1)}
        assert model.predict(images | {"text_input": ["cat " * count]}).predictions.isfinite().all()
    assert model.to_block()["max_txt_len"] == 60
    assert model_of(vocabulary).tokenize(["cat " * 50]).input_ids.shape == (1, 12)  # as it is told


def test_what_it_is_told_must_make_sense(vocabulary: Path) -> None:
    with pytest.raises(ConfigError, match=r"merge_from \(-1\) must be at least 0"):
        model_of(vocabulary, merge_from=-1)
    with pytest.raises(ConfigError, match=r"max_txt_len \(1\) must be at least 2"):
        model_of(vocabulary, max_txt_len=1)


def test_it_can_be_taught_by_copies(vocabulary: Path) -> None:
    model = model_of(vocabulary, use_distill=True)
    images = {"image0": tiny.images(2), "image1": tiny.images(2, seed=1)}
    output = model(images | {"text_input": ["a cat", "a dog"], "label": [0, 1]})
    assert output.logits_m.shape == (2, 2)
    assert output.intermediate_output.image_embeds_m.shape == (2, 2, 5, 8)
