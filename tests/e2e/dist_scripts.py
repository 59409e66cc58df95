"""What test_processes.py runs in each of two processes: whole jobs.

They write into the folder that ``LAVIS_CLONE_TOYS`` names, where their recipe is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavis_clone.cli import train_file
from lavis_clone.common import dist, shards
from lavis_clone.common.log import close_logging
from lavis_clone.job import export_checkpoint
from lavis_clone.models import load_model
from lavis_clone.models.weights import read_checkpoint
from tests.e2e import toys


def folder() -> Path:
    return Path(os.environ["LAVIS_CLONE_TOYS"])


def train(name: str, *options: str) -> Path:
    """Train the recipe into a directory of this name, and return the job's."""
    output = folder() / name
    train_file(str(folder() / "recipe.yaml"), [f"run.output_dir={output}", *options])
    close_logging()
    dist.barrier()
    return toys.the_job(output)


def losses(job: Path) -> Tensor:
    return torch.tensor([e["train_loss"] for e in toys.log_entries(job) if "train_loss" in e])


def rows(job: Path) -> Any:
    return json.loads((job / "result/test_epochbest.json").read_text())


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = read_checkpoint(one), read_checkpoint(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if not name.endswith("key.bias"):  # has no gradient but noise
            torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4, msg=name)


def replicas_and_shards_are_one_job() -> None:
    """One directory, the same losses and rows; whoever reads its checkpoints, in parts or not."""
    ddp = train("ddp", "run.keep_last=9")
    ways = {
        "fsdp": ["run.strategy=fsdp", "run.grad_clip=1000", "run.sharded_checkpoints=async"],
        "hybrid": [
            "run.strategy=fsdp_hybrid",
            "run.shard_size=1",
            "run.max_epoch=1",
            "run.ema=0.5",
        ],
    }
    fsdp = train("fsdp", *ways["fsdp"], "run.keep_last=9")
    torch.testing.assert_close(losses(fsdp), losses(ddp), rtol=1e-4, atol=1e-5)
    assert [row["image_id"] for row in rows(ddp)] == [f"test_{n}" for n in range(6)]
    assert_same_weights(ddp / "checkpoint_1.pth", fsdp / "checkpoint_1.pth")
    assert shards.is_sharded(fsdp / "checkpoint_best.pth")
    assert not (ddp / "checkpoint_1.pth").is_dir()
    assert not list(fsdp.glob(".*"))
    hybrid = train("hybrid", *ways["hybrid"])
    assert len(losses(hybrid)) == 1
    if dist.rank() == 0:
        exported = export_checkpoint(fsdp, folder() / "model")
        model = load_model("blip_caption", str(exported))
        state = read_checkpoint(fsdp / "checkpoint_best.pth")
        assert all(torch.equal(model.state_dict()[n], v) for n, v in state.items())
        assert load_model("blip_caption", str(exported), checkpoint=str(fsdp / "checkpoint_1.pth"))
    dist.barrier()


def another_strategy_goes_on() -> None:
    """The second epoch, by another strategy than the first, ends as one that did both."""
    ddp, fsdp = toys.the_job(folder() / "ddp"), toys.the_job(folder() / "fsdp")
    point = sorted(ddp.glob("checkpoint_step*.pth"))[0]
    gone_on = train("to_fsdp", f"run.resume={point}", "run.strategy=fsdp")
    torch.testing.assert_close(losses(gone_on), losses(ddp)[1:], rtol=1e-3, atol=1e-4)
    assert_same_weights(ddp / "checkpoint_1.pth", gone_on / "checkpoint_1.pth")
    point = sorted(fsdp.glob("checkpoint_step*.pth"))[0]
    assert point.is_dir()
    gone_on = train("to_ddp", f"run.resume={point}")
    torch.testing.assert_close(losses(gone_on), losses(ddp)[1:], rtol=1e-3, atol=1e-4)
