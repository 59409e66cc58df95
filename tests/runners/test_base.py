"""The loop: what is trained, when it is judged, what is kept and what is written."""

from __future__ import annotations

import json
import logging
import math

import pytest
import torch

from lavis_clone.common.optim import build_optimizer
from lavis_clone.common.reading import ConfigError
from lavis_clone.runners.base import RunnerBase, TrainingFailed, to_device
from tests.runners import toys


def lines(path):
    """The config at the head of log.txt, and the JSON lines below it."""
    text = path.read_text()
    config, end = json.JSONDecoder().raw_decode(text)
    return config, [json.loads(line) for line in text[end:].splitlines() if line]


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def scores(*values):
    return toys.AnswerTask([{"agg_metrics": value, "x": 2 * value} for value in values])


def test_what_is_frozen_neither_learns_nor_collects(tmp_path):
    class WithNorm(toys.OneWeight):
        def __init__(self):
            super().__init__()
            self.tower = torch.nn.BatchNorm1d(1)

        def forward(self, samples, progress=None):
            return super().forward({"x": self.tower(samples["x"][:, None])[:, 0]}, progress)

    for freeze, stays in (["tower"], True), ([], False):
        model = WithNorm()
        before = {k: v.clone() for k, v in model.tower.state_dict().items()}
        toys.runner(tmp_path / str(stays), model=model, freeze=freeze).train()
        same = [v.equal(before[k]) for k, v in model.tower.state_dict().items()]
        assert all(same) if stays else not any(same)
        assert model.weight.abs().item() > 0


# --- what is written ----------------------------------------------------------------------------


def test_log_is_the_config_and_then_a_line_for_each_epoch_and_validation(tmp_path):
    runner = toys.runner(tmp_path, task=scores(1.0, 3.0, 5.0))
    result = runner.train()
    assert (tmp_path / "log.txt").read_text().startswith('{\n    "run": {\n        "max_epoch": 2')
    config, entries = lines(tmp_path / "log.txt")
    assert config == {"run": {"max_epoch": 2}}
    assert [sorted(entry) for entry in entries] == [
        ["epoch", "train_loss", "train_loss_lm", "train_lr"],
        ["best_epoch", "epoch", "val_agg_metrics", "val_x"],
    ] * 2
    assert [entry["epoch"] for entry in entries] == [0, 0, 1, 1]
    assert [entries[i]["val_agg_metrics"] for i in (1, 3)] == [1.0, 3.0]
    assert [entries[i]["best_epoch"] for i in (1, 3)] == [0, 1]
    assert entries[0]["train_lr"] == 0.1
    assert entries[0]["train_loss_lm"] == pytest.approx(2 * entries[0]["train_loss"])
    tested = [json.loads(line) for line in (tmp_path / "evaluate.txt").read_text().splitlines()]
    assert tested == [{"test": {"agg_metrics": 5.0, "x": 10.0}}]
    assert result == {"test": {"agg_metrics": 5.0, "x": 10.0}}


def test_files_of_a_job(tmp_path):
    toys.runner(tmp_path, task=scores(1.0, 0.5)).train()
    assert files(tmp_path) == [
        "checkpoint_1.pth",
        "checkpoint_best.pth",
        "evaluate.txt",
        "job.json",
        "log.txt",
        "metrics.jsonl",
        "result/test_epochbest.json",
        "result/val_epoch0.json",
        "result/val_epoch1.json",
    ]


def test_rows_of_one_key_are_written_once(tmp_path):
    toys.runner(tmp_path).train()
    rows = json.loads((tmp_path / "result/test_epochbest.json").read_text())
    assert [row["image_id"] for row in rows] == ["4.0", "5.0"]


def test_checkpoint_holds_what_lavis_puts_in(tmp_path):
    runner = toys.runner(tmp_path, valid_splits=[], test_splits=[])
    runner.train()
    content = torch.load(tmp_path / "checkpoint_1.pth", weights_only=True)
    assert sorted(content) == ["config", "epoch", "model", "optimizer", "resume", "scaler"]
    assert content["epoch"] == 1
    assert content["config"] == {"run": {"max_epoch": 2}}
    assert content["scaler"] is None
    assert torch.equal(content["model"]["weight"], runner.model.weight)
    optimizer = build_optimizer(runner.model, runner.run)
    optimizer.load_state_dict(content["optimizer"])
    assert optimizer.state[runner.model.weight]["step"] == 6


