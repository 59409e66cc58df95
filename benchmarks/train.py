"""Time whole training steps, and what the loop around them costs.

    python benchmarks/train.py [--device auto] [--steps 5] [--csv benchmarks/results/train.csv]
    python benchmarks/train.py --tiny      a look at whether it works, in seconds

BLIP of base size with random weights learns captions and retrieval at 384 px from batches that lie
ready, by the very step of the runners (AdamW, gradients clipped): in fp32, bf16, compiled, with
recomputed activations, and sharded over two processes (FSDP2). Each row is a process of its own,
so that its memory is its own: the most that it has had of the GPU's, or else of the machine's.

The loop's own cost is what a run of ``RunnerBase`` takes longer, per step, than the same steps
written down plainly on a model of one weight, log and progress bar included, checkpoints left out;
its share is that of the fp32 step. The two take turns, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from report import circumstances, write_csv

from lavis_clone.common.context import RunContext, choose_device
from lavis_clone.common.launch import init_distributed
from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.runners.base import RunnerBase
from lavis_clone.runners.feed import Fed
from lavis_clone.runners.hooks import GIGABYTE, memory
from lavis_clone.runners.losses import EpochLosses
from lavis_clone.runners.training import Training
from lavis_clone.tasks import setup_task

JOBS = {"blip_caption": ("captioning", 8), "blip_retrieval": ("retrieval", 8)}
"""Model -> task, and samples per step of a process."""
MODES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "compile": {"precision": "bf16", "compile": "model"},
    "checkpointing": {"precision": "bf16"},
    "fsdp": {"precision": "bf16", "strategy": "fsdp"},
}
PIXELS, QUEUE, BLOCKS = 384, 4096, 12
TINY = {"vit_type": "base", "image_size": 32}
NUM_SHARDS = 2
LOOP_STEPS = 2000


def run_config(task: str, **changes: Any) -> RunConfig:
    given: dict[str, Any] = {
        "task": task,
        "lr_sched": "constant_lr",
        "init_lr": 1e-5,
        "max_epoch": 1,
        "batch_size_train": 8,
        "batch_size_eval": 8,
        "num_workers": 0,
        "train_splits": ["train"],
        "grad_clip": 1.0,
    }
    return RunConfig(**given | changes)


def measure(name: str, mode: str, *, device: str, steps: int, tiny: bool) -> dict[str, Any]:
    """Seconds of a step and memory of one model in one mode, in this process."""
    launch = init_distributed(device=device)
    place = choose_device(device, local_rank=launch.local_rank)
    task, batch = JOBS[name]
    pixels = TINY["image_size"] if tiny else PIXELS
    block: dict[str, Any] = {"vit_type": "base", "image_size": pixels, "med": {"vocab_size": 30524}}
    if name == "blip_retrieval":
        block["queue_size"] = QUEUE
    if mode == "checkpointing":
        block |= {"vit_grad_ckpt": True, "vit_ckpt_layer": BLOCKS}
    torch.manual_seed(0)
    model = registry.get_model_class(name).from_config(block).to(place)
    run = run_config(task, **MODES[mode])
    context = RunContext(Path("."), place, launch.rank, launch.world_size)
    training = Training(run, task=setup_task(run), model=model, context=context)
    samples = {
        "image": torch.randn(batch, 3, pixels, pixels),
        "text_input": [f"a man riding a wave on top of a surfboard {i}" for i in range(batch)],
        "image_id": torch.arange(batch) + batch * launch.rank,
    }
    training.to_train_mode()
    losses, times = EpochLosses(0), []
    for number in range(steps + 1):
        began = time.perf_counter()
        progress = Progress(step=number, steps_per_epoch=steps + 1, total_steps=steps + 1)
        training.step([Fed(samples, ())], progress, 1e-5, losses)
        losses.look()  # waits for the device
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times[1:])
    return {
        "model": name,
        "mode": mode,
        "processes": launch.world_size,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        "pixels": pixels,
        "batch": batch,
        "first_step_s": round(times[0], 3),
        "step_s": round(seconds, 4),
        "steps_per_s": round(1 / seconds, 3),
        "memory_gb": round(memory(place) / GIGABYTE, 2),
    }


def in_own_process(name: str, mode: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The row of one measurement; None when the machine is too small for it."""
    command = [sys.executable]
    if mode == "fsdp":
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={NUM_SHARDS}"]
    command += [__file__, "--row", name, mode, "--device", arguments.device]
    command += ["--steps", str(arguments.steps), *(["--tiny"] if arguments.tiny else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        sys.stdout.write(f"{name} {mode}: failed: {done.stderr.strip().splitlines()[-1:]}\n")
        return None
    row: dict[str, Any] = json.loads(rows[0])
    sys.stdout.write(
        f"{name} {mode}: {row['step_s']} s a step, {row['memory_gb']} GB on {row['device']}\n"
    )
    return row


# --- the loop ------------------------------------------------------------------------------------


class OneWeight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, 1))

    def forward(self, samples: dict[str, Any], progress: Any = None) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return {"loss": ((samples["image"] - self.weight) ** 2).mean()}

    def generate(self, samples: Any, **_: Any) -> list[str]:
        return [""] * len(samples["image"])


