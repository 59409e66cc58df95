"""The linear layer for few rows against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lavis_clone.models.layers.linear import (
    FEW_ROWS,
    MANY_ROWS,
    SOME_ROWS,
    Linear,
    make_linear_quick,
)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    fast, plain = Linear(24, 40), nn.Linear(24, 40)
    plain.load_state_dict(fast.state_dict())
    return fast, plain


@pytest.mark.parametrize(
    "rows", [1, 2, FEW_ROWS, FEW_ROWS + 1, SOME_ROWS, SOME_ROWS + 1, MANY_ROWS]
)
@torch.no_grad()
def test_every_number_of_rows_gives_the_same(pair, rows):
    fast, plain = pair
    x = torch.randn(rows, 24)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_leading_axes_and_strides_are_kept(pair):
    fast, plain = pair
    x = torch.randn(24, 3, 2).transpose(0, 2)  # (2, 3, 24), not contiguous
    found = fast(x)
    assert found.shape == (2, 3, 40)
    torch.testing.assert_close(found, plain(x), rtol=1e-5, atol=1e-6)
    assert fast(torch.empty(0, 24)).shape == (0, 40)


def test_gradients_flow_as_in_torch(pair):
    fast, plain = pair
    x = torch.randn(2, 24)
    fast(x).square().sum().backward()
    plain(x).square().sum().backward()
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)


@torch.no_grad()
def test_autocast_and_other_types_go_the_ordinary_way(pair):
    fast, plain = pair
    x = torch.randn(2, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(x).equal(plain(x))
    assert fast.double()(x.double()).equal(plain.double()(x.double()))


@torch.no_grad()
def test_layers_inside_a_module_are_replaced_in_place():
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2, bias=False)), nn.GELU())
    x, before = torch.randn(3, 4), {k: v.clone() for k, v in module.state_dict().items()}
    expected = module(x)
    make_linear_quick(module)
    assert [type(m) for m in module.modules()].count(Linear) == 2
    assert all(module.state_dict()[k].equal(v) for k, v in before.items())
    torch.testing.assert_close(module(x), expected)
