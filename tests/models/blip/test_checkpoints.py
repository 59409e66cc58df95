"""The full-size captioners have the names and shapes of the public checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lavis_clone.common.files import config_file
from lavis_clone.common.reading import read
from lavis_clone.models.blip.caption import BlipCaption, BlipCaptionConfig
from tests.parity import synthetic

TESTS = Path(__file__).parents[2]
FIXTURE = TESTS / "fixtures" / "checkpoints" / "blip_caption.json"


def expected(model_type: str) -> dict[str, list[Any]]:
    """Name -> dtype, shape and, for a second name of a tensor, ``=`` and the first.

    ``{0..11}`` in the fixture stands for twelve entries.
    """
    entries = {}
    for name, facts in json.loads(FIXTURE.read_text())[model_type].items():
        layers = re.search(r"\{0\.\.(\d+)\}", name)
        if layers is None:
            entries[name] = facts
            continue
        for index in range(int(layers[1]) + 1):
            entries[name.replace(layers[0], str(index))] = facts
    return entries


@pytest.mark.parametrize(("model_type", "count"), [("base_coco", 474), ("large_coco", 618)])
def test_names_and_shapes_are_those_of_the_public_file(model_type: str, count: int) -> None:
    path = config_file(BlipCaption.PRETRAINED_MODEL_CONFIG_DICT[model_type])
    block = yaml.safe_load(path.read_text())["model"]
    with torch.device("meta"):
        model = BlipCaption.build(read(BlipCaptionConfig, block))
    own = model.state_dict(keep_vars=True)
    stated = expected(model_type)
    assert len(stated) == count
    ignored = {name for name in stated if any(re.search(p, name) for p in model.MAY_BE_IGNORED)}
    assert ignored == {"text_decoder.bert.embeddings.position_ids"}
    assert own.keys() == stated.keys() - ignored
    for name, (dtype, *shape) in stated.items():
        if name in ignored:
            continue
        if isinstance(shape[-1], str):
            assert own[name] is own[shape.pop().removeprefix("=")], name
        assert str(own[name].dtype) == f"torch.{dtype}", name
        assert list(own[name].shape) == shape, name


def test_a_pretrained_model_of_the_family_is_a_start(tmp_path: Path) -> None:
    case, _ = synthetic.load(TESTS / "parity" / "cases", "blip_pretrain")
    state = synthetic.state_dict(case)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    block = {"vit": case["config"]["vit"], "med": case["config"]["med"]}
    model = BlipCaption.from_config(block | {"pretrained": str(tmp_path / "pretrained.pth")})
    for name, value in model.state_dict().items():
        assert value.equal(state[name]), name
