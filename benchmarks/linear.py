"""Time the linear layer against torch's, from a decoding step's few rows up, in one process.

    python benchmarks/linear.py [--csv benchmarks/results/linear.csv]

The matrix is that of a feed-forward layer of BERT-base, 768 to 3,072, in fp32 on two threads. Six
such layers take turns, so that the weights come from memory, as they do in a model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from report import circumstances, write_csv
from torch import nn

from lavis_clone.models.layers.linear import Linear

ROWS, LAYERS, REPEATS, THREADS = (1, 2, 3, 4, 6, 8, 16, 24, 64, 577, 1154, 4616), 6, 21, 2
IN_DIM, OUT_DIM = 768, 3072


def milliseconds(layers: list[nn.Linear], x: torch.Tensor) -> float:
    """Of one product, on average over the layers."""
    start = time.perf_counter()
    for layer in layers:
        layer(x)
    return 1000 * (time.perf_counter() - start) / len(layers)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Linear layers with few rows.")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    fast: list[nn.Linear] = [Linear(IN_DIM, OUT_DIM) for _ in range(LAYERS)]
    plain = [nn.Linear(IN_DIM, OUT_DIM) for _ in range(LAYERS)]
    rows = []
    for count in ROWS:
        x = torch.randn(count, IN_DIM)
        times = [(milliseconds(fast, x), milliseconds(plain, x)) for _ in range(REPEATS)]
        ours, theirs = (statistics.median(t) for t in zip(*times[1:], strict=True))
        sys.stdout.write(
            f"{count:4} rows: {ours:.3f} ms, torch {theirs:.3f} ms, {theirs / ours:.2f}x\n"
        )
        rows.append(
            {
                "rows": count,
                "lavis_clone_ms": round(ours, 4),
                "torch_ms": round(theirs, 4),
                "ratio": round(theirs / ours, 2),
                **circumstances(),
            }
        )
    if arguments.csv:
        write_csv(arguments.csv, rows)


if __name__ == "__main__":
    main()
