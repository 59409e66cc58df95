"""What every model can do with files, on a tiny captioner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lavis_clone.common.files import FileError
from lavis_clone.common.reading import ConfigError
from lavis_clone.models.base import read_default_config
from lavis_clone.models.blip.caption import BlipCaption
from lavis_clone.models.weights import WeightError
from tests.models import tiny

PREPROCESS = {
    "vis_processor": {
        "train": {"name": "blip_image_train", "image_size": 16},
        "eval": {"name": "blip_image_eval", "image_size": 16},
    },
    "text_processor": {"train": {"name": "blip_caption", "prompt": "a picture of "}},
}


def assert_equal_weights(model: torch.nn.Module, other: torch.nn.Module) -> None:
    state, same = model.state_dict(), other.state_dict()
    assert state.keys() == same.keys()
    for name, value in state.items():
        assert value.equal(same[name]), name


def test_a_saved_model_is_built_again_from_its_folder(vocabulary: Path, tmp_path: Path) -> None:
    model = tiny.caption_model(vocabulary, label_smoothing=0.2, max_txt_len=9)
    folder = model.save_pretrained(tmp_path / "saved", preprocess=PREPROCESS)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "config.yaml",
        "vocab.txt",
    }
    moved = folder.rename(tmp_path / "moved")  # nothing in it points to where it was
    again = BlipCaption.from_pretrained(moved).eval()
    assert_equal_weights(model, again)
    assert again.config.label_smoothing == 0.2
    assert again.config.max_txt_len == 9
    assert again.tokenizer.tokens == model.tokenizer.tokens
    images = {"image": tiny.images(2)}
    assert again.generate(images) == model.generate(images)


def test_a_loaded_model_can_be_saved_over_itself(vocabulary: Path, tmp_path: Path) -> None:
    folder = tiny.caption_model(vocabulary).save_pretrained(tmp_path)
    again = BlipCaption.from_pretrained(folder)
    again.save_pretrained(folder)
    assert_equal_weights(again, BlipCaption.from_pretrained(folder))


def test_without_an_own_vocabulary_none_is_written(tmp_path: Path) -> None:
    block = {"vit": tiny.vision_block(), "med": tiny.text_block(hidden_size=3), "max_txt_len": 9}
    model = BlipCaption.from_config(block)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    assert_equal_weights(model, BlipCaption.from_pretrained(tmp_path))


def test_the_saved_config_says_every_size_and_no_weights(vocabulary: Path, tmp_path: Path) -> None:
    tiny.caption_model(vocabulary).save_pretrained(tmp_path, preprocess=PREPROCESS)
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert document["preprocess"] == PREPROCESS
    block = document["model"]
    assert block["arch"] == "blip_caption"
    assert block["vit"] | tiny.vision_block() == block["vit"]
    assert block["med"] | tiny.text_block() == block["med"]
    assert block["med"]["encoder_width"] == 8
    assert block["vocabulary"] == "vocab.txt"
    assert not {"finetuned", "pretrained", "load_finetuned", "image_size"} & block.keys()


def test_a_block_names_the_weights_to_load(vocabulary: Path, tmp_path: Path) -> None:
    model = tiny.caption_model(vocabulary)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": model.state_dict()}, path)
    block = tiny.caption_block(vocabulary, finetuned=str(path))
    assert_equal_weights(BlipCaption.from_config(block), model)
    torch.manual_seed(1)
    fresh = BlipCaption.from_config(block | {"load_finetuned": False})
    name = "visual_encoder.cls_token"
    assert not fresh.state_dict()[name].equal(model.state_dict()[name])
    pretrained = tiny.caption_block(vocabulary, pretrained=str(path))
    assert_equal_weights(BlipCaption.from_config(pretrained), model)
    missing = block | {"pretrained": str(tmp_path / "absent.pth")}
    assert_equal_weights(BlipCaption.from_config(missing), model)  # fine-tuned goes first


def test_only_a_pretrained_file_may_hold_other_heads(vocabulary: Path, tmp_path: Path) -> None:
    model = tiny.caption_model(vocabulary)
    others = {
        "text_encoder.embeddings.position_ids": torch.arange(3)[None],
        "visual_encoder_m.cls_token": torch.ones(1, 1, 8),
        "vision_proj.weight": torch.ones(2, 8),
        "text_proj_m.bias": torch.ones(2),
        "itm_head.bias": torch.ones(2),
        "temp": torch.ones(()),
        "image_queue": torch.ones(2, 4),
        "queue_ptr": torch.zeros(1),
    }
    path = tmp_path / "pretrained.pth"
    torch.save({"model": model.state_dict() | others}, path)
    fresh = BlipCaption.from_config(tiny.caption_block(vocabulary))
    with pytest.raises(WeightError, match="7 left over: visual_encoder_m.cls_token"):
        fresh.load_checkpoint(path)
    report = fresh.load_from_pretrained(path)
    assert set(report.ignored) == set(others)
    assert_equal_weights(fresh, model)


def test_a_checkpoint_of_another_image_size_is_fitted(vocabulary: Path, tmp_path: Path) -> None:
    model = tiny.caption_model(vocabulary)
    path = tmp_path / "checkpoint.pth"
    torch.save(model.state_dict(), path)
    larger = BlipCaption.from_config(tiny.caption_block(vocabulary, image_size=32))
    larger.load_checkpoint(path)
    name = "visual_encoder.pos_embed"
    positions, before = larger.state_dict()[name], model.state_dict()[name]
    assert positions.shape == (1, 1 + 16, 8)
    assert positions[:, 0].equal(before[:, 0])
    assert larger.generate({"image": tiny.images(1, size=32)})


def test_a_checkpoint_of_another_width_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    torch.save(tiny.caption_model(vocabulary).state_dict(), tmp_path / "small.pth")
    block = tiny.caption_block(vocabulary, vit=tiny.vision_block(embed_dim=12))
    with pytest.raises(WeightError, match=r"of another shape: visual_encoder\.cls_token"):
        BlipCaption.from_config(block | {"finetuned": str(tmp_path / "small.pth")})


def test_the_device_is_where_the_weights_are(vocabulary: Path) -> None:
    model = tiny.caption_model(vocabulary)
    assert model.device == torch.device("cpu")
    assert model.to("meta").device == torch.device("meta")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promt": "a"}, r"model\.promt: unknown key; did you mean 'prompt'"),
        ({"max_txt_len": 1}, r"max_txt_len \(1\) must be at least 2"),
        ({"max_txt_len": 33}, r"max_txt_len \(33\) must be at most .*_embeddings \(32\)"),
        ({"max_txt_len": "many"}, r"model\.max_txt_len: must be a whole number, got 'many'"),
        ({"vit_type": "huge"}, "must be one of 'base', 'large', got 'huge'"),
        ({"vit": {"dept": 3}}, r"vit\.dept: unknown key; did you mean 'depth'"),
        ({"med": {"hidden_size": 7}}, r"hidden_size \(7\) must be a multiple of num_attention"),
    ],
)
def test_what_is_wrong_with_a_block_is_said(
    changes: dict[str, Any], message: str, vocabulary: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        BlipCaption.from_config(tiny.caption_block(vocabulary, **changes))


def test_all_that_is_wrong_is_said_at_once(vocabulary: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        BlipCaption.from_config(tiny.caption_block(vocabulary, promt="a", max_txt_len="many"))
    assert len(str(caught.value).splitlines()) == 2


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no such file: .*absent/config\.yaml"):
        BlipCaption.from_pretrained(tmp_path / "absent")


@pytest.mark.parametrize("text", ["model: [", "- a list", "preprocess: {}", "model: 3"])
def test_a_broken_saved_config_is_one_line(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="config.yaml") as error:
        read_default_config(BlipCaption, str(tmp_path))
    assert "\n" not in str(error.value)