@pytest.mark.parametrize(
    ("changes", "validated", "kept"),
    [
        ({"max_epoch": 4}, [0, 1, 2, 3], ["3", "best"]),
        ({"max_epoch": 4, "val_freq": 2}, [1, 3], ["3", "best"]),
        ({"max_epoch": 4, "val_freq": 3}, [2, 3], ["3", "best"]),
        ({"max_epoch": 4, "save_last": False}, [0, 1, 2, 3], ["best"]),
        ({"max_epoch": 4, "save_freq": 3, "save_last": False}, [0, 1, 2, 3], ["best"]),
        ({"max_epoch": 4, "valid_splits": []}, [], ["0", "1", "2", "3"]),
        ({"max_epoch": 4, "valid_splits": [], "save_freq": 3}, [], ["2", "3"]),
        ({"max_epoch": 4, "valid_splits": [], "save_freq": 3, "save_last": False}, [], ["2"]),
    ],
)
def test_when_it_validates_and_what_it_keeps(tmp_path, changes, validated, kept):
    toys.runner(tmp_path, task=scores(1.0, 0.9, 0.8, 0.7), **changes).train()
    _, entries = lines(tmp_path / "log.txt")
    assert [entry["epoch"] for entry in entries if "best_epoch" in entry] == validated
    names = [p.stem.removeprefix("checkpoint_") for p in tmp_path.glob("*.pth")]
    assert sorted(names) == kept


def test_log_has_a_line_after_every_log_freq_batches(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lavis_clone")
    toys.runner(tmp_path, log_freq=2, max_epoch=1, valid_splits=[], test_splits=[]).train()
    told = [r.message for r in caplog.records if "batch" in r.message]
    assert len(told) == 1
    assert told[0].startswith("epoch 0, batch 2 of 3: loss ")
    assert any(r.message.startswith("epoch 0: {'lr': 0.1") for r in caplog.records)


# --- which weights are the best -----------------------------------------------------------------


def best_weight(folder):
    content = torch.load(folder / "checkpoint_best.pth", weights_only=True)
    return content["epoch"], content["model"]["weight"]


@pytest.mark.parametrize(
    ("higher", "values", "best"),
    [
        (True, [1.0, 3.0, 2.0], 1),
        (False, [3.0, 1.0, 2.0], 1),
        (True, [2.0, 2.0, 2.0], 0),
        (True, [-3.0, -2.0, -5.0], 1),
        (True, [math.nan, 1.0, math.nan], 1),
        (False, [math.nan, 1.0, 2.0], 1),
    ],
)
def test_best_weights_are_kept_and_tested(tmp_path, higher, values, best):
    task = scores(*values, 9.0)
    task.higher_is_better = higher
    runner = toys.runner(tmp_path, task=task, max_epoch=3)
    assert runner.train() == {"test": {"agg_metrics": 9.0, "x": 18.0}}
    assert runner.best_epoch == best
    epoch, weight = best_weight(tmp_path)
    assert epoch == best
    assert torch.equal(runner.model.weight.detach(), weight)
    rows = json.loads((tmp_path / "result/test_epochbest.json").read_text())
    assert rows[0]["answer"] == pytest.approx(4.0 + weight.item())


def test_val_decides_even_if_another_split_comes_first(tmp_path):
    task = scores(*(5.0, 1.0), *(1.0, 2.0))  # other, val in each of two epochs
    runner = toys.runner(tmp_path, task=task, valid_splits=["other", "val"], test_splits=[])
    runner.train()
    assert runner.best_epoch == 1


def test_without_val_the_first_split_decides(tmp_path):
    task = scores(*(5.0, 1.0), *(1.0, 2.0))  # other, test
    runner = toys.runner(tmp_path, task=task, valid_splits=["other", "test"], test_splits=[])
    runner.train()
    assert runner.best_epoch == 0


@pytest.mark.parametrize(
    ("task", "changes"),
    [(None, {"valid_splits": []}), (toys.AnswerTask([{}, {}, {"x": 1.0}]), {})],
    ids=["no validation", "nothing is scored"],
)
def test_without_scores_the_last_weights_are_tested(tmp_path, task, changes):
    runner = toys.runner(tmp_path, task=task, **changes)
    runner.train()
    assert runner.best_epoch is None
    assert not (tmp_path / "checkpoint_best.pth").exists()
    rows = json.loads((tmp_path / "result/test_epoch1.json").read_text())
    last = torch.load(tmp_path / "checkpoint_1.pth", weights_only=True)["model"]["weight"]
    assert rows[0]["answer"] == pytest.approx(4.0 + last.item())


def test_scores_without_the_one_that_decides_are_an_error(tmp_path):
    runner = toys.runner(tmp_path, task=toys.AnswerTask([{"x": 1.0}]))
    with pytest.raises(ValueError, match="scored no 'agg_metrics'"):
        runner.train()


def test_evaluation_alone_uses_the_weights_it_was_given(tmp_path):
    runner = toys.runner(tmp_path, task=scores(1.0, 2.0), evaluate=True)
    with torch.no_grad():
        runner.model.weight.fill_(7.0)
    assert list(runner.evaluate(["val", "test", "val"])) == ["val", "test"]
    rows = json.loads((tmp_path / "result/test_epochbest.json").read_text())
    assert rows[0]["answer"] == 11.0
    assert lines(tmp_path / "log.txt") == ({"run": {"max_epoch": 2}}, [])
    told = (tmp_path / "evaluate.txt").read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in told] == ["val", "test"]


