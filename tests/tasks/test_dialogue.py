"""Dialogues: what is asked of a model, and how its answers are judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lavis_clone.common.schema import read_run
from lavis_clone.common.task_options import DialogueOptions
from lavis_clone.models.outputs import GenerationOutput, ReplyScores
from lavis_clone.tasks import setup_task
from lavis_clone.tasks.dialogue import DialogueTask


@pytest.fixture(autouse=True)
def _without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its start takes longer than all the rest."""
    monkeypatch.setenv("PATH", "")


def task(**options: Any) -> DialogueTask:
    run = read_run(
        {"task": "dialogue", "batch_size_train": 1, "batch_size_eval": 1, "num_workers": 0}
        | {"evaluate": True, "test_splits": ["test"], **options}
    )
    made = setup_task(run)
    assert isinstance(made, DialogueTask)
    return made


class Answering:
    """Says what it was told to, and remembers how it was asked."""

    def __init__(self, *texts: str, log_prob: tuple[float, ...], num_tokens: tuple[int, ...]):
        self.texts = list(texts)
        self.asked: dict[str, Any] = {}
        self.scores = ReplyScores(torch.tensor(log_prob), torch.tensor(num_tokens))

    def score_replies(self, samples: Mapping[str, Any]) -> ReplyScores:
        return self.scores

    def generate_replies(self, samples: Mapping[str, Any], **options: Any) -> GenerationOutput:
        self.asked = options
        count = len(self.texts)
        confidence = torch.full((count,), 0.25)
        return GenerationOutput(self.texts, confidence, confidence.log(), torch.zeros(count, 1))


SAMPLES = {"instance_id": ["0", "1", "2"], "image_id": ["v1", "v1", "v2"]}


def answering() -> Answering:
    log_prob, num_tokens = (-6.0, -1.0, 0.0), (3, 1, 0)
    return Answering("he drinks", "no", "why", log_prob=log_prob, num_tokens=num_tokens)


def shown(**references: list[str]) -> Any:
    found = {name.removeprefix("turn"): texts for name, texts in references.items()}
    return SimpleNamespace(references=lambda: found)


def test_a_row_for_each_dialogue() -> None:
    rows = task().valid_step(answering(), SAMPLES)
    assert rows[0] == {
        "instance_id": "0",
        "image_id": "v1",
        "answer": "he drinks",
        "confidence": 0.25,
        "loss": 2.0,
        "num_tokens": 3,
    }
    assert [row["loss"] for row in rows] == [2.0, 1.0, None]
    assert [row["answer"] for row in rows] == ["he drinks", "no", "why"]


def test_options_reach_the_model() -> None:
    model = answering()
    task(num_beams=5, max_len=12, min_len=2, length_penalty=0.3).valid_step(model, SAMPLES)
    expected = {"num_beams": 5, "max_length": 12, "min_length": 2, "length_penalty": 0.3}
    assert model.asked == expected
    assert task().options == DialogueOptions()


def test_the_loss_is_the_mean_over_tokens_and_decides() -> None:
    made = task()
    rows = made.valid_step(answering(), SAMPLES)
    truths = shown(turn0=["she sings", "he drinks ."], turn1=["yes"])
    scores = made.score(rows, truths)
    assert scores["loss"] == scores["agg_metrics"] == pytest.approx((6.0 + 1.0) / 4)
    assert scores["perplexity"] == pytest.approx(math.exp(7 / 4))
    assert scores["exact_match"] == 0.5
    assert scores["Bleu_1"] == pytest.approx(2 / 3)  # "he", "drinks", and not "no"
    assert {"CIDEr", "ROUGE_L", "Bleu_4"} <= scores.keys()
    assert not made.higher_is_better


def test_a_second_reference_helps() -> None:
    made = task()
    rows = made.valid_step(answering(), SAMPLES)
    one = made.score(rows, shown(turn0=["she sings"], turn1=["yes"]))
    two = made.score(rows, shown(turn0=["she sings", "he drinks"], turn1=["yes"]))
    assert one["Bleu_1"] < two["Bleu_1"]
    assert one["loss"] == two["loss"]


def test_without_answers_or_report_metric_nothing_is_scored() -> None:
    silent = Answering("a", log_prob=(0.0,), num_tokens=(0,))
    rows = task().valid_step(silent, {"instance_id": ["0"], "image_id": ["v1"]})
    assert task().score(rows, shown()) == {}
    rows = task().valid_step(answering(), SAMPLES)
    assert task(report_metric=False).score(rows, shown()) == {}


def test_a_huge_loss_is_a_number() -> None:
    rows = [{"instance_id": "0", "answer": "a", "loss": 900.0, "num_tokens": 2}]
    scores = task().score(rows, shown(turn0=["b"]))
    assert scores["loss"] == 900.0 and math.isfinite(scores["perplexity"])


def test_several_data_sets_in_one_are_refused() -> None:
    several = SimpleNamespace(name="a+b", split="test", datasets=[1, 2])
    with pytest.raises(ValueError, match=r"^a\+b/test: task 'dialogue' evaluates one data set"):
        task().check_data(several)


def test_a_model_without_replies_is_refused() -> None:
    run = read_run(
        {"task": "dialogue", "batch_size_train": 1, "batch_size_eval": 1, "num_workers": 0}
        | {"evaluate": True, "test_splits": ["test"]}
    )
    with pytest.raises(TypeError, match=r"'dialogue' needs a model with generate_replies\(\), sco"):
        setup_task(run).check(torch.nn.Linear(1, 1), run)
    with pytest.raises(ValueError, match=r"min_len \(30\) must not be more than max_len \(20\)"):
        task(min_len=30)
