"""What test_training.py runs in each of two processes."""

from __future__ import annotations

from typing import Any

import torch

from lavis_clone.common import dist
from tests.models.clip.toys import CLASSIC, MAKES, TEXTS, build, images

PICTURES = images(4)


def compare(block: dict[str, Any], **changes: Any) -> None:
    """Two pairs in each process: the mean loss and gradients of four pairs in one."""
    alone = build(block, gather=False).train()
    loss = alone({"image": PICTURES, "text_input": TEXTS}).loss
    loss.backward()
    model = build(block, **changes).train()
    own = slice(2 * dist.rank(), 2 * dist.rank() + 2)
    replica = dist.replicate(model)  # kept, since it averages gradients as long as it lives
    part = replica({"image": PICTURES[own], "text_input": TEXTS[own]}).loss
    part.backward()
    torch.testing.assert_close(dist.all_reduce_sum(part) / 2, loss.detach())
    for (name, one), (_, two) in zip(
        alone.named_parameters(), model.named_parameters(), strict=True
    ):
        assert one.grad is not None and two.grad is not None, name
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-3, atol=1e-5, msg=name)


def softmax() -> None:
    compare(CLASSIC)


def softmax_local() -> None:
    compare(CLASSIC, local_loss=True)


def sigmoid() -> None:
    compare(MAKES["siglip"])


def in_parts() -> None:
    compare(CLASSIC, chunk_size=1, local_loss=True)


def alone() -> None:
    """Without gathering, each process compares its own pairs."""
    model = build(CLASSIC, gather=False)
    own = slice(2 * dist.rank(), 2 * dist.rank() + 2)
    with torch.no_grad():
        loss = model({"image": PICTURES[own], "text_input": TEXTS[own]}).loss
    losses = dist.all_gather_objects(loss.item())
    assert len(set(losses)) == 2
