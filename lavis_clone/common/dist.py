"""The only module that talks to torch.distributed.

Every function here does the right thing in a single process, so callers never ask whether there
are several. A collective must be reached by every process, in the same order.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def start(*, rank: int, world_size: int, url: str, backend: str, timeout: timedelta) -> None:
    """Join the other processes, until this one exits; waits until all are there."""
    dist.init_process_group(
        backend, init_method=url, rank=rank, world_size=world_size, timeout=timeout
    )
    atexit.register(stop)


def stop() -> None:
    """Leave the other processes; nothing to do in a single one.

    The group's own threads must end before Python does: one that lets go of a tensor later aborts
    the process. They end with the last owner of the group, and a replica that is garbage owns it.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, counted from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait for every process to come here."""
    if world_size() > 1:
        on_gpu = dist.get_backend() == "nccl"
        dist.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)


@contextmanager
def main_first() -> Iterator[None]:
    """Let rank 0 do the block alone, e.g. to prepare a file; the others do it after."""
    if rank() != 0:
        barrier()
    try:
        yield
    finally:  # an error on rank 0 must not leave the others waiting
        if rank() == 0:
            barrier()


def broadcast(value: T, *, source: int = 0) -> T:
    """Rank ``source``'s ``value``, on every rank; it must pickle."""
    if world_size() == 1:
        return value
    box = [value if rank() == source else None]
    dist.broadcast_object_list(box, src=source)
    return cast(T, box[0])


def all_gather_objects(value: T) -> list[T]:
    """Every rank's ``value``, in rank order, on every rank; it must pickle."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of every rank's ``x``, a new tensor without gradient."""
    total = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        total = all_reduce_sum(grads[0].contiguous())  # every rank's loss saw this rank's rows
        return total.chunk(world_size())[rank()]


def gather(x: Tensor) -> Tensor:
    """Stack every rank's ``x`` on the first axis; gradients flow back to each owner.

    Args:
        x: ``(B, ...)``, with the same B on every rank.

    Returns:
        ``(world_size * B, ...)``, in rank order; ``x`` itself in a single process.
    """
    return x if world_size() == 1 else _Gather.apply(x.contiguous())


def replicate(model: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
    """``model`` with gradients averaged over the processes; itself in a single process.

    Args:
        find_unused_parameters: Whether some weights may have no part in a step's loss.
    """
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
    )


def unwrap(model: nn.Module) -> nn.Module:
    """The model that ``replicate`` was given."""
    return cast(nn.Module, model.module) if isinstance(model, DistributedDataParallel) else model


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Backward passes in the block keep their gradients to this process, to accumulate them."""
    if isinstance(model, DistributedDataParallel):
        return cast(AbstractContextManager[None], model.no_sync())
    return nullcontext()
