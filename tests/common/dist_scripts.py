"""What test_dist.py runs in each of two processes."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import torch
from torch import nn

from lavis_clone.common import dist
from lavis_clone.common.meters import MetricLogger
from lavis_clone.common.watch import ends_together


def collectives() -> None:
    """What one rank has reaches the other."""
    rank = dist.rank()
    assert dist.world_size() == 2
    assert dist.all_gather_objects({"rank": rank, "x": "y" * rank}) == [
        {"rank": 0, "x": ""},
        {"rank": 1, "x": "y"},
    ]
    assert dist.broadcast(f"from {rank}", source=1) == "from 1"
    x = torch.tensor([1.0 + rank])
    assert dist.all_reduce_sum(x).tolist() == [3.0] and x.tolist() == [1.0 + rank]
    dist.barrier()


def gather_with_gradient() -> None:
    """Each rank's loss weighs all rows; the gradient of a row is the sum over both losses."""
    rank = dist.rank()
    x = torch.tensor([[1.0 + rank, 2.0], [3.0, 4.0 + rank]], requires_grad=True)
    rows = dist.gather(x.t())  # not contiguous
    assert rows.tolist() == [[1, 3], [2, 4], [2, 3], [2, 5]]
    weights = torch.arange(8.0).view(4, 2) * (1 + rank)
    (rows * weights).sum().backward()
    own = torch.arange(8.0).view(4, 2)[2 * rank : 2 * rank + 2] * 3  # 1 + 2
    assert x.grad is not None and torch.equal(x.grad.t(), own)


def replicas() -> None:
    """Gradients are averaged, except within no_sync."""
    model = nn.Linear(1, 1, bias=False)
    replica = dist.replicate(model)
    assert dist.unwrap(replica) is model and dist.unwrap(model) is model
    x = torch.tensor([[1.0 + 2 * dist.rank()]])
    with dist.no_sync(replica):
        replica(x).sum().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 1.0 + 2 * dist.rank()
    model.weight.grad = None
    replica(x).sum().backward()
    assert model.weight.grad.item() == 2.0  # type: ignore[attr-defined]  # set by backward


def main_first() -> None:
    """Rank 1 sees what rank 0 wrote, and is not left waiting when rank 0 fails."""
    path = Path(tempfile.gettempdir()) / dist.broadcast(uuid.uuid4().hex)
    with dist.main_first():
        if dist.rank() == 0:
            path.write_text("ready")
        else:
            assert path.read_text() == "ready"
    try:
        with dist.main_first():
            if dist.rank() == 0:
                raise RuntimeError("rank 0 failed")
    except RuntimeError:
        assert dist.rank() == 0
    dist.barrier()
    path.unlink(missing_ok=True)


def meters() -> None:
    log = MetricLogger()
    log.update(loss=1.0 + 2 * dist.rank(), acc=0.5)
    log.synchronize()
    assert log.averages() == {"loss": 2.0, "acc": 0.5}


def small_things() -> None:
    """Flags, numbers and rows of all processes; weights of the first one."""
    rank = dist.rank()
    assert dist.agree([rank == 1, False, True]) == [True, False, True]
    assert dist.means({"loss": 1.0 + rank}) == {"loss": 1.5}
    assert dist.gather_objects([rank] * rank) == ([[], [1]] if rank == 0 else [])
    model = nn.BatchNorm1d(1)
    nn.init.constant_(model.weight, 1.0 + rank)
    dist.align(model)
    assert model.weight.item() == 1.0
    assert model.running_mean is not None
    model.running_mean.fill_(rank)
    dist.average_statistics(model)
    assert model.running_mean.item() == 0.5


def one_fails() -> None:
    """The other one waits for it."""
    with ends_together():
        if dist.rank() == 1:
            raise ArithmeticError("the cause")
        dist.barrier()
