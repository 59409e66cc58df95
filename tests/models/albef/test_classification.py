"""ALBEF as a classifier: what it starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from lavis_clone.models.albef.classification import AlbefClassification
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size
from tests.parity import synthetic

CASES = Path(__file__).parents[2] / "parity" / "cases"


def test_the_public_pretrained_model_is_a_start() -> None:
    model = full_size("albef_classification", "ve")
    missing = assert_is_a_start(model, public_file("albef_pretrain", "base"))
    assert {name.partition(".")[0] for name in missing} == {"cls_head", "cls_head_m"}


def test_a_start_brings_towers_and_copies(tmp_path: Path) -> None:
    case, _ = synthetic.load(CASES, "albef_pretrain")
    state = synthetic.state_dict(case)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    block = {"vit": case["config"]["vit"], "med": case["config"]["med"], "num_classes": 3}
    model = AlbefClassification.from_config(
        block | {"pretrained": str(tmp_path / "pretrained.pth")}
    )
    text = ("text_encoder.", "text_encoder_m.")
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        if name.startswith("cls_head_m."):
            assert value.equal(model.state_dict()[f"cls_head.{rest}"])
        elif not name.startswith("cls_head."):
            assert value.equal(state[f"{part}.bert.{rest}" if name.startswith(text) else name]), (
                name
            )
