"""Layers that compute their activations again in the backward pass: text towers, and offloading."""

from __future__ import annotations

import copy
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lavis_clone.common.reading import ConfigError, read
from lavis_clone.models.blip.config import BlipConfig
from lavis_clone.models.encoders.bert import BertConfig, BertModel
from lavis_clone.models.encoders.bert_twin import TwinBertModel
from lavis_clone.models.heads.momentum import MomentumCopies
from lavis_clone.models.layers.recompute import recompute_last
from tests.models import tiny

WRAPPED = "_checkpoint_wrapped_module."


def config(**changes: Any) -> BertConfig:
    sizes = {"vocab_size": 20, "encoder_width": 8, "hidden_dropout_prob": 0.3}
    return BertConfig(**tiny.text_block(**sizes, **changes))


def learn(model: BertModel) -> tuple[Tensor, dict[str, Tensor]]:
    """The states of two texts about two images each (twins look at both), and the gradients."""
    torch.manual_seed(1)
    tokens = torch.randn(4 if isinstance(model, TwinBertModel) else 2, 5, 8, requires_grad=True)
    torch.manual_seed(2)  # of dropout
    states = model(torch.arange(12).view(2, 6), context=model.see(tokens), causal=True)
    states.square().sum().backward()
    assert tokens.grad is not None
    named = ((n.replace(WRAPPED, ""), p.grad) for n, p in model.named_parameters())
    return states, {"tokens": tokens.grad, **{n: grad for n, grad in named if grad is not None}}


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_text_tower_that_recomputes_learns_the_same(layers: int, twin: bool) -> None:
    def build(**changes: Any) -> BertModel:
        torch.manual_seed(0)
        chosen = config(**changes)
        return TwinBertModel(chosen, merge_from=1) if twin else BertModel(chosen)

    plain, saving = build(), build(checkpoint_layers=layers)
    assert list(plain.state_dict()) == list(saving.state_dict())
    saving.load_state_dict(plain.state_dict())
    (states, grads), (same_states, same) = learn(plain), learn(saving)
    torch.testing.assert_close(same_states, states)
    assert same.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(same[name], grad, msg=name)


def test_a_text_tower_recomputes_only_what_was_asked() -> None:
    model = BertModel(config(checkpoint_layers=1))
    calls: list[int] = []
    for index, layer in enumerate(model.encoder.layers()):
        layer.intermediate.register_forward_hook(lambda *_, i=index: calls.append(i))
    learn(model)
    assert sorted(calls) == [0, 1, 1]


def test_offloading_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fairscale", None)
    monkeypatch.setitem(sys.modules, "fairscale.nn.checkpoint", None)
    with pytest.raises(ImportError, match="needs fairscale; pip install fairscale"):
        BertModel(config(checkpoint_layers=1, checkpoint_offload=True))
    BertModel(config(checkpoint_offload=True))  # nothing is recomputed


@pytest.fixture
def offloaded(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Modules that a stand-in for fairscale wrapped; as the original it replaces ``forward``."""
    wrapped: list[nn.Module] = []

    def checkpoint_wrapper(module: nn.Module, offload_to_cpu: bool = False) -> nn.Module:
        assert offload_to_cpu
        wrapped.append(module)
        own = module.forward
        module.forward = own
        return module

    fake: Any = ModuleType("fairscale.nn.checkpoint")
    fake.checkpoint_wrapper = checkpoint_wrapper
    monkeypatch.setitem(sys.modules, "fairscale", ModuleType("fairscale"))
    monkeypatch.setitem(sys.modules, "fairscale.nn", ModuleType("fairscale.nn"))
    monkeypatch.setitem(sys.modules, "fairscale.nn.checkpoint", fake)
    return wrapped


def test_offloading_is_left_to_fairscale(offloaded: list[nn.Module]) -> None:
    blocks = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    recompute_last(blocks, 2, offload=True)
    assert offloaded == list(blocks)[1:]


def test_a_momentum_copy_uses_its_own_weights(offloaded: list[nn.Module]) -> None:
    model = MomentumCopies()
    model.tower = nn.Sequential(nn.Linear(1, 1, bias=False))
    recompute_last(model.tower, 1, offload=True)
    model.make_momentum_copies("tower")
    twin: Any = model.get_submodule("tower_m")
    twin[0].weight.fill_(3.0)
    assert twin(torch.ones(1, 1)).item() == 3.0
    assert copy.deepcopy(twin)(torch.ones(1, 1)).item() == 3.0


def test_lavis_words_reach_the_towers() -> None:
    fields = {"vit_grad_ckpt": True, "vit_ckpt_layer": 4, "med": {"checkpoint_layers": 3}}
    chosen = read(BlipConfig, fields, where="model")
    assert (chosen.vision().checkpoint_blocks, chosen.vision().checkpoint_offload) == (4, False)
    assert chosen.text().checkpoint_layers == 3
    chosen = read(BlipConfig, fields | {"vit_grad_ckpt": "offload"}, where="model")
    assert (chosen.vision().checkpoint_blocks, chosen.vision().checkpoint_offload) == (4, True)
    with pytest.raises(ConfigError, match="vit_grad_ckpt"):
        read(BlipConfig, fields | {"vit_grad_ckpt": "somewhere"}, where="model")
