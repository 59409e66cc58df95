"""How numbers are kept while computing: ``run.precision``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from lavis_clone.common.schema import Precision

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Compute the block in ``precision``; weights keep their own.

    ``fp32`` leaves torch's settings alone. ``tf32`` multiplies float32 matrices with ten bits of
    mantissa on GPUs that can, for this block. ``bf16`` and ``fp16`` use that type where it is safe.
    """
    if precision in DTYPES:
        return torch.autocast(device.type, dtype=DTYPES[precision])
    return _tf32() if precision == "tf32" else nullcontext()


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def grad_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Scales losses up and gradients down, so that fp16 keeps small ones; idle otherwise."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
