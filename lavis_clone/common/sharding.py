"""Spreads a model's weights over the processes, by torch's FSDP2, and collects them again."""

from __future__ import annotations

import socket
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from lavis_clone.common import dist

COPIES, PARTS = "copies", "parts"
"""The axes of a mesh: processes with the same parts, and processes that share a copy."""


class MeshError(ValueError):
    """The processes cannot share a model in the way that was asked for."""


def build_mesh(device_type: str, *, hybrid: bool, size: int | None = None) -> DeviceMesh:
    """How the processes stand to each other. Every process must call it.

    Args:
        hybrid: Whether there are several copies of the model.
        size: Processes that share one copy; None for those of one machine.

    Raises:
        MeshError: the processes cannot be parted so.
    """
    world_size = dist.world_size()
    if not hybrid:
        return init_device_mesh(device_type, (world_size,), mesh_dim_names=(PARTS,))
    if size is None:
        machines = Counter(dist.all_gather_objects(socket.gethostname()))
        size = machines.most_common(1)[0][1]
        if set(machines.values()) != {size}:
            raise MeshError(
                f"run.strategy fsdp_hybrid: the machines have {sorted(machines.values())} "
                "processes; start as many on each, or say run.shard_size"
            )
    if world_size % size:
        raise MeshError(
            f"run.shard_size ({size}) must divide the number of processes ({world_size})"
        )
    shape = (world_size // size, size)
    return init_device_mesh(device_type, shape, mesh_dim_names=(COPIES, PARTS))


def shard(model: nn.Module, mesh: DeviceMesh) -> list[nn.Parameter]:
    """Shard ``model`` in place: each block of its towers is a unit, and all that is left another.

    Returns:
        The scalar weights, which no process has a part of: they stay whole.
    """
    # torch warns of views that could be changed in place, which nothing here does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    scalars = [p for p in model.parameters() if not p.ndim]
    for block in blocks(model):
        fully_shard(block, mesh=mesh, ignored_params=set(scalars))
        for name in getattr(block, "ENTRANCES", ()):  # of what it wraps, too
            register_fsdp_forward_method(block, name)
    fully_shard(model, mesh=mesh, ignored_params=set(scalars))
    _settle(model)
    return scalars


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of the model's lists of layers; those that share weights with others are not."""
    owners: Counter[int] = Counter()
    for module in model.modules():  # each once, whatever names it has
        owners.update({id(p) for p in module.parameters(recurse=False)})
    paths: Counter[int] = Counter(
        id(p)
        for _, module in model.named_modules(remove_duplicate=False)
        for p in module.parameters(recurse=False)
    )
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if id(module) in inside or not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        children = [c for c in module.children() if any(True for _ in c.parameters())]
        kinds = {type(getattr(c, "_checkpoint_wrapped_module", c)) for c in children}
        if len(children) < 2 or len(kinds) > 1:
            continue  # no stack of layers
        for child in children:
            inside |= {id(part) for part in child.modules()}
            if all(owners[id(p)] == paths[id(p)] == 1 for p in child.parameters()):
                found.append(child)
    return found


def set_gradient_sync(model: nn.Module, *, on: bool) -> None:
    """Whether the next backward passes exchange gradients, or only collect them."""
    _root(model).set_requires_gradient_sync(on)


def reshard(model: nn.Module) -> None:
    """Let each process have its own part of the weights only."""
    for unit in units(model):
        unit.reshard()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """All weights are in all processes within the block, whatever part of the model is called."""
    root, parts = _root(model), units(model)
    root.set_reshard_after_forward(False)
    for unit in parts:
        unit.unshard()
    try:
        yield
    finally:
        for unit in parts:
            unit.reshard()
        _forget(root)
        root.set_reshard_after_forward(True)
        root.set_reshard_after_forward(False, recurse=False)


def units(model: nn.Module) -> list[FSDPModule]:
    """What was sharded, the model itself first."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def spread(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, as ``like`` is spread; itself if ``like`` is not.

    What has another shape than ``like`` stays whole, too.
    """
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all tensors together, of which some may be in parts. A scalar."""
    norms = [
        dist.whole(nn.utils.get_total_norm(some))
        for some in (
            [t for t in tensors if isinstance(t, DTensor)],
            [t for t in tensors if not isinstance(t, DTensor)],
        )
        if some
    ]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def _settle(model: nn.Module) -> None:
    """Make ``model`` the root. FSDP takes what runs first for it, and that may be a part."""
    entered: Any = model
    entered.enter = lambda: None
    register_fsdp_forward_method(model, "enter")
    entered.enter()
    del entered.enter
    reshard(model)


def _forget(root: FSDPModule) -> None:
    """Forget in which order parts were called, which another process may have done differently.

    The next backward pass gathers weights in the opposite order; it must be the same in all.
    """
    if hasattr(root, "reset_iter_state"):
        root.reset_iter_state()
        return
    state = root._get_fsdp_state()  # torch has had no word for it until then
    state._comm_ctx.post_forward_order.clear()
    for part in state._state_ctx.all_states:
        if part._fsdp_param_group is not None:
            part._fsdp_param_group._post_forward_indices.clear()


def _root(model: nn.Module) -> FSDPModule:
    assert isinstance(model, FSDPModule)
    return model