# --- the steps ----------------------------------------------------------------------------------


def reference(values, accumulate, epochs=1):
    """The same training written down plainly: weights, and the loss of each batch."""
    model = toys.OneWeight()
    optimizer = build_optimizer(model, toys.run_config())
    batches = [torch.tensor(v) for v in values]
    losses = []
    for _ in range(epochs):
        for start in range(0, len(batches), accumulate):
            group = batches[start : start + accumulate]
            parts = [((model.weight - x[:, None]) ** 2).mean() for x in group]
            torch.stack(parts).mean().backward()
            losses += [part.item() for part in parts]
            optimizer.step()
            optimizer.zero_grad()
    return model.weight.detach(), losses


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5, 7])
def test_a_group_of_batches_is_one_step_on_their_mean_and_so_is_the_shorter_last_one(
    tmp_path, accumulate
):
    values = [[1.0, 9.0], [3.0, 4.0], [5.0, 6.0], [7.0, 70.0], [2.0, 1.0]]
    changes = {"accum_grad_iters": accumulate, "valid_splits": [], "test_splits": []}
    runner = toys.runner(tmp_path, **changes)
    runner.loaders["train"] = toys.loader(*values)
    runner.train()
    weight, losses = reference(values, accumulate, epochs=2)
    assert torch.allclose(runner.model.weight.detach(), weight, rtol=1e-6)
    _, entries = lines(tmp_path / "log.txt")
    for epoch in (0, 1):
        mean = sum(losses[5 * epoch : 5 * epoch + 5]) / 5
        assert entries[epoch]["train_loss"] == pytest.approx(mean, rel=1e-5)


def test_progress_counts_optimizer_steps_and_the_rate_follows_it(tmp_path):
    changes = {"lr_sched": "linear_warmup_cosine_lr", "warmup_lr": 0.0, "warmup_steps": 4}
    runner = toys.runner(tmp_path, accum_grad_iters=2, max_epoch=3, valid_splits=[], **changes)
    runner.train()
    steps = [progress.step for progress in runner.model.seen]
    assert steps == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert {(p.steps_per_epoch, p.total_steps) for p in runner.model.seen} == {(2, 6)}
    assert runner.loaders["train"].epochs == [0, 1, 2]
    _, entries = lines(tmp_path / "log.txt")
    rates = [entry["train_lr"] for entry in entries]
    assert rates == pytest.approx([0.1 / 4, 0.1 * 0.75, 0.1 * 0.25])


@pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"),
    [("fp32", torch.float32, 1e-6), ("bf16", torch.bfloat16, 0.02), ("fp16", torch.float16, None)],
)
def test_precision_holds_in_training_and_weights_stay_in_float32(
    tmp_path, precision, dtype, tolerance
):
    runner = toys.runner(tmp_path, precision=precision, valid_splits=[])
    runner.train()
    assert runner.model.dtypes == {dtype}
    assert runner.model.weight.dtype == torch.float32
    weight, _ = reference([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], 1, epochs=2)
    if tolerance is None:  # the scaler leaves out steps until its scale fits
        assert 0 < runner.model.weight.item() < weight.item()
    else:
        assert runner.model.weight.item() == pytest.approx(weight.item(), rel=tolerance)
    scaler = torch.load(tmp_path / "checkpoint_1.pth", weights_only=True)["scaler"]
    assert (scaler is not None) == (precision == "fp16")


def test_tf32_is_asked_for_within_training_only(tmp_path, monkeypatch):
    asked = []
    runner = toys.runner(tmp_path, precision="tf32", valid_splits=[], test_splits=[])
    forward = runner.model.forward

    def watched(samples, progress=None):
        asked.append(torch.get_float32_matmul_precision())
        return forward(samples, progress)

    monkeypatch.setattr(runner.model, "forward", watched)
    runner.train()
    assert set(asked) == {"high"}
    assert torch.get_float32_matmul_precision() == "highest"


