"""BLIP as a classifier: what it starts from, and which token it judges."""

from __future__ import annotations

from pathlib import Path

import torch

from lavis_clone.models.blip.classification import BlipClassification
from tests.models import tiny
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size
from tests.parity import synthetic

CASES = Path(__file__).parents[2] / "parity" / "cases"


def test_the_public_pretrained_model_is_a_start() -> None:
    model = full_size("blip_classification", "base")
    missing = assert_is_a_start(model, public_file("blip_pretrain", "base"))
    assert {name.partition(".")[0] for name in missing} == {"cls_head", "cls_head_m"}


def test_a_start_brings_towers_and_copies(tmp_path: Path) -> None:
    case, _ = synthetic.load(CASES, "blip_pretrain")
    state = synthetic.state_dict(case)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    block = {"vit": case["config"]["vit"], "med": case["config"]["med"], "num_classes": 3}
    model = BlipClassification.from_config(block | {"pretrained": str(tmp_path / "pretrained.pth")})
    for name, value in model.state_dict().items():
        if name.startswith("cls_head_m."):
            assert value.equal(model.state_dict()[name.replace("_m.", ".")])
        elif not name.startswith("cls_head."):
            assert value.equal(state[name]), name


def test_cls_itself_looks_at_the_image(vocabulary: Path) -> None:
    torch.manual_seed(0)
    block = tiny.block("blip_classification", num_classes=2)(vocabulary)
    model = BlipClassification.from_config(block).eval()
    samples = {"image": tiny.images(1), "text_input": ["a cat"]}
    before = model.predict(samples).predictions
    with torch.no_grad():  # [ENC] is the last word
        model.text_encoder.embeddings.word_embeddings.weight[-1] += 1
    assert model.predict(samples).predictions.equal(before)
    with torch.no_grad():
        model.text_encoder.embeddings.word_embeddings.weight[model.tokenizer.cls_id] += 1
    assert not model.predict(samples).predictions.equal(before)
