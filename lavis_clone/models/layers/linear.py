"""A linear layer that is quick with the few rows of a decoding step, and with very many, on a CPU.

Writing a token multiplies every weight matrix with one row per beam. The general matrix product is
made for many rows; with a few, it can take several times as long as reading the weights does. With
the tokens of several images, oneDNN's product is the faster one again (benchmarks/linear.py
measures both).

Shapes: R rows, I input width, O output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 6
"""Up to here the product is taken with the weights in front, which goes through them once."""
SOME_ROWS, MANY_ROWS = 128, 1024
"""Up to the first and from the second on oneDNN's own product is used, where torch has it."""
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """``nn.Linear``, faster with few rows in float32 inference on a CPU; equal but for rounding."""

    def forward(self, input: Tensor) -> Tensor:
        """``(..., I) -> (..., O)``"""
        rows = input.numel() // input.shape[-1]
        between = SOME_ROWS < rows < MANY_ROWS
        if between or self.bias is None or not _plain_inference(input, self.weight):
            return super().forward(input)
        flat = input.reshape(rows, input.shape[-1])
        if rows <= FEW_ROWS:
            product = torch.addmm(self.bias[:, None], self.weight, flat.t()).t()  # (R, O)
        elif HAS_ONEDNN:
            product = _onednn_linear(flat, self.weight, self.bias)
        else:
            product = F.linear(flat, self.weight, self.bias)
        return product.reshape(*input.shape[:-1], self.out_features)


def make_linear_quick(module: nn.Module) -> None:
    """Put a ``Linear`` in the place of every ``nn.Linear`` inside; parameters stay the same."""
    for name, child in list(module.named_modules()):
        if type(child) is nn.Linear:
            has_bias = child.bias is not None
            quick = Linear(child.in_features, child.out_features, bias=has_bias, device="meta")
            quick.weight, quick.bias = child.weight, child.bias
            module.set_submodule(name, quick)


def _plain_inference(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.compiler.is_compiling()
    )


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The operator that torch.compile puts in place of a linear layer on a CPU."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
