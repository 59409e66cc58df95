"""The keys of ``run:`` that LAVIS does not have, each on the smallest model that shows it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lavis_clone.common.reading import ConfigError
from lavis_clone.common.training_options import EarlyStop, Lora
from lavis_clone.models.outputs import ModelOutput
from lavis_clone.runners.base import RunnerBase, TrainingFailed
from lavis_clone.runners.checkpoints import load_checkpoint
from lavis_clone.runners.iteration import RunnerIter
from tests.runners import toys

ALONE = {"valid_splits": [], "test_splits": []}


def log_lines(folder, name="log.txt"):
    text = (folder / name).read_text()
    if name == "log.txt":
        text = text[json.JSONDecoder().raw_decode(text)[1] :]
    return [json.loads(line) for line in text.splitlines() if line]


def checkpoints(folder):
    return sorted(p.stem.removeprefix("checkpoint_") for p in folder.glob("*.pth"))


def scores(*values):
    return toys.AnswerTask([{"agg_metrics": value, "x": -value} for value in values])


# --- the step -----------------------------------------------------------------------------------


def test_batches_of_one_step_count_by_their_samples(tmp_path):
    values = [[1.0, 2.0, 3.0, 4.0, 5.0], [60.0]]
    changes = {"accum_grad_iters": 2, "max_epoch": 1, "optimizer": "sgd", "momentum": 0.0}
    runner = toys.runner(tmp_path, **ALONE, **changes)
    runner.loaders["train"] = toys.loader(*values)
    runner.train()
    mean = torch.tensor(sum(values, [])).mean()
    assert runner.model.weight.item() == pytest.approx(0.1 * 2 * mean.item())  # lr * gradient at 0


@pytest.mark.parametrize(("clip", "step"), [(None, 0.1 * 2 * 1.5), (0.5, 0.1 * 0.5), (9.0, 0.3)])
def test_gradients_are_clipped(tmp_path, clip, step):
    changes = {"optimizer": "sgd", "momentum": 0.0, "max_epoch": 1, "limit_train_batches": 1}
    runner = toys.runner(tmp_path, grad_clip=clip, **ALONE, **changes)
    runner.train()
    assert runner.model.weight.item() == pytest.approx(step)


def test_the_average_is_judged_and_kept_and_the_weights_go_on(tmp_path):
    task = scores(1.0, 2.0, 3.0)
    runner = toys.runner(tmp_path, ema=0.5, task=task, keep_last=1)
    runner.train()
    point = load_checkpoint(tmp_path / "checkpoint_step6.pth")
    weight, average = point["resume"]["weights"]["weight"], point["model"]["weight"]
    plain = toys.runner(tmp_path / "plain", keep_last=1)
    plain.train()
    kept = load_checkpoint(tmp_path / "plain" / "checkpoint_step6.pth")["model"]["weight"]
    assert torch.equal(kept, weight)
    each = toys.runner(tmp_path / "each", keep_last=9, save_every=1, **ALONE)
    each.train()
    by_hand = torch.zeros(1, 1)
    for number in range(1, 7):
        at = load_checkpoint(tmp_path / "each" / f"checkpoint_step{number}.pth")
        by_hand = 0.5 * by_hand + 0.5 * at["model"]["weight"]
    assert torch.allclose(average, by_hand)
    rows = json.loads((tmp_path / "result/val_epoch1.json").read_text())
    assert rows[0]["answer"] == pytest.approx(1.0 + average.item())
    rows = json.loads((tmp_path / "result/test_epochbest.json").read_text())
    assert rows[0]["answer"] == pytest.approx(4.0 + average.item())


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(1, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, samples, progress=None):
        return ModelOutput(loss=(self.answer(samples["x"]) - samples["x"]).square().mean())

    def answer(self, x):
        return self.head(self.inner(x[:, None]).tanh())[:, 0]


@pytest.mark.parametrize("ema", [None, 0.5])
def test_low_rank_matrices_learn_and_are_merged_into_what_is_kept(tmp_path, ema):
    lora = Lora(targets=["inn.*"], rank=2, also_train=["head.bias"])
    start = TwoLayers().state_dict()
    runner = toys.runner(tmp_path, model=TwoLayers(), lora=lora, task=scores(1.0, 2.0), ema=ema)
    runner.train()
    kept = load_checkpoint(tmp_path / "checkpoint_best.pth")
    assert kept["model"].keys() == start.keys()
    moved = {name for name, value in kept["model"].items() if not torch.equal(value, start[name])}
    assert moved == {"inner.weight", "head.bias"}
    merged = TwoLayers()
    merged.load_state_dict(kept["model"])
    x = torch.tensor([1.0, -2.0])
    with runner.session.training.evaluated():
        assert torch.allclose(merged.answer(x), runner.model.answer(x), atol=1e-6)
    again = toys.runner(
        tmp_path, model=TwoLayers(), lora=lora, ema=ema, resume=str(tmp_path / "checkpoint_1.pth")
    )
    again.train()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_copies_of_a_part_get_the_same_matrices():
    from lavis_clone.common.lora import add_lora, lora_targets

    class Copied(nn.Module):
        copied = ("inner",)

        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(2, 2))
            self.inner_m = nn.Sequential(nn.Linear(2, 2)).requires_grad_(False)

    model, lora = Copied(), Lora(targets=["inner.*"])
    assert lora_targets(model, lora) == ["inner.0", "inner_m.0"]
    add_lora(model, lora)
    state = model.state_dict()
    assert torch.equal(
        state["inner.0.lora_A.default.weight"], state["inner_m.0.lora_A.default.weight"]
    )
    learns = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learns == ["inner.0.lora_A.default.weight", "inner.0.lora_B.default.weight"]
    with pytest.raises(ValueError, match="run.lora.targets: no linear layer.* 'outer'; there are"):
        lora_targets(model, Lora(targets=["outer"]))
    with pytest.raises(ValueError, match="run.lora.also_train: no weight's name starts with 'x'"):
        lora_targets(model, Lora(targets=["inner.*"], also_train=["x"]))


@pytest.mark.parametrize(
    ("how", "compiled"), [("off", []), ("model", ["model"]), (True, ["model"])]
)
def test_what_is_compiled(tmp_path, monkeypatch, how, compiled):
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: asked.append("model"))
    toys.runner(tmp_path, compile=how, **ALONE).train()
    assert asked == compiled


def test_a_compiled_step_takes_the_place_of_the_tasks(tmp_path, monkeypatch):
    calls = []

    def compiled(function):
        return lambda *args: calls.append(function.__name__) or function(*args)

    monkeypatch.setattr(torch, "compile", compiled)
    toys.runner(tmp_path, compile="step", **ALONE).train()
    assert calls == ["train_step"] * 6


# --- when ---------------------------------------------------------------------------------------


def test_validation_by_steps(tmp_path):
    toys.runner(tmp_path, val_every=2, task=scores(1.0, 3.0, 2.0, 0.0)).train()
    validated = [line for line in log_lines(tmp_path) if "val_x" in line]
    assert [line["step"] for line in validated] == [2, 4, 6]
    assert [line["epoch"] for line in validated] == [0, 1, 1]
    best = [(line["best_epoch"], line["best_step"]) for line in validated]
    assert best == [(0, 2), (1, 4), (1, 4)]
    assert (tmp_path / "result/val_step4.json").exists()


def test_the_end_is_validated_whatever_val_every_says(tmp_path):
    toys.runner(tmp_path, val_every=4, task=scores(1.0, 3.0, 0.0)).train()
    assert [line["step"] for line in log_lines(tmp_path) if "val_x" in line] == [4, 6]


@pytest.mark.parametrize(
    ("changes", "values", "num_epochs"),
    [
        ({}, [1.0, 0.9, 0.8, 0.7], 3),
        ({}, [1.0, 2.0, 1.5, 1.6, 9.0], 4),
        ({"early_stop": EarlyStop(patience=2, min_delta=0.5)}, [1.0, 1.4, 1.5, 1.6], 3),
        ({"best_mode": "min"}, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], 8),
        ({"val_every": 2}, [3.0, 2.0, 1.0], 2),
    ],
)
def test_training_stops_when_nothing_gets_better(tmp_path, changes, values, num_epochs):
    task = scores(*values)
    given = {"early_stop": EarlyStop(patience=2), "max_epoch": 8, "test_splits": [], **changes}
    runner = toys.runner(tmp_path, task=task, **given)
    runner.train()
    epochs = [line["epoch"] for line in log_lines(tmp_path) if "train_loss" in line]
    assert epochs == list(range(num_epochs))
    assert str(num_epochs - 1) in checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        ({}, 2),
        ({"best_mode": "min"}, 0),
        ({"best_metric": "x"}, 0),
        ({"best_metric": "x", "best_mode": "min"}, 2),
    ],
)
def test_another_score_may_decide(tmp_path, changes, best):
    runner = toys.runner(tmp_path, task=scores(1.0, 2.0, 3.0, 0.0), max_epoch=3, **changes)
    runner.train()
    assert runner.best_epoch == best


def test_a_score_that_is_not_there_cannot_decide(tmp_path):
    with pytest.raises(ValueError, match=r"scored no 'y'.*run.best_metric.*scored agg_metrics, x"):
        toys.runner(tmp_path, task=scores(1.0), best_metric="y").train()


def test_only_so_many_batches_are_trained_on(tmp_path):
    runner = toys.runner(tmp_path, limit_train_batches=2, **ALONE)
    runner.train()
    assert [p.step for p in runner.model.seen] == [0, 1, 2, 3]
    assert {p.total_steps for p in runner.model.seen} == {4}


# --- what stays ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"keep_last": 1}, ["3", "step12"]),
        ({"keep_last": 2, "save_every": 1}, ["2", "3", "step11", "step12"]),
        ({"save_every": 1}, ["0", "1", "2", "3"]),
        (
            {"save_every": "0.0000001m", "keep_last": 3},
            ["1", "2", "3", "step10", "step11", "step12"],
        ),
    ],
)
def test_how_many_checkpoints_stay(tmp_path, changes, kept):
    toys.runner(tmp_path, max_epoch=4, **ALONE, **changes).train()
    assert checkpoints(tmp_path) == sorted(kept)


def test_a_second_name_takes_no_second_place(tmp_path):
    toys.runner(tmp_path, keep_last=1, task=scores(1.0, 2.0)).train()
    numbers = {(tmp_path / f"checkpoint_{n}.pth").stat().st_ino for n in ("best", "1", "step6")}
    assert len(numbers) == 1


# --- by steps -----------------------------------------------------------------------------------


def by_steps(folder, *, task=None, **changes):
    base = toys.runner(folder, task=task)
    given = {"runner": "runner_iter", "max_epoch": None, "max_iters": 7, **changes}
    return RunnerIter(
        toys.run_config(**{"iters_per_inner_epoch": 3, **given}),
        task=base.task,
        model=base.model,
        loaders=base.loaders,
        context=base.context,
        config=base.config,
    )


def test_a_runner_of_steps_goes_through_the_data_as_often_as_it_must(tmp_path):
    runner = by_steps(tmp_path, task=scores(1.0, 3.0, 2.0, 0.0))
    runner.train()
    assert [p.step for p in runner.model.seen] == list(range(7))
    assert {(p.steps_per_epoch, p.total_steps) for p in runner.model.seen} == {(3, 7)}
    assert runner.loaders["train"].epochs == [0, 1, 2]
    lines = log_lines(tmp_path)
    trained = [(line["epoch"], line["iters"]) for line in lines if "train_loss" in line]
    assert trained == [(0, 3), (1, 6), (2, 7)]
    assert [line["best_epoch"] for line in lines if "val_x" in line] == [0, 1, 1]
    assert checkpoints(tmp_path) == ["7", "best"]
    assert load_checkpoint(tmp_path / "checkpoint_best.pth")["iters"] == 6
    assert (tmp_path / "result/test_epochbest.json").exists()


def test_a_step_of_several_batches_may_reach_into_the_next_pass(tmp_path):
    runner = by_steps(tmp_path, accum_grad_iters=2, max_iters=3, **ALONE)
    runner.train()
    assert [p.step for p in runner.model.seen] == [0, 0, 1, 1, 2, 2]
    assert runner.loaders["train"].epochs == [0, 1]
    assert checkpoints(tmp_path) == ["3"]


def test_runners_do_not_take_each_others_keys():
    for cls, changes, told in (
        (RunnerIter, {"max_epoch": 3}, "max_epoch: belongs to runner_base"),
        (RunnerBase, {"max_iters": 3}, "max_iters, iters_per_inner_epoch: belong to runner_iter"),
    ):
        with pytest.raises(ConfigError, match=f"^run.{told}"):
            cls.check(toys.run_config(**changes))


def test_data_without_a_batch_is_told(tmp_path):
    runner = by_steps(tmp_path, **ALONE)
    runner.loaders["train"] = toys.loader()
    with pytest.raises(TrainingFailed, match="the training data gives no batch"):
        runner.train()


# --- what one sees ------------------------------------------------------------------------------


def test_numbers_by_step_and_what_a_job_says_of_itself(tmp_path):
    toys.runner(tmp_path, log_freq=2, task=scores(1.0, 2.0)).train()
    entries = log_lines(tmp_path, "metrics.jsonl")
    steps = [entry["step"] for entry in entries if "train/loss" in entry]
    assert steps == [2, 5]  # the rest of an epoch is looked at when it ends
    first = entries[0]
    assert first["samples_per_second"] > 0 and 0 <= first["data_wait"] <= 1
    assert first["memory_gb"] > 0.01 and first["train/lr"] == 0.1
    best = [entry["best/agg_metrics"] for entry in entries if "val/x" in entry]
    assert best == [1.0, 2.0]
    assert [entry["epoch/loss"] for entry in entries if "epoch/loss" in entry] == [
        line["train_loss"] for line in log_lines(tmp_path) if "train_loss" in line
    ]
    assert json.loads((tmp_path / "job.json").read_text())["status"] == "finished"


def test_a_bad_loss_leaves_a_note_of_its_samples(tmp_path):
    class Tracing(toys.ListLoader):
        def __iter__(self):
            for number, batch in enumerate(self.batches):
                self.last_keys = [("toys", 10 * number), ("toys", 10 * number + 1)]
                yield batch

    runner = toys.runner(tmp_path, **ALONE)
    bad = toys.loader([1.0, 2.0], [3.0, float("nan")], [5.0, 6.0])
    runner.loaders["train"] = Tracing(bad.batches)
    with pytest.raises(TrainingFailed, match="epoch 0, batch 2"):
        runner.train()
    assert json.loads((tmp_path / "bad_batch.json").read_text()) == {
        "epoch": 0,
        "step": 3,
        "batch": 2,
        "loss": "nan",
        "samples": [["toys", 10], ["toys", 11]],
    }


def test_tensorboard_gets_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    toys.runner(tmp_path, log_freq=1, loggers=["tensorboard"], task=scores(1.0, 2.0)).train()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [e.value for e in events.Scalars("val/agg_metrics")] == [1.0, 2.0]


def test_wandb_gets_the_numbers(tmp_path, monkeypatch):
    import sys
    from types import SimpleNamespace

    told, ended = [], []

    class Run:
        def log(self, values, step):
            told.append((step, sorted(values)))

        def finish(self):
            ended.append(True)

    started = []
    module = SimpleNamespace(init=lambda **given: started.append(given) or Run())
    module.__spec__ = SimpleNamespace(name="wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)
    toys.runner(tmp_path, log_freq=1, max_epoch=1, loggers=["wandb"], **ALONE).train()
    assert [step for step, names in told if "train/loss" in names] == [1, 2, 3]
    assert ended == [True]
    assert started[0]["config"] == {"run": {"max_epoch": 2}}
    assert (started[0]["name"], started[0]["resume"]) == (tmp_path.name, "allow")


def test_packages_that_are_not_there_are_told_before_any_work(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = toys.run_config(loggers=["wandb"], lora=Lora(targets=["x"]))
    with pytest.raises(ConfigError) as told:
        RunnerBase.check(run)
    assert str(told.value).splitlines() == [
        "run.loggers: wandb needs the Python package 'wandb': pip install 'lavis_clone[log]'",
        "run.lora needs the Python package 'peft': pip install 'lavis_clone[train]'",
    ]
