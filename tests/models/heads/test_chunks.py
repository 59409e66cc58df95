"""Encoding in parts: the gradient of the whole, and batch norm that counts once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lavis_clone.models.heads.chunks import encode_in_chunks


def tower(*, norm: bool, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(6) if norm else nn.Tanh()
    return nn.Sequential(nn.Linear(4, 6), middle, nn.Dropout(dropout), nn.Linear(6, 3))


def loss_of(features: Tensor) -> Tensor:
    """Of all rows at once."""
    return (features @ features.t()).logsumexp(dim=1).sum()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_gradient_is_that_of_the_whole(size: int) -> None:
    whole = tower(norm=False)
    parts, inputs = copy.deepcopy(whole), torch.randn(5, 4)
    loss_of(whole(inputs)).backward()
    loss_of(encode_in_chunks(parts, inputs, size=size, module=parts)).backward()
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad)


def test_batch_norm_remembers_each_part_once() -> None:
    whole, inputs = tower(norm=True), torch.randn(6, 4)
    parts = copy.deepcopy(whole)
    features = torch.cat([whole(part) for part in inputs.split(3)])
    loss_of(features).backward()
    loss_of(encode_in_chunks(parts, inputs, size=3, module=parts)).backward()
    assert int(parts[1].num_batches_tracked) == 2  # type: ignore[arg-type]  # of batch norm
    for (name, one), (_, two) in zip(
        whole.state_dict().items(), parts.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(two, one, msg=name)
    assert parts[1].momentum == 0.1
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad)


def test_dropout_drops_the_same_twice() -> None:
    model, inputs = tower(norm=False, dropout=0.5), torch.randn(6, 4)
    torch.manual_seed(3)
    features = encode_in_chunks(model, inputs, size=2, module=model)
    kept = features.detach().clone()
    loss_of(features).backward()
    last = model[3]
    grads = last.bias.grad
    leaf = kept.requires_grad_()
    loss_of(leaf).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(grads, leaf.grad.sum(dim=0))


def test_without_gradient_all_goes_at_once() -> None:
    model, sizes = tower(norm=False), []
    model.register_forward_hook(lambda _module, args, _output: sizes.append(len(args[0])))
    with torch.no_grad():
        encode_in_chunks(model, torch.randn(6, 4), size=2, module=model)
    encode_in_chunks(model, torch.randn(6, 4), size=None, module=model)
    encode_in_chunks(model, torch.randn(6, 4), size=6, module=model)
    assert sizes == [6, 6, 6]