class Ready:
    """Batches that are there already."""

    dataset = None

    def __init__(self, count: int) -> None:
        self._batch, self._count = {"image": torch.ones(8, 1)}, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Any:
        return iter([self._batch] * self._count)

    def set_epoch(self, epoch: int) -> None:
        """There is one."""


def plainly(loader: Ready) -> float:
    """Seconds of the bare steps."""
    model = OneWeight()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    began = time.perf_counter()
    for samples in loader:
        model(samples)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def with_runner(loader: Ready, folder: Path) -> float:
    """Seconds of the same by the runner, its one checkpoint left out."""
    run = run_config("captioning", save_last=False)
    context = RunContext(folder, torch.device("cpu"))
    runner = RunnerBase(
        run, task=setup_task(run), model=OneWeight(), loaders={"train": loader}, context=context
    )
    seconds = []

    def end() -> None:
        seconds.append(time.perf_counter() - began)

    runner._end_segment = lambda: end() or RunnerBase._end_segment(runner)  # type: ignore[method-assign,func-returns-value]
    began = time.perf_counter()
    runner.train()
    return seconds[0]


def loop_cost(num_steps: int, repeats: int = 5) -> float:
    """Seconds that the loop adds to a step."""
    costs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            loader = Ready(num_steps)
            costs.append((with_runner(loader, Path(folder)) - plainly(loader)) / num_steps)
    return statistics.median(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--tiny", action="store_true", help="32 pixels, to see that it works")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        kept = {"device": arguments.device, "steps": arguments.steps, "tiny": arguments.tiny}
        row = measure(*arguments.row, **kept)
        if os.environ.get("RANK", "0") == "0":
            sys.stdout.write(json.dumps(row) + "\n")
        return
    logging.getLogger("lavis_clone").setLevel(logging.WARNING)
    added = loop_cost(200 if arguments.tiny else LOOP_STEPS)
    rows = []
    for name in JOBS:
        for mode in arguments.modes:
            if row := in_own_process(name, mode, arguments):
                rows.append({**row, "loop_us": round(1e6 * added, 1), **circumstances()})
    for row in rows:
        row["loop_share"] = f"{added / row['step_s']:.5f}"
    sys.stdout.write(f"the loop adds {1e6 * added:.0f} microseconds to a step\n")
    for row in rows:
        if row["mode"] == "fp32":
            sys.stdout.write(f"{row['model']}: {100 * added / row['step_s']:.3f} % of a step\n")
    if arguments.csv and rows:
        write_csv(arguments.csv, rows)


if __name__ == "__main__":
    main()
