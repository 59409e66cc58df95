"""What test_strategy.py runs in each of two processes."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common import dist, sharding
from lavis_clone.common.context import RunContext
from lavis_clone.common.optim import build_optimizer
from lavis_clone.runners.strategy import Strategy
from tests.contract.test_models import TINY, build
from tests.models import tiny
from tests.runners.toys import run_config

BIAS_OF_KEYS = "key.bias"
"""Has no gradient but noise: softmax does not see what is added to all scores."""
SPREAD = (
    "albef_nlvr",  # layers share weights
    "albef_vqa",
    "alpro_retrieval",
    "blip_pretrain",  # towers share layers
    "clip",
    "gpt_dialogue",
)
_folders: list[tempfile.TemporaryDirectory[str]] = []


def words() -> Path:
    """A vocabulary, of this process alone."""
    if not _folders:
        _folders.append(tempfile.TemporaryDirectory())
        return tiny.write_vocabulary(Path(_folders[0].name))
    return Path(_folders[0].name) / "vocab.txt"


def strategy(name: str, **run: Any) -> Strategy:
    """By its name; ``alone`` is what a single process has."""
    context = RunContext(Path("unused"), torch.device("cpu"), dist.rank(), dist.world_size())
    if name == "alone":
        return Strategy(run_config(), context)
    return Strategy.of(run_config(strategy=name, **run), context)


def own_part(samples: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """One sample of a batch."""
    return {name: value[rank : rank + 1] for name, value in samples.items()}


def samples_of(name: str, rank: int) -> dict[str, Any]:
    """A batch of one for each rank. Answers are as many as questions then."""
    samples = TINY[name].samples(2)
    if "n_answers" in samples:
        samples |= {"answer": samples["answer"][:2], "weight": samples["weight"][:2]}
        samples["n_answers"] = torch.tensor([1, 1])
    return own_part(samples, rank)


class Run:
    """A model that takes steps with a strategy."""

    def __init__(
        self, model_name: str, name: str, *, seed: int = 0, optimizer: str = "adamw", **run: Any
    ) -> None:
        self.strategy = strategy(name, **run)
        bare = build(model_name, words(), seed=seed)
        self.model = self.strategy.prepare(bare.train())
        self.bare: Any = self.strategy.unwrap(self.model)
        rates = {"init_lr": 0.01, "weight_decay": 0.1, "optimizer": optimizer}
        self.optimizer = build_optimizer(self.bare, run_config(**rates))

    def backward(self, samples: Mapping[str, Any], *, seed: int = 0) -> Tensor:
        torch.manual_seed(seed + dist.rank())  # of dropout and wrong partners
        loss: Tensor = self.model(samples).loss
        loss.backward()
        return loss.detach()

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; in every process."""
        model = self.strategy.model_state(self.model)
        optimizer = self.strategy.optimizer_state(self.model, self.optimizer)
        return dist.broadcast(copy.deepcopy({"model": model, "optimizer": optimizer}))

    def grads(self) -> dict[str, Tensor]:
        named = self.bare.named_parameters()
        return {n: dist.whole(p.grad).clone() for n, p in named if p.grad is not None}


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], **near: Any) -> None:
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    for name, value in wanted.items():
        if not name.endswith(BIAS_OF_KEYS):
            torch.testing.assert_close(found[name], value, msg=name, **near)


def replicas_are_accumulation() -> None:
    """Two processes with a batch each are one process that collects the gradients of both."""
    for name in ("blip_caption", "blip_vqa", "clip"):
        changes: dict[str, Any] = {"gather": False} if name == "clip" else {}
        alone = build(name, words(), **changes).eval()  # without dropout
        for rank in (0, 1):
            (alone(samples_of(name, rank)).loss / 2).backward()
        wanted = {n: p.grad for n, p in alone.named_parameters() if p.grad is not None}
        for way in ("ddp", "fsdp"):
            chosen = strategy(way)
            model = chosen.prepare(build(name, words(), **changes).eval())
            model(samples_of(name, dist.rank())).loss.backward()
            named = chosen.unwrap(model).named_parameters()
            found = {n: dist.whole(p.grad) for n, p in named if p.grad is not None}
            assert_same(found, wanted, rtol=1e-6, atol=1e-6)


def shards_are_replicas() -> None:
    """Two steps: weights, momentum copies, queues and averages of gradients are the same."""
    for name in SPREAD:
        both = []
        for way in ("ddp", "fsdp"):
            run = Run(name, way, optimizer="sgd")  # which does not make noise as large as the rest
            steps = []
            for step in range(2):
                steps.append(run.backward(samples_of(name, dist.rank()), seed=10 * step))
                run.step()
            both.append((torch.stack(steps), run.state()))
        (losses, replicated), (found, sharded) = both
        torch.testing.assert_close(found, losses, msg=name)
        assert_same(sharded["model"], replicated["model"], rtol=1e-4, atol=1e-5)
        groups = [
            [group["params"] for group in state["optimizer"]["param_groups"]]
            for state in (sharded, replicated)
        ]
        assert groups[0] == groups[1], name


