"""How classes are asked for and judged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lavis_clone.common.schema import read_run
from lavis_clone.models.outputs import ClassOutput
from lavis_clone.tasks import setup_task

RUN = {
    "task": "multimodal_classification",
    "batch_size_train": 1,
    "batch_size_eval": 1,
    "num_workers": 0,
    "evaluate": True,
    "test_splits": ["test"],
}
LABELS = SimpleNamespace(classnames=["contradiction", "neutral", "entailment"])


class Sorter:
    """Gives the logits that are in the image."""

    def __init__(self, gives_targets=True):
        self.gives_targets = gives_targets

    def predict(self, samples):
        logits = samples["image"]
        targets = samples["label"] if self.gives_targets else None
        return ClassOutput(logits, logits.softmax(dim=1).amax(dim=1), targets)


def task():
    return setup_task(read_run(RUN))


def samples(**fields):
    return {
        "image": torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]),
        "instance_id": ["0", "1"],
        "label": torch.tensor([1, 2]),
        **fields,
    }


@pytest.mark.parametrize("gives_targets", [True, False])
def test_the_likeliest_class_of_each_sample(gives_targets):
    rows = task().valid_step(Sorter(gives_targets), samples())
    assert rows == [
        {"instance_id": "0", "prediction": 1, "target": 1, "confidence": 0.665241},
        {"instance_id": "1", "prediction": 0, "target": 2, "confidence": 0.909443},
    ]


def rows(*pairs):
    return [{"instance_id": str(i), "prediction": p, "target": t} for i, (p, t) in enumerate(pairs)]


def test_accuracy_is_a_fraction_and_each_class_has_its_own():
    scores = task().score(rows((0, 0), (0, 2), (2, 2), (2, 2)), LABELS)
    assert scores == {
        "agg_metrics": 0.75,
        "acc": 0.75,
        "class_acc": pytest.approx((1 + 2 / 3) / 2),
        "acc/contradiction": 1.0,
        "acc/entailment": pytest.approx(2 / 3),
    }


def test_classes_without_names_go_by_their_number():
    scores = task().score(rows((0, 0), (7, 8)), object())
    assert (scores["acc/0"], scores["acc/8"]) == (1.0, 0.0)


def test_many_classes_are_not_listed():
    pairs = [(i, i) for i in range(21)]
    assert set(task().score(rows(*pairs), object())) == {"agg_metrics", "acc", "class_acc"}
    assert "acc/19" in task().score(rows(*pairs[:20]), object())


def test_without_ground_truth_there_are_no_scores():
    given = samples()
    del given["label"]
    found = task().valid_step(Sorter(gives_targets=False), given)
    assert [row["target"] for row in found] == [None, None]
    assert task().score(found, LABELS) == {}


def test_a_model_that_does_not_classify_is_told_at_once():
    with pytest.raises(TypeError, match=r"needs a model with predict\(\), which Linear does not"):
        task().check(nn.Linear(1, 1), read_run(RUN))


def test_one_data_set_at_a_time():
    both = SimpleNamespace(name="a+b", split="val", datasets=[1, 2])
    with pytest.raises(ValueError, match=r"^a\+b/val: task 'multimodal_classification' evaluates"):
        task().check_data(both)
    task().check_data(SimpleNamespace(datasets=[1]))
    task().check_data(LABELS)


class NamedSorter(Sorter):
    """Remembers the classes that it was told."""

    told = ()

    def set_classes(self, names):
        self.told = (*self.told, tuple(names))


class Batches(list):
    dataset = LABELS


def test_a_model_that_sorts_by_names_is_told_those_of_the_data_set():
    model, found = NamedSorter(), Batches([samples(), samples(instance_id=["2", "3"])])
    rows = task().evaluation(model, found)
    assert model.told == (tuple(LABELS.classnames),)
    assert [row["instance_id"] for row in rows] == ["0", "1", "2", "3"]
    task().rehearse(model, samples())
    assert len(model.told[-1]) == 2  # any two will do


def test_names_are_asked_for_before_any_work():
    asked = task()
    asked.check(NamedSorter, read_run(RUN))
    asked.check_data(LABELS)
    unnamed = SimpleNamespace(name="a", split="val", classnames=[])
    with pytest.raises(ValueError, match="^a/val: the model sorts pictures by the names of their"):
        asked.check_data(unnamed)
    plain = task()
    plain.check(Sorter, read_run(RUN))
    plain.check_data(unnamed)
