"""Blocks as LAVIS writes them, and what the models make of the public files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.common.reading import read
from lavis_clone.common.registry import registry
from lavis_clone.models.alpro.retrieval import AlproRetrievalConfig
from lavis_clone.models.encoders.timesformer import TimesformerConfig
from lavis_clone.models.weights import WeightError
from tests.models import tiny
from tests.models.alpro.toys import model_of, samples, sizes
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size

LAVIS_BLOCK = {
    "n_frms": 16,
    "image_size": 256,
    "patch_size": 32,
    "attn_drop_rate": 0,
    "drop_rate": 0.0,
    "drop_path_rate": 0.2,
    "use_grad_ckpt": True,
    "ckpt_layer": 4,
}


def vision(**changes: Any) -> TimesformerConfig:
    config = read(AlproRetrievalConfig, {"timesformer": LAVIS_BLOCK | changes})
    return config.vision()


def test_lavis_s_names_of_sizes_are_read() -> None:
    assert vision() == TimesformerConfig(
        num_frames=16, img_size=256, patch_size=32, drop_path_rate=0.2, checkpoint_blocks=4
    )
    assert vision(use_grad_ckpt=False).checkpoint_blocks == 0
    given = vision(num_frames=3, img_size=64, checkpoint_blocks=2)
    assert (given.num_frames, given.img_size, given.checkpoint_blocks) == (3, 64, 2)


def test_the_text_tower_is_alpro_s_unless_it_says_otherwise() -> None:
    text = read(AlproRetrievalConfig, {}).text()
    assert (text.fusion_layer, text.num_hidden_layers) == (6, 12)
    assert (text.add_cross_attention, text.add_type_embeddings) == (False, True)
    block = {"med": {"num_hidden_layers": 4, "encoder_width": 5}}
    assert read(AlproRetrievalConfig, block).text().fusion_layer == 2


def pretrained_file() -> dict[str, Tensor]:
    """What ALPRO's pre-training file holds, as far as it is known: its entries without memory."""
    file = {}
    for name, value in public_file("alpro_retrieval", "msrvtt").items():
        prefix = "text_encoder."
        under = f"{prefix}bert.{name.removeprefix(prefix)}" if name.startswith(prefix) else name
        file[under] = value
    words = file["text_encoder.bert.embeddings.word_embeddings.weight"]
    file["text_encoder.cls.predictions.decoder.weight"] = words
    file["text_encoder.cls.predictions.bias"] = torch.empty(30522, device="meta")
    file["prompter.visual_encoder.model.cls_token"] = torch.empty(1, 1, 768, device="meta")
    return file


@pytest.mark.parametrize(
    ("name", "model_type", "stay"),
    [
        ("alpro_qa", "msrvtt", {"classifier.0", "classifier.2"}),
        ("alpro_qa", "msvd", {"classifier.0", "classifier.2"}),
        ("alpro_retrieval", "msrvtt", set()),
        ("alpro_retrieval", "didemo", set()),
    ],
)
def test_the_pretraining_file_is_a_start(name: str, model_type: str, stay: set[str]) -> None:
    missing = assert_is_a_start(full_size(name, model_type), pretrained_file())
    assert {entry.rpartition(".")[0] for entry in missing} == stay


def save(model: Any, folder: Path) -> str:
    path = folder / "start.pt"
    torch.save(model.state_dict(), path)
    return str(path)


def test_a_start_of_another_size_is_fitted(vocabulary: Path, tmp_path: Path) -> None:
    source = model_of("alpro_pretrain", vocabulary)  # two frames of 2 x 2 patches
    larger = {"timesformer": sizes(img_size=24, num_frames=4), "num_classes": 3}
    model = model_of("alpro_qa", vocabulary, seed=1, **larger)
    report = model.load_from_pretrained(save(source, tmp_path))
    assert {name.partition(".")[0] for name in report.left_at_init} == {"classifier"}
    own, theirs = model.visual_encoder.model, source.visual_encoder.model
    assert own.time_embed.equal(theirs.time_embed[:, [0, 0, 1, 1]])
    places = [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]  # the nearest of a list of four, after [CLS]
    assert own.pos_embed[0, :, 0].tolist() == theirs.pos_embed[0, places, 0].tolist()
    for name, value in source.bert.state_dict().items():
        assert value.equal(model.text_encoder.state_dict()[name]), name


def test_a_model_s_own_file_is_fitted_and_loaded_whole(vocabulary: Path, tmp_path: Path) -> None:
    source = model_of("alpro_retrieval", vocabulary)
    path = save(source, tmp_path)
    longer = model_of("alpro_retrieval", vocabulary, seed=1, timesformer=sizes(num_frames=4))
    assert not longer.load_checkpoint(path).left_at_init
    batch = samples(2, frames=4)  # both take the nearest of two places
    found, expected = (m.extract_features(batch) for m in (longer, source))
    torch.testing.assert_close(found.multimodal_embeds, expected.multimodal_embeds)


@pytest.mark.parametrize(
    ("left_out", "added", "message"),
    [
        ("vision_proj.weight", None, "1 missing: vision_proj.weight"),
        (None, "text_encoder.encoder.layer.9.output.dense.bias", "1 left over: text_encoder"),
        (None, "classifier.0.weight", r"1 left over: classifier\.0\.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    left_out: str | None, added: str | None, message: str, vocabulary: Path, tmp_path: Path
) -> None:
    model = model_of("alpro_retrieval", vocabulary)
    state = {k: v for k, v in model.state_dict().items() if k != left_out}
    torch.save(state | ({added: torch.ones(1)} if added else {}), tmp_path / "model.pt")
    with pytest.raises(WeightError, match=message):
        model.load_checkpoint(tmp_path / "model.pt")


def test_heads_that_no_model_has_are_left_out(vocabulary: Path, tmp_path: Path) -> None:
    model = model_of("alpro_retrieval", vocabulary)
    extra = {"mpm_head.0.weight": torch.ones(2), "text_encoder.cls.predictions.bias": torch.ones(3)}
    torch.save(model.state_dict() | extra, tmp_path / "model.pt")
    report = model.load_checkpoint(tmp_path / "model.pt")
    assert set(report.ignored) == set(extra)
    assert not report.left_at_init


def test_text_weights_are_a_start_of_the_text_tower(vocabulary: Path, tmp_path: Path) -> None:
    source = model_of("alpro_pretrain", vocabulary)
    path = save(source.bert, tmp_path)
    block = tiny.video_block("alpro_retrieval")(vocabulary)
    block |= {"text_weights": path, "text_weights_vocabulary": str(vocabulary)}
    model = registry.get_model_class("alpro_retrieval").from_config(block)
    for name, value in source.bert.state_dict().items():
        assert value.equal(model.text_encoder.state_dict()[name]), name
