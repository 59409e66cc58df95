"""ALBEF for two images: its doubled layers, what it starts from, and who teaches it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from lavis_clone.models.albef.nlvr import AlbefNLVR, AlbefNLVRConfig
from lavis_clone.models.foreign import with_doubled_layers, without_bert_prefix
from tests.models import tiny
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size
from tests.parity import synthetic

CASES = Path(__file__).parents[2] / "parity" / "cases"
MED = "configs/models/med_config_albef.json"


@pytest.mark.parametrize(
    ("block", "layers", "first"),
    [
        ({"med_config_path": MED}, 18, 6),
        ({"med_config_path": MED, "med": {"hidden_size": 48}}, 18, 6),
        ({"med_config_path": MED, "med": {"num_hidden_layers": 10}}, 10, 6),
        ({}, 18, 6),
        ({"med": {"num_hidden_layers": 18, "fusion_layer": 6}}, 18, 6),
        ({"med": {"num_hidden_layers": 18}}, 18, 6),
        ({"med": {"num_hidden_layers": 4}}, 4, 2),
        ({"med": {"num_hidden_layers": 3}}, 3, 1),
        ({"med": {"fusion_layer": 8}}, 16, 8),
    ],
)
def test_layers_that_look_at_images_are_doubled(
    block: dict[str, Any], layers: int, first: int
) -> None:
    text = AlbefNLVRConfig(**block).text()
    assert (text.num_hidden_layers, text.fusion_layer) == (layers, first)


def test_an_odd_number_of_layers_for_two_images_is_refused(vocabulary: Path) -> None:
    given = tiny.block("albef_nlvr", med=tiny.text_block(num_hidden_layers=3, fusion_layer=2))
    with pytest.raises(ValueError, match="must leave an even number of layers for two images"):
        AlbefNLVR.from_config(given(vocabulary))


def test_the_public_pretrained_models_are_a_start() -> None:
    """ALBEF.pth has 12 layers, pretrain_model_nlvr.pth 18."""
    model = full_size("albef_nlvr", "nlvr")
    twelve = public_file("albef_pretrain", "base")
    eighteen = with_doubled_layers(without_bert_prefix(twelve), first=6, num=18)
    prefixed = {k.replace("text_encoder.", "text_encoder.bert."): v for k, v in eighteen.items()}
    own = {"ta_head.weight": torch.empty(3, 768, device="meta")}
    for file in (twelve, eighteen, prefixed | own, public_file("albef_nlvr", "nlvr")):
        missing = assert_is_a_start(model, file)
        assert {name.partition(".")[0] for name in missing} <= {"cls_head", "cls_head_m"}


def test_two_layers_start_as_the_one_they_come_from(tmp_path: Path) -> None:
    case, _ = synthetic.load(CASES, "albef_pretrain")
    state, med = synthetic.state_dict(case), case["config"]["med"]
    first, single = med["fusion_layer"], med["num_hidden_layers"]
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    block = {
        "vit": case["config"]["vit"],
        "med": med | {"num_hidden_layers": 2 * single - first},
        "pretrained": str(tmp_path / "pretrained.pth"),
    }
    model = AlbefNLVR.from_config(block)
    for tower in ("text_encoder", "text_encoder_m"):
        for index in range(2 * single - first):
            source = index if index < first else first + (index - first) // 2
            layer: Any = model.get_submodule(f"{tower}.encoder.layer.{index}")
            for name, value in layer.state_dict().items():
                assert value.equal(state[f"{tower}.bert.encoder.layer.{source}.{name}"]), name


def test_a_file_of_another_depth_is_left_as_it_is() -> None:
    one = torch.ones(1)
    for count in (1, 5, 6):
        state = {f"text_encoder.encoder.layer.{i}.output.dense.bias": one for i in range(count)}
        assert with_doubled_layers(state, first=2, num=6) == state
    assert with_doubled_layers({"a": one}, first=2, num=6) == {"a": one}


@pytest.mark.parametrize("copied", [False, True])
def test_the_tower_itself_or_its_copy_teaches(copied: bool, vocabulary: Path) -> None:
    torch.manual_seed(0)
    med = tiny.text_block(num_hidden_layers=3)
    block = tiny.block("albef_nlvr", med=med, copied_tower_teaches=copied)(vocabulary)
    model = AlbefNLVR.from_config(block).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    images = {"image0": tiny.images(2), "image1": tiny.images(2, seed=1)}
    batch = images | {"text_input": ["a cat", "a dog on"], "label": [0, 1]}
    found = model(batch).logits_m
    taught: Any = copy.deepcopy(model)
    taught.visual_encoder, taught.cls_head = model.visual_encoder_m, model.cls_head_m
    own = taught.predict(batch).predictions
    taught.text_encoder = model.text_encoder_m
    by_copy = taught.predict(batch).predictions
    torch.testing.assert_close(found, by_copy if copied else own)
    assert (own - by_copy).abs().max() > 1e-3
