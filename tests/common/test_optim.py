from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lavis_clone.common.muon import MuonWithAdamW
from lavis_clone.common.optim import build_optimizer, freeze, parameter_groups, set_lr
from lavis_clone.common.schema import RunConfig


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(2))
        self.norm = nn.LayerNorm([2, 4])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual_encoder = Tower()
        self.vlnet = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.temp = nn.Parameter(torch.tensor(0.07))


def run(**keys: Any) -> RunConfig:
    fixed = {"task": "captioning", "batch_size_train": 1, "batch_size_eval": 1, "num_workers": 0}
    return RunConfig(**{**fixed, "init_lr": 1.0, **keys})


def by_name(model: nn.Module, **keys: Any) -> dict[str, tuple[float, float]]:
    """Weight decay and factor of each trainable weight."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, weight_decay=0.1, **keys)
    return {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in groups
        for p in group["params"]
    }


def test_what_decays() -> None:
    assert by_name(Model()) == {
        "visual_encoder.cls_token": (0.1, 1.0),
        "visual_encoder.blocks.0.weight": (0.1, 1.0),
        "visual_encoder.blocks.1.weight": (0.1, 1.0),
        "visual_encoder.norm.weight": (0.0, 1.0),
        "visual_encoder.norm.bias": (0.0, 1.0),
        "vlnet.weight": (0.1, 1.0),
        "vlnet.bias": (0.0, 1.0),
        "temp": (0.0, 1.0),
    }


def test_layers_learn_slower_the_lower_they_are() -> None:
    factors = {name: scale for name, (_, scale) in by_name(Model(), lr_layer_decay=0.5).items()}
    assert factors == {
        "visual_encoder.cls_token": 0.125,
        "visual_encoder.blocks.0.weight": 0.25,
        "visual_encoder.blocks.1.weight": 0.5,
        "visual_encoder.norm.weight": 1.0,
        "visual_encoder.norm.bias": 1.0,
        "vlnet.weight": 1.0,
        "vlnet.bias": 1.0,
        "temp": 1.0,
    }


def test_embeddings_lie_below_the_stack_that_is_nearest() -> None:
    model = nn.ModuleDict(
        {
            "visual": Tower(),
            "text": nn.ModuleDict(
                {
                    "embeddings": nn.Embedding(3, 4),
                    "encoder": nn.ModuleDict(
                        {"layer": nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))}
                    ),
                }
            ),
        }
    )
    factors = by_name(model, lr_layer_decay=0.5)
    assert factors["text.embeddings.weight"] == (0.1, 0.5**4)
    assert factors["visual.cls_token"] == (0.1, 0.5**3)
    assert by_name(Tower(), lr_layer_decay=0.5)["cls_token"] == (0.1, 0.5**3)


def test_prefixes_scale_and_the_longest_counts() -> None:
    scales = {"visual_encoder": 0.1, "visual_encoder.blocks.1": 0.0}
    factors = by_name(Model(), lr_scale=scales)
    assert factors["visual_encoder.blocks.0.weight"] == (0.1, 0.1)
    assert factors["visual_encoder.blocks.1.weight"] == (0.1, 0.0)
    assert factors["vlnet.weight"] == (0.1, 1.0)
    with pytest.raises(ValueError, match="'visual_encodr'; did you mean 'visual_encoder'"):
        by_name(Model(), lr_scale={"visual_encodr": 0.1})


def test_frozen_weights_are_in_no_group() -> None:
    model = Model()
    frozen = freeze(model, ["visual_encoder.blocks", "vlnet"])
    left = by_name(model)
    assert left
    assert not any(name.startswith(("visual_encoder.blocks", "vlnet")) for name in left)
    assert frozen == [model.visual_encoder.blocks, *model.visual_encoder.blocks, model.vlnet]
    with pytest.raises(ValueError, match=r"run\.freeze: .* 'vlnt'; did you mean 'vlnet'"):
        freeze(model, ["vlnt"])


def test_a_model_without_trainable_weights() -> None:
    with pytest.raises(ValueError, match="Linear has no trainable weights"):
        parameter_groups(nn.Linear(1, 1).requires_grad_(False), weight_decay=0.1)


def test_the_optimizer_has_the_betas_and_the_rates_of_the_run() -> None:
    optimizer = build_optimizer(Model(), run(beta2=0.98, lr_scale={"vlnet": 0.5}, weight_decay=0.2))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.2}
    set_lr(optimizer, 0.01)
    assert {group["lr"] for group in optimizer.param_groups} == {0.01, 0.005}


def test_a_step_moves_weights_as_adamw_does() -> None:
    weight = nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(1.0)
    optimizer = build_optimizer(weight, run(init_lr=0.1, weight_decay=0.5))
    (3.0 * weight(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert weight.weight.item() == pytest.approx(1.0 - 0.1 * 0.5 - 0.1)  # decay, then a unit step


def test_the_factors_survive_saving() -> None:
    first = build_optimizer(Model(), run(lr_layer_decay=0.5))
    second = build_optimizer(Model(), run(lr_layer_decay=0.9))
    second.load_state_dict(first.state_dict())
    set_lr(second, 1.0)
    assert {group["lr"] for group in second.param_groups} == {0.125, 0.25, 0.5, 1.0}


# --- which optimizer ----------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(5, 4)
        self.inner = nn.Linear(4, 6)
        self.head = nn.Linear(6, 1)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.words(numbers)).tanh()).square().mean()


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        model(torch.tensor([1, 2])).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("adafactor", torch.optim.Adafactor),
        ("muon", MuonWithAdamW),
    ],
)
def test_any_optimizer_goes_on_where_it_was(name: Any, kind: type) -> None:
    model, keys = Net(), {"optimizer": name, "init_lr": 0.05, "weight_decay": 0.1}
    optimizer = build_optimizer(model, run(**keys))
    assert isinstance(optimizer, kind)
    before = model(torch.tensor([1, 2])).item()
    learn(model, optimizer, 3)
    other, state = Net(), copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    learn(model, optimizer, 3)
    assert model(torch.tensor([1, 2])).item() < before
    other.load_state_dict(state[0])
    again = build_optimizer(other, run(**keys))
    again.load_state_dict(state[1])
    learn(other, again, 3)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_muon_is_for_matrices_between_layers() -> None:
    model = Net()
    optimizer = build_optimizer(model, run(optimizer="muon", lr_scale={"inner": 0.5}))
    names = {id(p): name for name, p in model.named_parameters()}
    matrices = [names[id(p)] for g in optimizer.param_groups if g["is_matrix"] for p in g["params"]]
    assert matrices == ["inner.weight"]
    set_lr(optimizer, 2.0)
    assert {g["lr"] for g in optimizer.param_groups} == {1.0, 2.0}
    with pytest.raises(ValueError, match="takes no closure"):
        optimizer.step(lambda: 0.0)


def test_muon_turns_a_gradient_into_a_step_of_even_singular_values() -> None:
    layer = nn.Linear(4, 6, bias=False)
    keys = {"optimizer": "muon", "weight_decay": 0.0, "init_lr": 1.0, "momentum": 0.0}
    optimizer = build_optimizer(layer, run(**keys))
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(6, 4) @ torch.diag(torch.tensor([9.0, 1.0, 0.5, 0.2]))
    optimizer.step()
    sizes = torch.linalg.svdvals(before - layer.weight.detach())
    assert sizes.max() < 2 * sizes.min()


def test_momentum_is_the_optimizers_own_unless_it_is_given() -> None:
    for name, given, found in (("sgd", None, 0.9), ("sgd", 0.5, 0.5), ("muon", None, 0.95)):
        optimizer = build_optimizer(nn.Linear(3, 3), run(optimizer=name, momentum=given))
        assert optimizer.param_groups[0]["momentum"] == found


def test_a_rate_that_is_a_tensor_stays_one() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    rate = torch.tensor(1.0)
    optimizer = torch.optim.AdamW([{"params": [weight], "lr_scale": 0.5, "lr": rate}])
    set_lr(optimizer, 3.0)
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 1.5