def momentum_and_queue() -> None:
    """After three steps of one process with all samples, and of two processes with one each."""
    for way in ("ddp", "fsdp"):
        run = Run("albef_retrieval", way)
        before = run.state()["model"]
        copied = [n for n in before if n.startswith(("visual_encoder_m.", "vision_proj_m."))]
        expected = {n: before[n].clone() for n in copied}
        for step in range(3):
            current = run.state()["model"]
            for n in copied:
                expected[n].lerp_(current[n.replace("_m.", ".", 1)], 1 - run.bare.config.momentum)
            run.backward(samples_of("albef_retrieval", dist.rank()), seed=step)
            run.step()
        after = run.state()["model"]
        floats = {n: v for n, v in expected.items() if v.is_floating_point()}
        assert_same({n: after[n] for n in floats}, floats)
        assert after["queue_ptr"].item() == 6
        own = {n: v for n, v in run.bare.named_buffers() if n.endswith("_queue")}
        first = dist.broadcast(own)
        assert len(own) == 3
        assert_same(own, first, rtol=0, atol=0)
        assert not torch.equal(own["image_queue"][:, :6], before["image_queue"][:, :6])
        assert torch.equal(own["image_queue"][:, 6:], before["image_queue"][:, 6:])
        assert own["idx_queue"][0].tolist() == [0, 1] * 3 + [-100] * 2


def gradients_are_collected_and_clipped() -> None:
    """Of two batches in each process, exchanged once; the norm is that of all weights."""
    found = []
    ways: list[tuple[str, dict[str, Any]]] = [("ddp", {}), ("fsdp", {})]
    for way, more in [*ways, ("fsdp_hybrid", {"shard_size": 1})]:
        run = Run("blip_retrieval", way, **more)
        with run.strategy.accumulating(run.model):
            run.backward(samples_of("blip_retrieval", dist.rank()))
        run.backward(samples_of("blip_retrieval", 1 - dist.rank()), seed=5)
        grads = run.grads()
        norm = run.strategy.clip_grad_norm(run.model, 0.5)
        expected = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads.values()]))
        torch.testing.assert_close(norm, expected)
        clipped = torch.stack([g.norm() for g in run.grads().values()]).norm()
        assert abs(clipped.item() - 0.5) < 1e-4 < 0.4 < norm.item()
        found.append(grads)
    assert_same(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert_same(found[2], found[0], rtol=1e-4, atol=1e-5)


def what_is_kept_fits_another_strategy() -> None:
    """Whatever wrote it, a single process, replicas and shards go on from it in the same way."""
    name = "blip_retrieval"
    first = Run(name, "fsdp")
    first.backward(samples_of(name, dist.rank()))
    first.step()
    state = first.state()
    for writer in ("fsdp", "ddp", "alone"):
        if writer != "fsdp":
            source = Run(name, writer, seed=1)
            source.strategy.load(source.model, source.optimizer, copy.deepcopy(state))
            again = source.state()
            assert_same(again["model"], state["model"], rtol=0, atol=0)
        else:
            again = state
        other = Run(name, "fsdp", seed=2)
        other.strategy.load(other.model, other.optimizer, copy.deepcopy(again))
        last = other.state()
        assert_same(last["model"], state["model"], rtol=0, atol=0)
        moments = [s["optimizer"]["state"][0]["exp_avg"] for s in (last, state)]
        assert torch.equal(*moments) and moments[0].abs().sum() > 0
        first_loss = other.backward(samples_of(name, dist.rank()), seed=3)
        if writer == "fsdp":
            expected = first_loss
        torch.testing.assert_close(first_loss, expected, rtol=0, atol=0)


def uneven_evaluation() -> None:
    """A process may have more to evaluate than another, before training and after it."""
    alone = build("blip_caption", words()).eval()
    samples = {"image": tiny.images(2)}
    wanted = alone.generate(samples, max_length=8, min_length=1)
    run = Run("blip_caption", "fsdp")
    for _ in range(2):
        run.bare.eval()
        with run.strategy.evaluating(run.model), torch.no_grad():
            for _ in range(dist.rank()):
                found = run.bare.generate(samples, max_length=8, min_length=1)
                assert found == wanted
        run.bare.train()
    run.backward(samples_of("blip_caption", dist.rank()))
    run.step()
    with run.strategy.evaluating(run.model), torch.no_grad():
        texts = (
            run.bare.eval().generate(samples, max_length=8, min_length=1) if dist.rank() else None
        )
    alone.load_state_dict(run.state()["model"])
    if texts is not None:
        assert texts == alone.generate(samples, max_length=8, min_length=1)


def statistics() -> None:
    """Batch norms have seen different pictures; evaluation and checkpoints take the mean."""
    chosen = strategy("ddp")
    norm = nn.BatchNorm1d(1, momentum=1.0)
    model = nn.Sequential(norm, nn.Linear(1, 1))
    seen: Any = norm.running_mean
    replica = chosen.prepare(model)
    replica(torch.tensor([[1.0], [3.0]]) + 2 * dist.rank()).sum().backward()
    assert seen.item() == 2.0 + 2 * dist.rank()
    with chosen.evaluating(replica):
        assert seen.item() == 3.0
    state = dist.broadcast(chosen.model_state(replica))
    assert state["0.running_mean"].item() == 3.0
    assert chosen.any([dist.rank() == 1, False]) == [True, False]


def meshes() -> None:
    """Which processes share a copy of the model."""
    assert sharding.build_mesh("cpu", hybrid=False).shape == (2,)
    assert sharding.build_mesh("cpu", hybrid=True).shape == (1, 2)  # both on this machine
    assert sharding.build_mesh("cpu", hybrid=True, size=1).shape == (2, 1)
    try:
        sharding.build_mesh("cpu", hybrid=True, size=3)
    except sharding.MeshError as error:
        assert "run.shard_size (3) must divide" in str(error)
    else:
        raise AssertionError("two processes cannot share in threes")
