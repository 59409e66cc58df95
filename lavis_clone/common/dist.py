"""The only module that talks to torch.distributed.

Every function here does the right thing in a single process, so callers never ask whether there
are several. A collective must be reached by every process, in the same order.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
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
    agree([])


def agree(flags: Iterable[bool]) -> list[bool]:
    """For each flag whether it is up in any process, in every process.

    Where the CPU has a backend of its own, no GPU is waited for.
    """
    own = [bool(flag) for flag in flags]
    if world_size() == 1:
        return own
    raised = torch.tensor([False, *own], device=_meeting_device(), dtype=torch.int32)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()[1:]]


def _meeting_device() -> torch.device:
    """Where small things are exchanged."""
    has_cpu = "cpu" in dist.get_backend_config()
    return torch.device("cpu") if has_cpu else torch.device("cuda", torch.cuda.current_device())


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


def gather_objects(value: T) -> list[T]:
    """Every rank's ``value``, in rank order, on rank 0; nothing elsewhere. It must pickle."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of every rank's ``x``, a new tensor without gradient."""
    total = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def side_group() -> Any:
    """A group of all processes for exchanges on the CPU beside the others; None for a single one.

    Every process must call it.
    """
    return dist.new_group(backend="gloo") if world_size() > 1 else None


def local(x: Tensor) -> Tensor:
    """This process's part of a tensor that is spread over all; another tensor itself."""
    return x.to_local() if hasattr(x, "to_local") else x


def whole(x: Tensor) -> Tensor:
    """A tensor that is spread over all processes, put together in each; another tensor itself."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


@torch.no_grad()
def align(model: nn.Module) -> None:
    """Give every process rank 0's weights and buffers."""
    if world_size() > 1:
        for value in [*model.parameters(), *model.buffers()]:
            dist.broadcast(value.detach(), src=0)


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Take the mean over the processes of what batch norms have collected."""
    if world_size() == 1:
        return
    for module in model.modules():
        if hasattr(module, "running_mean"):
            for name in ("running_mean", "running_var"):
                value = getattr(module, name)
                if isinstance(value, Tensor):
                    value.copy_(all_reduce_sum(value) / world_size())


def means(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over the processes of each number; all must have the same ones."""
    parts = all_gather_objects(dict(values))
    return {name: math.fsum(part[name] for part in parts) / len(parts) for name in values}


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
    known = inspect.signature(DistributedDataParallel).parameters
    exchange = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {exchange: False}  # queues are equal; see average_statistics
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
        **options,
    )


def unwrap(model: nn.Module) -> nn.Module:
    """The model that ``replicate`` was given."""
    return cast(nn.Module, model.module) if isinstance(model, DistributedDataParallel) else model


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Backward passes in the block keep their gradients to this process, to accumulate them."""
    if isinstance(model, DistributedDataParallel):
        return cast(AbstractContextManager[None], model.no_sync())
    return nullcontext()
