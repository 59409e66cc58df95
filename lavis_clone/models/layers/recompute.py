"""Layers that keep no activations for the backward pass, and compute them again in it."""

from __future__ import annotations

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper


def recompute_last(
    blocks: nn.Sequential | nn.ModuleList, count: int, *, offload: bool = False
) -> None:
    """Let the last ``count`` blocks, or all, compute their activations again when needed.

    Args:
        offload: Keep what they begin with in the CPU's memory meanwhile.

    Raises:
        ImportError: ``offload`` needs fairscale, which is not installed.
    """
    wrap = _offloading if offload and count else checkpoint_wrapper
    for index in range(len(blocks) - min(count, len(blocks)), len(blocks)):
        blocks[index] = wrap(blocks[index])


def keep_activations(module: nn.Module) -> None:
    """Take off what offloads: in a copy of a module it would still use the original's weights."""
    for part in module.modules():
        vars(part).pop("forward", None)


def _offloading(block: nn.Module) -> nn.Module:
    try:
        from fairscale.nn.checkpoint import checkpoint_wrapper as offloading
    except ImportError as error:
        raise ImportError(
            "recomputing with activations in the CPU's memory (offload) needs fairscale; "
            "pip install fairscale, or let activations be recomputed without offload"
        ) from error
    wrapped: nn.Module = offloading(block, offload_to_cpu=True)
    return wrapped
