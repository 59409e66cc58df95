"""Encoding a large batch in parts, for losses that compare all its samples.

Such a loss needs the features of all samples at once, but the activations that lead to them only
when its gradient comes back. So each part is encoded without keeping activations, and again when
its features have a gradient: memory holds the activations of one part, and the gradient is that of
the whole batch. Gao et al., https://arxiv.org/abs/2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def encode_in_chunks(
    encode: Callable[[Tensor], Tensor], inputs: Tensor, *, size: int | None, module: nn.Module
) -> Tensor:
    """``encode(inputs)``, ``size`` rows at a time; all at once if there are no more.

    Batch norm sees one part at a time; its running statistics move once for each.

    Args:
        encode: ``(B, ...) -> (B, F)``, each row by itself.
        module: What ``encode`` runs.
    """
    if size is None or len(inputs) <= size or not torch.is_grad_enabled():
        return encode(inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_tracking(module)

    parts = [
        checkpoint(encode, part, use_reentrant=False, context_fn=contexts)
        for part in inputs.split(size)
    ]
    return torch.cat(parts)


@contextmanager
def _without_tracking(module: nn.Module) -> Iterator[None]:
    """Let batch norm in the block remember nothing of what it sees."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in before:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