def test_training_mode_in_training_and_not_in_evaluation(tmp_path, monkeypatch):
    modes = []
    runner = toys.runner(tmp_path, max_epoch=2)
    for name in ("forward", "answer"):
        method = getattr(runner.model, name)

        def watched(*args, method=method, name=name, **kwargs):
            modes.append((name, runner.model.training))
            return method(*args, **kwargs)

        monkeypatch.setattr(runner.model, name, watched)
    runner.train()
    assert set(modes) == {("forward", True), ("answer", False)}
    assert [name for name, _ in modes[:8]] == [
        *["forward"] * 3,
        "answer",
        "answer",
        *["forward"] * 3,
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("log_freq", [1, 50])
def test_a_loss_that_is_no_number_stops_training_and_nothing_is_kept(tmp_path, bad, log_freq):
    runner = toys.runner(tmp_path, log_freq=log_freq)
    runner.loaders["train"] = toys.loader([1.0, 2.0], [3.0, bad], [1.0, 2.0])
    with pytest.raises(TrainingFailed, match=rf"the loss is {bad} in epoch 0, batch 2; a lower"):
        runner.train()
    written = {"bad_batch.json", "job.json", "log.txt", "metrics.jsonl"}
    assert set(files(tmp_path)) == written - ({"metrics.jsonl"} if log_freq > 1 else set())


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_dataset_ratios": {"a": 1.0}}, "run.train_dataset_ratios: belongs to runner_iter"),
        ({"max_iters": 5}, "run.max_iters, iters_per_inner_epoch: belong to runner_iter"),
        ({"iters_per_inner_epoch": 5}, "run.max_iters, iters_per_inner_epoch: belong to runner_it"),
        ({"train_splits": ["val"]}, r"run.train_splits: must be \[train\], .*got \['val'\]"),
        ({"train_splits": ["train", "val"]}, r"run.train_splits: must be \[train\]"),
        ({"train_splits": []}, "run.train_splits: names no split to train on"),
        ({"valid_splits": ["train"]}, "run.valid_splits, test_splits: cannot hold 'train'"),
        ({"test_splits": ["train"]}, "run.valid_splits, test_splits: cannot hold 'train'"),
        (
            {"evaluate": True, "valid_splits": [], "test_splits": []},
            "run.test_splits: names no split to evaluate, and neither does valid_splits",
        ),
    ],
)
def test_what_it_does_not_do_is_refused_in_one_line(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=f"^{told}") as caught:
        toys.runner(tmp_path, **changes)
    assert len(str(caught.value).splitlines()) == 1


def test_several_problems_are_told_together():
    run = toys.run_config(max_iters=3, train_dataset_ratios={"a": 1.0})
    with pytest.raises(ConfigError) as caught:
        RunnerBase.check(run)
    assert len(str(caught.value).splitlines()) == 2


def test_dist_eval_sampler_makes_no_difference_in_one_process(tmp_path):
    one, other = (
        toys.runner(
            tmp_path / str(shared), task=scores(1.0, 2.0, 3.0), use_dist_eval_sampler=shared
        )
        for shared in (True, False)
    )
    assert one.train() == other.train()


def test_a_split_without_a_loader_is_told(tmp_path):
    with pytest.raises(ValueError, match="no data set has a split 'dev'"):
        toys.runner(tmp_path, test_splits=["dev"])


@pytest.mark.parametrize("make", [lambda: torch.nn.Linear, lambda: torch.nn.Linear(1, 1)])
def test_a_model_that_cannot_answer_is_refused_by_its_class_or_itself(make):
    with pytest.raises(TypeError, match=r"'answer' needs a model with answer\(\), which Linear do"):
        toys.AnswerTask().check(make(), toys.run_config())


def test_a_model_that_cannot_answer_may_still_be_trained():
    toys.AnswerTask().check(torch.nn.Linear, toys.run_config(valid_splits=[], test_splits=[]))


# --- to_device ----------------------------------------------------------------------------------


def test_tensors_move_wherever_they_are():
    batch = {"a": torch.zeros(1), "b": [torch.zeros(1), "x"], "c": (1, {"d": torch.zeros(1)})}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"].is_meta
    assert moved["b"][0].is_meta and moved["b"][1] == "x"
    assert moved["c"][0] == 1 and moved["c"][1]["d"].is_meta
    assert not batch["a"].is_meta
