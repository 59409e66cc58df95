"""What every benchmark writes down: its rows, and the machine that they were measured on."""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def circumstances() -> dict[str, Any]:
    """Columns that say where and with what a row was measured."""
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": machine}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that all have the same columns."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
