"""Jobs of several processes, as torchrun starts them."""

from __future__ import annotations

import json

import pytest

from lavis_clone.cli import evaluate_file
from tests.common.processes import free_port, run_distributed
from tests.e2e import toys


@pytest.fixture
def shared(tmp_path, data, words):
    """A folder with a recipe whose batches two processes share."""
    content = toys.recipe(data, words, tmp_path / "output", num_workers=0)
    content["run"] |= {"batch_size_train": 4, "batch_size_eval": 4, "max_epoch": 2}
    toys.write_recipe(tmp_path / "recipe.yaml", content)
    return tmp_path


@pytest.mark.slow
def test_replicas_and_shards_are_one_job_and_go_on_from_each_other(shared):
    names = ("replicas_and_shards_are_one_job", "another_strategy_goes_on")
    place = {"LAVIS_CLONE_TOYS": str(shared), **toys.ALONE}
    run_distributed("tests.e2e.dist_scripts", *names, **place)


@pytest.mark.slow
def test_train_script_under_torchrun(shared):
    command = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    options = ["--options", "run.strategy=fsdp", "run.max_epoch=1", "run.log_freq=1"]
    script = [str(toys.ROOT / "train.py"), "--cfg-path", "recipe.yaml"]
    done = toys.start(*command, *script, *options, cwd=shared, PYTHONPATH=str(toys.ROOT))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    job = toys.the_job(shared / "output")
    assert {path.name for path in job.glob("*.pth")} == {"checkpoint_0.pth", "checkpoint_best.pth"}
    assert (job / "console.log").read_text().count("epoch 0, batch 2 of 2") == 1
    scores = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("test ")]
    assert "agg_metrics" in scores
    assert len(scores) == len(set(scores))  # told once

    alone = [f"model.finetuned={job / 'checkpoint_best.pth'}", f"run.output_dir={shared / 'one'}"]
    evaluate_file(str(shared / "recipe.yaml"), alone)
    found, wanted = (
        json.loads((folder / "result/test_epochbest.json").read_text())
        for folder in (job, toys.the_job(shared / "one"))
    )
    for row, other in zip(found, wanted, strict=True):
        assert row.pop("confidence") == pytest.approx(other.pop("confidence"), abs=2e-6)
        assert row == other
