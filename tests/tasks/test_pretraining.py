"""Pre-training trains, and nothing else."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lavis_clone.common.context import RunContext
from lavis_clone.runners.base import RunnerBase
from lavis_clone.tasks import setup_task
from tests.runners.toys import ListLoader, OneWeight, loader, run_config


def config(**changes):
    splits = {"valid_splits": [], "test_splits": []}
    return run_config(task="image_text_pretrain", **(splits | changes))


class Untouched(ListLoader):
    def __iter__(self):
        raise AssertionError("no batch is needed")


@pytest.mark.parametrize("valid_splits", [[], ["val"]])
def test_it_trains_and_evaluates_nothing(valid_splits, tmp_path, caplog):
    run = config(valid_splits=valid_splits)
    model = OneWeight()
    runner = RunnerBase(
        run,
        task=setup_task(run),
        model=model,
        loaders={"train": loader([1.0, 2.0], [3.0, 4.0]), "val": Untouched([])},
        context=RunContext(tmp_path, torch.device("cpu")),
    )
    runner.train()
    assert model.weight.item() > 0.1
    assert (tmp_path / "checkpoint_1.pth").exists()
    logged = [json.loads(line) for line in (tmp_path / "log.txt").read_text().splitlines()[1:]]
    assert [entry["epoch"] for entry in logged if "train_loss" in entry] == [0, 1]
    assert ("nothing is done with ['val']" in caplog.text) == bool(valid_splits)


def test_there_is_nothing_to_evaluate():
    run = config(evaluate=True, test_splits=["test"])
    with pytest.raises(ValueError, match="^run.evaluate: task 'image_text_pretrain' only trains"):
        setup_task(run).check(OneWeight(), run)


def test_a_model_that_does_not_train_is_told_at_once():
    run = config()
    with pytest.raises(TypeError, match=r"needs a model with forward\(\)"):
        setup_task(run).check(object(), run)  # type: ignore[arg-type]
    setup_task(run).check(nn.Linear(1, 1), run)


def test_a_rehearsal_asks_nothing_of_the_model():
    setup_task(config()).rehearse(None, {})
