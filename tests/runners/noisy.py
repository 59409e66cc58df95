"""A model that depends on everything that going on has to bring back, and real loaders for it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lavis_clone.common.context import RunContext
from lavis_clone.common.progress import Progress
from lavis_clone.common.seed import seed_everything
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.models.outputs import ModelOutput
from lavis_clone.runners.base import RunnerBase
from lavis_clone.runners.iteration import RunnerIter
from lavis_clone.tasks.base import BaseTask, Row
from tests.runners import toys

NUM_SAMPLES, WIDTH, QUEUE = 14, 4, 6
TIMED = ("samples_per_second", "data_wait", "memory_gb")


class Points(Dataset[Mapping[str, Any]]):
    """Points near a line; augmented, so that each epoch's are others."""

    name, split = "points", "train"

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        base = torch.linspace(-1, 1, WIDTH) * (index + 1) / NUM_SAMPLES
        return {"image": base + 0.1 * torch.randn(WIDTH), "id": str(index)}


class Noisy(nn.Module):
    """Two layers with dropout, a momentum copy, a queue, and noise of three generators."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, 1)
        self.encoder_m = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(QUEUE, WIDTH))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))
        self.before_step: Callable[[int], None] = lambda number: None
        self.num_calls = 0

    queue: Tensor
    place: Tensor

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:
        self.num_calls += 1
        self.before_step(self.num_calls)
        x = samples["image"]
        with torch.no_grad():
            self.encoder_m.weight.lerp_(self.encoder.weight, 0.1)
            old = self.encoder_m(x)
            at = (int(self.place) + torch.arange(len(x))) % QUEUE
            self.queue[at] = old
            self.place[0] = (int(self.place) + len(x)) % QUEUE
        new = torch.dropout(self.norm(self.encoder(x)), 0.2, True)
        noise = random.random() + float(np.random.rand()) + torch.rand(())
        share = 0.0 if progress is None else progress.epoch
        teach = ((new - self.queue.mean(0) - share) ** 2).mean()
        loss = teach + ((self.head(new) - 0.1 * noise) ** 2).mean()
        return ModelOutput(loss=loss, loss_lm=teach)

    def answer(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))[:, 0]


class GuessTask(BaseTask):
    """Scores by how far its answers are from 1; draws random numbers in evaluation, too."""

    name, key, evaluates_with = "guess", "id", toys.Answers

    def valid_step(self, model: Any, samples: Mapping[str, Any]) -> list[Row]:
        answers = model.answer(samples["image"]) + 0.01 * torch.rand(())
        return [{"id": i, "answer": float(a)} for i, a in zip(samples["id"], answers, strict=True)]

    def score(self, rows: Any, dataset: Any) -> dict[str, float]:
        error = sum(abs(row["answer"] - 1) for row in rows) / len(rows)
        return {"agg_metrics": -error, "error": error}


def runner(folder: Path, **changes: Any) -> RunnerBase:
    """A runner of the above; with ``max_iters`` one that counts steps."""
    folder.mkdir(parents=True, exist_ok=True)
    seed_everything(7)
    given = {"max_epoch": 3, "log_freq": 2, "accum_grad_iters": 2, "resume": "auto", **changes}
    if "max_iters" in given:
        given |= {"max_epoch": None, "runner": "runner_iter"}
    context = RunContext(folder, torch.device("cpu"))
    make = {"batch_size": 2, "num_workers": given.pop("num_workers", 0), "context": context}
    loaders = {
        split: build_loader(Points(), is_train=split == "train", **make)
        for split in ("train", "val", "test")
    }
    cls = RunnerIter if "max_iters" in given else RunnerBase
    return cls(
        toys.run_config(**given),
        task=GuessTask(None),
        model=Noisy(),
        loaders=loaders,
        context=context,
        config={"run": {}},
    )


def left_behind(folder: Path) -> dict[str, Any]:
    """Everything in a job's directory that must not depend on whether it was stopped."""
    content: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name in ("job.json", "console.log", "config.yaml") or path.is_dir():
            continue
        if path.suffix == ".pth":
            content[name] = flat(torch.load(path, weights_only=True))
        elif path.name == "metrics.jsonl":
            entries = [json.loads(line) for line in path.read_text().splitlines()]
            content[name] = [{k: v for k, v in e.items() if k not in TIMED} for e in entries]
        else:
            content[name] = path.read_text()
    return content


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values by dotted names, tensors as lists; lengths of files with times are left out."""
    if isinstance(value, Mapping):
        pairs = [(f"{name}.{key}", item) for key, item in value.items() if key != "metrics.jsonl"]
    elif isinstance(value, (list, tuple)):
        pairs = [(f"{name}.{index}", item) for index, item in enumerate(value)]
    else:
        return {name: value.tolist() if isinstance(value, Tensor) else value}
    return {key: found for part, item in pairs for key, found in flat(item, part).items()}
