"""Directories of jobs: what is told of them, which goes on, and their curves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from lavis_clone.common.config import Config
from lavis_clone.common.files import FileError
from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.kinds.caption import CaptionEvalDataset
from lavis_clone.datasets.kinds.retrieval import RetrievalEvalDataset
from lavis_clone.job import limited
from lavis_clone.jobs import (
    curves,
    describe_job,
    git_state,
    job_folders,
    job_to_resume,
    read_job,
    write_facts,
)
from lavis_clone.plots import plot_jobs
from tests.e2e.toys import invoke, refused
from tests.runners import toys

MERGED = {"model": {"arch": "x"}, "run": {"task": "captioning", "seed": 1}}


def config(folder, resume="auto", **run):
    merged = {**MERGED, "run": {**MERGED["run"], "resume": resume, **run}}
    settings = toys.run_config(resume=resume, output_dir=folder)
    return Config({}, {}, settings, merged=merged)


def job(folder, name, *, status="stopped", metrics=(), merged=MERGED, **more):
    path = folder / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(merged))
    (path / "job.json").write_text(json.dumps({"status": status, **more}))
    if metrics:
        lines = "".join(json.dumps(entry) + "\n" for entry in metrics)
        (path / "metrics.jsonl").write_text(lines)
    return path


# --- which goes on --------------------------------------------------------------------------------


def test_the_newest_job_of_the_same_config_that_is_not_done_goes_on(tmp_path):
    assert job_to_resume(config(tmp_path / "nothing")) is None
    job(tmp_path, "20260101000000")
    wanted = job(tmp_path, "20260101000000_2", status="failed")
    job(tmp_path, "20260102000000", status="finished")
    job(tmp_path, "20260103000000", merged={**MERGED, "model": {"arch": "y"}})
    (tmp_path / "20260104000000").mkdir()
    assert job_to_resume(config(tmp_path)) == wanted
    assert job_to_resume(config(tmp_path, num_workers=7, output_dir="elsewhere")) == wanted
    assert job_to_resume(config(tmp_path, seed=2)) is None
    assert job_to_resume(config(tmp_path, resume=None)) is None


def test_a_job_that_is_still_running_is_left_alone(tmp_path, caplog):
    parent = {"pid": os.getppid(), "host": socket.gethostname()}
    stat = Path(f"/proc/{os.getppid()}/stat")
    start = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else None
    path = job(tmp_path, "1", status="running", process=start, **parent)
    assert job_to_resume(config(tmp_path)) is None
    assert "is still running" in caplog.text
    with pytest.raises(FileError, match=r"run.resume: .* is still running \(process \d+\)"):
        job_to_resume(config(tmp_path, resume=str(path)))
    for changes in ({"host": "another"}, {"process": "1"}, {"pid": 2**22 + 1}, {"pid": None}):
        known = {"status": "running", "process": start, **parent, **changes}
        (path / "job.json").write_text(json.dumps(known))
        assert job_to_resume(config(tmp_path)) == path, changes
    assert describe_job(path).status == "killed"


def test_a_directory_goes_on_and_a_file_begins_a_new_job(tmp_path):
    path = job(tmp_path, "1", merged={})
    assert job_to_resume(config(tmp_path, resume=str(path))) == path
    (path / "checkpoint_1.pth").touch()
    assert job_to_resume(config(tmp_path, resume=str(path / "checkpoint_1.pth"))) is None
    with pytest.raises(FileError, match="run.resume: no such job or checkpoint: nowhere"):
        job_to_resume(config(tmp_path, resume="nowhere"))


# --- what is told ---------------------------------------------------------------------------------


def test_facts_of_a_job_stay_when_it_goes_on(tmp_path):
    path = job(tmp_path, "1")
    write_facts(path)
    first = read_job(path)
    write_facts(path)
    facts = read_job(path)
    assert facts["status"] == "stopped"
    assert facts["started"] == first["started"]
    assert len(facts["commands"]) == 2 and sys.executable in facts["commands"][0]
    assert facts["packages"]["torch"] and facts["packages"]["lavis_clone"]


def test_the_state_of_git(tmp_path):
    assert git_state(tmp_path) is None
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    state = git_state(package)
    assert len(state["commit"]) == 40 and state["changed"] == []
    (package / "__init__.py").write_text("x = 1\n")
    assert git_state(package)["changed"] == ["package/__init__.py"]


METRICS = [
    {"step": 5, "epoch": 0, "train/loss": 2.0, "memory_gb": 1.0},
    {"step": 10, "epoch": 1, "val/CIDEr": 0.5, "best/CIDEr": 0.5},
    {"step": 15, "epoch": 1, "train/loss": 1.0, "train/lr": float("nan")},
    {"step": 20, "epoch": 2, "val/CIDEr": 0.75, "best/CIDEr": 0.75},
]


def test_runs_lists_jobs_with_their_best_score(tmp_path):
    job(tmp_path, "2", metrics=METRICS, status="finished", started="2026-01-02T03:04:05")
    evaluated = job(tmp_path, "10", status="unknown")
    (evaluated / "evaluate.txt").write_text('{"test": {"CIDEr": 0.25}}\n')
    assert [path.name for path in job_folders(tmp_path)] == ["2", "10"]
    done = invoke("runs", tmp_path)
    assert done.exit_code == 0, done.stderr
    head, one, other = (line.split() for line in done.stdout.splitlines())
    assert head == ["job", "status", "started", "epoch", "step", "best"]
    assert one == ["2", "finished", "2026-01-02T03:04:05", "2", "20", "CIDEr", "0.75"]
    assert other == ["10", "evaluated", "0", "0", "test/CIDEr", "0.25"]
    assert refused("runs", tmp_path / "no") == [f"error: {tmp_path / 'no'} holds no jobs"]


def test_a_line_that_was_cut_off_is_the_end(tmp_path):
    path = job(tmp_path, "1", metrics=METRICS[:2])
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "ep')
    assert describe_job(path).step == 10
    assert curves(path)["train/loss"] == [(5, 2.0)]


def test_plot_draws_a_panel_for_each_number_and_a_line_for_each_job(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot

    def watched(self, x, y, **keys):
        drawn.append((list(x), keys["label"]))
        return plot(self, x, y, **keys)

    monkeypatch.setattr(Axes, "plot", watched)
    jobs = [job(tmp_path, name, metrics=METRICS) for name in ("1", "2")]
    done = invoke("plot", *jobs, "--out", tmp_path / "x.png")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'x.png'}\n"), done.stderr
    assert Image.open(tmp_path / "x.png").size[0] > 500
    assert drawn == [
        ([5, 15], "1"),
        ([5, 15], "2"),
        ([10, 20], "1"),
        ([10, 20], "2"),
    ]
    drawn.clear()
    plot_jobs(jobs[:1], tmp_path / "y.png", ["memory_gb"])
    assert drawn == [([5], "1")]
    with pytest.raises(FileError, match="no job has numbers named 'x'; there are train/loss, mem"):
        plot_jobs(jobs, tmp_path / "z.png", ["x"])
    with pytest.raises(FileError, match="holds no metrics.jsonl with numbers"):
        plot_jobs([tmp_path], tmp_path / "z.png")


# --- a part of the data ---------------------------------------------------------------------------


def test_evaluation_may_see_the_first_records_only(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps([{"image": f"{n}.png", "caption": [f"c{n}"], "image_id": n} for n in range(5)])
    )
    make = {"vis_root": tmp_path, "ann_paths": [tmp_path / "a.json"]}
    captions, pairs = CaptionEvalDataset(**make), RetrievalEvalDataset(**make)
    assert list(limited(captions, 2).references()) == ["0", "1"]
    part = limited(pairs, 3)
    assert (len(part), len(part.text), part.img2txt) == (3, 3, {0: [0], 1: [1], 2: [2]})
    assert (len(pairs), len(pairs.text), len(captions)) == (5, 5, 5)
    assert len(limited(ConcatDataset([captions, captions]), 2)) == 4
    assert limited(captions, None) is captions
    assert len(limited(captions, 9)) == 5
    with pytest.raises(ConfigError, match="run.limit_eval_samples: list cannot be cut short"):
        limited([1, 2], 1)
