"""A run that was stopped and goes on comes to what it would have come to, to the last bit."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal

import pytest
import torch

from lavis_clone.common.training_options import EarlyStop
from lavis_clone.runners.base import Stopped, TrainingFailed
from lavis_clone.runners.checkpoints import points
from tests.runners import noisy, toys

KINDS = {
    "epochs": {},
    "epochs, by steps": {"val_every": 3, "save_every": 2, "save_freq": 2, "lr_per": "step"},
    "steps": {"max_iters": 9, "iters_per_inner_epoch": 4, "save_every": 1},
    "no validation": {"valid_splits": [], "save_every": 3, "ema": 0.9, "grad_clip": 0.5},
    "muon": {"optimizer": "muon", "save_every": 1, "early_stop": {"patience": 2}},
}
"""Of ``run:``; an epoch has 4 optimizer steps, the last one of a single batch."""


class Killed(BaseException):
    """In place of SIGKILL: nothing of ours catches it."""


def changes_of(kind):
    changes = dict(KINDS[kind])
    if "early_stop" in changes:
        changes["early_stop"] = EarlyStop(**changes["early_stop"])
    return changes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the run of each kind leaves behind when nobody stops it."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("undisturbed")
        runner = noisy.runner(folder, **changes_of(kind))
        scores = runner.train()
        found[kind] = (scores, noisy.left_behind(folder), runner.model.num_calls)
    return found


def killing(at):
    def strike(number):
        if number == at:
            raise Killed

    return strike


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.15, 0.4, 0.6, 0.8, 1.0])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, undisturbed, kind, share):
    scores, expected, num_calls = undisturbed[kind]
    changes = changes_of(kind)
    runner = noisy.runner(tmp_path, **changes)
    runner.model.before_step = killing(max(1, round(share * num_calls)))
    with pytest.raises(Killed):
        runner.train()
    assert noisy.runner(tmp_path, **changes).train() == scores
    assert noisy.left_behind(tmp_path) == expected


def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(tmp_path, undisturbed):
    scores, expected, _ = undisturbed["steps"]
    for _ in range(30):
        runner = noisy.runner(tmp_path, **changes_of("steps"))
        runner.model.before_step = killing(4)
        with contextlib.suppress(Killed):
            assert runner.train() == scores
            break
    else:
        pytest.fail("it never came to its end")
    assert noisy.left_behind(tmp_path) == expected


@pytest.mark.parametrize("kind", ["epochs", "steps"])
def test_a_signal_saves_first_and_ends_with_its_status(tmp_path, undisturbed, kind, caplog):
    scores, expected, _ = undisturbed[kind]
    before = signal.getsignal(signal.SIGTERM)
    runner = noisy.runner(tmp_path, **changes_of(kind))
    sent = {3: signal.SIGTERM, 5: signal.SIGINT}
    runner.model.before_step = lambda number: number == 3 and os.kill(os.getpid(), sent[3])
    with pytest.raises(Stopped) as told:
        runner.train()
    assert told.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in points(tmp_path)] == ["checkpoint_step2.pth"]
    assert runner.model.num_calls == 4  # the step of two batches was ended
    assert json.loads((tmp_path / "job.json").read_text())["status"] == "stopped"
    assert "go on with run.resume=auto" in caplog.text
    again = noisy.runner(tmp_path, **changes_of(kind))
    again.model.before_step = lambda number: number == 5 and os.kill(os.getpid(), sent[5])
    with pytest.raises(Stopped) as told:
        again.train()
    assert told.value.code == 130
    assert noisy.runner(tmp_path, **changes_of(kind)).train() == scores
    assert noisy.left_behind(tmp_path) == expected


def test_a_signal_in_validation_ends_it_at_once_and_nothing_is_lost(
    tmp_path, undisturbed, monkeypatch
):
    scores, expected, _ = undisturbed["epochs"]
    runner = noisy.runner(tmp_path)
    asked = []
    monkeypatch.setattr(
        runner.model,
        "answer",
        lambda x: asked.append(1) or os.kill(os.getpid(), signal.SIGTERM) or x[:, 0],
    )
    with pytest.raises(Stopped):
        runner.train()
    assert len(asked) == 1
    assert noisy.runner(tmp_path).train() == scores
    assert noisy.left_behind(tmp_path) == expected


def test_workers_make_no_difference_to_a_run_that_goes_on(tmp_path, undisturbed):
    scores, expected, _ = undisturbed["steps"]
    runner = noisy.runner(tmp_path, num_workers=1, **KINDS["steps"])
    runner.model.before_step = killing(11)
    with pytest.raises(Killed):
        runner.train()
    assert noisy.runner(tmp_path, **KINDS["steps"]).train() == scores
    assert noisy.left_behind(tmp_path) == expected


# --- what is picked up --------------------------------------------------------------------------


def killed(folder, at=11, **changes):
    runner = noisy.runner(folder, **changes)
    runner.model.before_step = killing(at)
    with pytest.raises(Killed):
        runner.train()


def test_half_a_checkpoint_is_never_picked_up(tmp_path, undisturbed, caplog):
    caplog.set_level(logging.INFO, logger="lavis_clone")
    scores, expected, _ = undisturbed["steps"]
    killed(tmp_path, keep_last=3, **KINDS["steps"])
    newest, older, _ = points(tmp_path)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    (tmp_path / ".checkpoint_step6.pth.12345678.tmp").write_bytes(b"begun")
    assert noisy.runner(tmp_path, **KINDS["steps"]).train() == scores
    assert f"{newest} cannot be read" in caplog.text
    assert f"going on from {older}" in caplog.text
    (tmp_path / f"{newest.name}.broken").unlink()
    assert noisy.left_behind(tmp_path) == expected


def test_a_checkpoint_is_where_a_new_job_starts_from(tmp_path):
    first = noisy.runner(tmp_path / "first", max_epoch=4)
    first.train()
    shorter = noisy.runner(tmp_path / "shorter", max_epoch=2)
    shorter.train()
    start = str(tmp_path / "shorter" / "checkpoint_1.pth")
    for word in ("resume", "resume_ckpt_path"):
        changes = {"resume": None, word: start, "max_epoch": 4, "lr_sched": "constant_lr"}
        longer = noisy.runner(tmp_path / word, **changes)
        longer.train()
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, longer.model.state_dict()[name]), name
        entries = (tmp_path / word / "metrics.jsonl").read_text().splitlines()
        assert json.loads(entries[0])["epoch"] == 1  # its validation comes again
        assert (tmp_path / word / "checkpoint_best.pth").exists()


def test_a_job_that_ended_before_any_point_starts_anew(tmp_path, undisturbed):
    scores, expected, _ = undisturbed["epochs"]
    (tmp_path / "log.txt").write_text('{"run": {}}\n{"epoch": 0}\n')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert noisy.runner(tmp_path).train() == scores
    assert noisy.left_behind(tmp_path) == expected


def test_a_checkpoint_of_lavis_gives_weights_and_epoch(tmp_path, caplog):
    done = toys.runner(tmp_path / "done", max_epoch=1, valid_splits=[], test_splits=[])
    done.train()
    content = torch.load(tmp_path / "done" / "checkpoint_0.pth", weights_only=True)
    del content["resume"]
    content["optimizer"]["param_groups"] *= 2  # LAVIS makes other groups
    torch.save(content, tmp_path / "theirs.pth")
    on = toys.runner(tmp_path / "on", resume_ckpt_path=str(tmp_path / "theirs.pth"), test_splits=[])
    on.train()
    assert [progress.step for progress in on.model.seen] == [3, 4, 5]
    assert "the optimizer starts anew" in caplog.text
    assert on.loaders["train"].epochs == [1]


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: None, "no such job or checkpoint"),
        (lambda path: path.write_bytes(b"nonsense"), "cannot be read as a checkpoint"),
        (lambda path: torch.save({"a": 1}, path), "holds no 'model'"),
        (lambda path: torch.save({"model": {}, "epoch": 1}, path), "lacks 1 weights that learn"),
    ],
)
def test_what_cannot_be_gone_on_from_is_told(tmp_path, write, told):
    write(tmp_path / "x.pth")
    with pytest.raises(TrainingFailed, match=told):
        toys.runner(tmp_path / "job", resume=str(tmp_path / "x.pth")).train()
    assert json.loads((tmp_path / "job" / "job.json").read_text())["status"] == "failed"


# --- a full disk --------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(tmp_path, undisturbed, monkeypatch):
    """In earnest in tests/e2e/test_killed.py."""
    scores, expected, _ = undisturbed["steps"]
    runner = noisy.runner(tmp_path, **KINDS["steps"])
    save = torch.save

    def fill(content, file):
        save(content, file)
        if "checkpoint_step4" in file.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill)
        with pytest.raises(TrainingFailed) as caught:
            runner.train()
    (told,) = str(caught.value).splitlines()
    assert told.startswith(f"cannot write {tmp_path}/checkpoint_step4.pth: No space left on device")
    assert f"the last good one is {tmp_path}/checkpoint_step3.pth; make room, and go on" in told
    assert [path.name for path in tmp_path.glob("*.pth")] == ["checkpoint_step3.pth"]
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert json.loads((tmp_path / "job.json").read_text())["error"] == told
    assert noisy.runner(tmp_path, **KINDS["steps"]).train() == scores
    assert noisy.left_behind(tmp_path) == expected
