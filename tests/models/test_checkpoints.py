"""Full-size models have the names and shapes of the public checkpoints.

Each fixture states, by model type, what a checkpoint holds: name -> dtype, shape and, for a second
name of a tensor, ``=`` and the first. ``{0..11}`` in a name stands for twelve entries; a string in
place of the entries names a type that holds the same.
"""

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
from lavis_clone.common.registry import registry

FIXTURES = Path(__file__).parents[1] / "fixtures" / "checkpoints"
STATED = {path.stem: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))}
TYPES = [(name, model_type) for name, types in STATED.items() for model_type in types]


def expected(name: str, model_type: str) -> dict[str, list[Any]]:
    """Every entry of a checkpoint."""
    stated = STATED[name][model_type]
    if isinstance(stated, str):
        return expected(name, stated)
    entries = {}
    for entry, facts in stated.items():
        layers = re.search(r"\{(\d+)\.\.(\d+)\}", entry)
        if layers is None:
            entries[entry] = facts
            continue
        for index in range(int(layers[1]), int(layers[2]) + 1):
            entries[entry.replace(layers[0], str(index))] = [
                fact.replace(layers[0], str(index)) if isinstance(fact, str) else fact
                for fact in facts
            ]
    return entries


def full_size(name: str, model_type: str) -> Any:
    """The model without memory for its weights."""
    model_class = registry.get_model_class(name)
    path = config_file(model_class.PRETRAINED_MODEL_CONFIG_DICT[model_type])
    block = yaml.safe_load(path.read_text())["model"]
    with torch.device("meta"):
        return model_class.build(read(model_class.Config, block))


def test_every_public_type_of_a_model_is_stated() -> None:
    for name, types in STATED.items():
        known = registry.get_model_class(name).PRETRAINED_MODEL_CONFIG_DICT
        assert {t for t in known if not t.startswith("tiny_")} == set(types)


@pytest.mark.parametrize(("name", "model_type"), TYPES)
def test_names_and_shapes_are_those_of_the_public_file(name: str, model_type: str) -> None:
    model = full_size(name, model_type)
    own, stated = model.state_dict(keep_vars=True), expected(name, model_type)
    ignored = {key for key in stated if any(re.search(p, key) for p in model.MAY_BE_IGNORED)}
    assert {key.rpartition(".")[2] for key in ignored} <= {"position_ids"}
    assert own.keys() == stated.keys() - ignored
    for key, (dtype, *shape) in stated.items():
        if key in ignored:
            continue
        if shape and isinstance(shape[-1], str):
            assert own[key] is own[shape.pop().removeprefix("=")], key
        assert str(own[key].dtype) == f"torch.{dtype}", key
        assert list(own[key].shape) == shape, key
