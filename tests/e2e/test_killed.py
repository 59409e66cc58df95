"""Real ``train.py`` processes, killed at random moments: what they leave is as if they had not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time

import pytest

from lavis_clone.runners.checkpoints import points
from tests.e2e import toys
from tests.runners.noisy import left_behind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
]

NUM_KILLS = 8
"""Of each kind."""
MAX_STARTS = 60
KINDS = {
    "epochs": {"save_every": 1, "accum_grad_iters": 3},
    "epochs, rarely saved": {"valid_splits": [], "ema": 0.9, "num_workers": 1, "grad_clip": 1.0},
    "steps": {
        "runner": "runner_iter",
        "max_epoch": None,
        "max_iters": 10,
        "iters_per_inner_epoch": 4,
        "save_every": 2,
        "val_every": 3,
    },
}
COMMON = {"resume": "auto", "log_freq": 1, "max_epoch": 3}


@pytest.fixture(scope="module")
def starter():
    from tests.e2e.starter import Starter

    made = Starter()
    yield made
    made.close()


class Lab:
    """A recipe, and directories in which it is run."""

    def __init__(self, starter, folder, content):
        self.starter, self.folder = starter, folder
        self.recipe = str(toys.write_recipe(folder / "recipe.yaml", content))

    def place(self, name):
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def start(self, place, **keys):
        return self.starter.start(place, "--cfg-path", self.recipe, **keys)

    def run(self, place, **keys):
        self.start(place, **keys)
        return self.starter.wait()

    @staticmethod
    def job(place):
        return toys.the_job(place / "jobs")

    @classmethod
    def is_done(cls, place):
        return any('"finished"' in path.read_text() for path in place.glob("jobs/*/job.json"))

    @staticmethod
    def told(place):
        return (place / "output.txt").read_text()


def lab_of(starter, folder, data, words, changes):
    run = {k: v for k, v in {**COMMON, **changes}.items() if v is not None}
    content = toys.recipe(data, words, "jobs", **run)
    if "max_epoch" in changes:
        del content["run"]["max_epoch"]
    return Lab(starter, folder, content)


def wait_until_training(place, timeout=120):
    """Until the runner has begun, where signals are its own."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if any('"running"' in path.read_text() for path in place.glob("jobs/*/job.json")):
            return
        time.sleep(0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_it_comes_to_the_same_end(starter, tmp_path, data, words, kind):
    lab = lab_of(starter, tmp_path, data, words, KINDS[kind])
    calm = lab.place("calm")
    lab.start(calm)
    wait_until_training(calm)
    began = time.monotonic()
    assert starter.wait() == 0, lab.told(calm)
    length = time.monotonic() - began
    expected = left_behind(lab.job(calm))
    chance = random.Random(f"{kind} {os.environ.get('KILL_SEED', '0')}")
    num_kills, number_of_run = 0, 0
    for _ in range(MAX_STARTS):
        place = lab.place(f"run{number_of_run}")
        how = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        process = lab.start(place)
        wait_until_training(place)
        time.sleep(chance.random() * length)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(process, how)
        status = starter.wait()
        assert status in (0, -how, 128 + how), lab.told(place)  # before training it just dies
        num_kills += status != 0
        if lab.is_done(place):
            assert left_behind(lab.job(place)) == expected
            number_of_run += 1
        if num_kills >= NUM_KILLS:
            break
    assert num_kills >= NUM_KILLS
    assert lab.is_done(place) or lab.run(place) == 0, lab.told(place)
    assert left_behind(lab.job(place)) == expected
    assert lab.is_done(place)


def test_a_disk_that_fills_up_and_is_emptied_again_changes_nothing(starter, tmp_path, data, words):
    lab = lab_of(starter, tmp_path, data, words, KINDS["steps"] | {"save_every": 1})
    calm, full = lab.place("calm"), lab.place("full")
    assert lab.run(calm) == 0, lab.told(calm)
    process = lab.start(full)
    while not list(full.glob("jobs/*/checkpoint_step2.pth")):
        time.sleep(0.002)
    os.kill(process, signal.SIGTERM)
    assert starter.wait() == 128 + signal.SIGTERM, lab.told(full)
    (point,) = points(lab.job(full))
    assert lab.run(full, limit=point.stat().st_size // 2) == 2
    errors = [line for line in lab.told(full).splitlines() if line.startswith("error: ")]
    (told,) = errors
    assert "File too large (" in told
    assert f"the last good one is {point.relative_to(full)}; " in told
    assert points(lab.job(full)) == [point]
    assert "Traceback" not in lab.told(full)
    assert lab.run(full) == 0, lab.told(full)
    assert left_behind(lab.job(full)) == left_behind(lab.job(calm))


def test_a_run_that_is_done_is_not_gone_on_with(starter, tmp_path, data, words):
    lab = lab_of(starter, tmp_path, data, words, {"max_epoch": None} | KINDS["steps"])
    place = lab.place("twice")
    assert [lab.run(place), lab.run(place)] == [0, 0], lab.told(place)
    one, other = sorted((place / "jobs").iterdir())
    assert left_behind(one) == left_behind(other)
    commands = json.loads((one / "job.json").read_text())["commands"]
    assert len(commands) == 1 and "recipe.yaml" in commands[0]
