"""How questions are asked, and answers judged."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lavis_clone.common.context import RunContext
from lavis_clone.common.schema import read_run
from lavis_clone.models.outputs import AnswerOutput
from lavis_clone.runners.base import RunnerBase
from lavis_clone.tasks import setup_task
from tests.runners.toys import ListLoader

RUN = {
    "batch_size_train": 1,
    "batch_size_eval": 2,
    "num_workers": 0,
    "evaluate": True,
    "test_splits": ["test"],
}


def task(name="vqa", **options):
    return setup_task(read_run({"task": name, **RUN, **options}))


class Oracle(nn.Module):
    """Ranks by the sum of an image and an answer's place; writes what the image says."""

    def __init__(self, **written):
        super().__init__()
        self.written, self.asked = written, []

    def predict_answers_with_confidence(self, samples, **options):
        self.asked.append((samples["text_input"], options))
        numbers = [int(n) for n in samples["image"].flatten()]
        if options["inference_method"] == "generate":
            texts = [self.written[f"n{n}"] for n in numbers]
        else:
            answers = options["answer_list"]
            assert options["num_ans_candidates"] > 0
            texts = [answers[n % len(answers)] for n in numbers]
        confidence = torch.tensor([1 / (1 + n) for n in numbers])
        return AnswerOutput(text=texts, confidence=confidence)


class Questions:
    """A data set of questions, as tasks see it."""

    name, split = "quiz", "val"

    def __init__(self, answer_list=None, references=None):
        self.answer_list, self._references = answer_list, references or {}

    def references(self):
        return self._references


class Batches(list):
    """Batches that know their data set."""

    def __init__(self, batches, dataset):
        super().__init__(batches)
        self.dataset = dataset


def truth(*answers, answer_type="other", question_type="what"):
    return SimpleNamespace(
        answers=list(answers), answer_type=answer_type, question_type=question_type
    )


def samples(*numbers, **fields):
    return {
        "image": torch.tensor(numbers, dtype=torch.float32)[:, None],
        "text_input": [f"what is {n}?" for n in numbers],
        "question_id": torch.tensor([100 + n for n in numbers]),
        **fields,
    }


# --- asking -------------------------------------------------------------------------------------


def test_without_options_they_are_those_of_lavis():
    model = Oracle()
    task().evaluation(model, Batches([samples(1)], Questions(["no", "yes"])))
    assert model.asked == [
        (
            ["what is 1?"],
            {
                "num_beams": 3,
                "inference_method": "rank",
                "max_len": 10,
                "min_len": 1,
                "num_ans_candidates": 128,
                "answer_list": ["no", "yes"],
            },
        )
    ]


def test_options_of_the_run_reach_the_model():
    given = {"num_beams": 5, "max_len": 7, "min_len": 2, "num_ans_candidates": 9}
    model = Oracle(n1="x")
    made = task(**given, inference_method="generate")
    made.evaluation(model, Batches([samples(1)], Questions()))
    ((_, options),) = model.asked
    assert options == {**given, "inference_method": "generate", "answer_list": None}


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("", "what is 1?"),
        ("Question: {} Short answer:", "Question: what is 1? Short answer:"),
        ("Q: ", "Q: what is 1?"),
        ("{x} ", "{x} what is 1?"),
    ],
)
def test_the_prompt_is_put_around_the_question(prompt, asked):
    model = Oracle()
    given = samples(1)
    task(prompt=prompt).evaluation(model, Batches([given], Questions(["a"])))
    assert model.asked[0][0] == [asked]
    assert given["text_input"] == ["what is 1?"]


def test_each_split_has_its_own_answers():
    made, model = task(), Oracle()
    first = made.evaluation(model, Batches([samples(1)], Questions(["no", "yes"])))
    second = made.evaluation(model, Batches([samples(1)], Questions(["red", "blue"])))
    assert (first[0]["answer"], second[0]["answer"]) == ("yes", "blue")


def test_a_rehearsal_uses_the_answers_of_the_data_that_were_looked_at():
    made, model = task(), Oracle()
    made.check_data(Questions(["no", "yes"]))
    made.rehearse(model, samples(1))
    assert model.asked[0][1]["answer_list"] == ["no", "yes"]


@pytest.mark.parametrize("name", ["vqa", "aok_vqa", "gqa"])
def test_ranking_needs_a_list(name):
    message = r"^quiz/val: run.inference_method 'rank' .* run.inference_method=generate"
    with pytest.raises(ValueError, match=message):
        task(name).check_data(Questions())
    task(name, inference_method="generate").check_data(Questions())
    task(name).check_data(Questions(["x"]))


@pytest.mark.parametrize("name", ["vqa", "aok_vqa", "gqa"])
def test_a_model_that_does_not_answer_is_told_at_once(name):
    with pytest.raises(TypeError, match=r"needs a model with predict_answers_with_confidence\(\)"):
        task(name).check(nn.Linear(1, 1), read_run({"task": name, **RUN}))


# --- vqa ----------------------------------------------------------------------------------------


def test_a_row_for_each_question():
    rows = task().evaluation(Oracle(), Batches([samples(1, 2)], Questions(["no", "yes"])))
    assert rows == [
        {"question_id": 101, "answer": "yes", "confidence": 0.5},
        {"question_id": 102, "answer": "no", "confidence": 0.333333},
    ]
    given = samples(1, question_id=["22MexNk"])
    rows = task().evaluation(Oracle(), Batches([given], Questions(["no", "yes"])))
    assert rows[0]["question_id"] == "22MexNk"


def rows(**answers):
    return [{"question_id": int(q[1:]), "answer": a} for q, a in answers.items()]


def test_scores_are_those_of_the_challenge():
    people = {
        "1": truth(*["yes"] * 10, answer_type="yes/no", question_type="is it"),
        "2": truth(*["red"] * 2, *["blue"] * 8, question_type="what color"),
        "3": truth(*["3"] * 10, answer_type="number"),
    }
    scores = task().score(rows(q1="yes", q2="red", q3="Three."), Questions(references=people))
    assert scores == {
        "agg_metrics": 86.67,
        "yes/no": 100.0,
        "other": 60.0,
        "number": 100.0,
        "question_type=is it": 100.0,
        "question_type=what color": 60.0,
        "question_type=what": 100.0,
    }


def test_without_ground_truth_there_are_no_scores():
    assert task().score(rows(q1="yes"), Questions()) == {}
    assert task().score(rows(q1="yes"), object()) == {}


def test_questions_without_ground_truth_are_left_out(caplog):
    data = Questions(references={1: truth(*["yes"] * 10)})
    assert task().score(rows(q1="yes", q2="no"), data)["agg_metrics"] == 100.0
    assert "1 of 2 questions have no answers" in caplog.text


def test_one_answer_per_question_is_another_task():
    data = Questions(["yes"], references={1: truth("yes"), 2: truth("no")})
    with pytest.raises(ValueError, match=r"^quiz/val: task 'vqa' compares .* task 'gqa'"):
        task().check_data(data)
    task().check_data(Questions(["yes"], references={1: truth("yes"), 2: truth("no", "yes")}))


@pytest.mark.parametrize("name", ["vqa", "gqa"])
def test_a_test_split_without_ground_truth_is_written_and_not_scored(name, tmp_path):
    config = read_run({"task": name, **RUN})
    made = setup_task(config)
    loader = ListLoader([samples(1), samples(2, 1)], dataset=Questions(["no", "yes"]))
    made.check_data(loader.dataset)
    runner = RunnerBase(
        config,
        task=made,
        model=Oracle(),
        loaders={"test": loader},
        context=RunContext(tmp_path, torch.device("cpu")),
    )
    assert runner.evaluate(["test"]) == {"test": {}}
    written = json.loads((tmp_path / "result" / "test_epochbest.json").read_text())
    assert [row["question_id"] for row in written] == [101, 102]  # 101 came twice
    assert json.loads((tmp_path / "evaluate.txt").read_text()) == {"test": {}}


# --- A-OKVQA ------------------------------------------------------------------------------------

CHOICES = [["red", "blue", "green", "pink"], ["one", "two", "three"]]


def aok_samples(**fields):
    return samples(1, 2, **({"choices": CHOICES} | fields))


def aok_rows(model=None, answer_list=("no", "yes"), **fields):
    made, model = task("aok_vqa"), model or Oracle()
    return made.evaluation(model, Batches([aok_samples(**fields)], Questions(list(answer_list))))


def test_words_and_a_choice():
    people = [["yes"] * 10, ["maybe"] * 10]
    found = aok_rows(direct_answers=people, correct_choice_idx=torch.tensor([1, 0]))
    assert found == [
        {
            "question_id": 101,
            "pred_ans": "yes",
            "confidence": 0.5,
            "gt_ans": ["yes"] * 10,
            "multiple_choice": "blue",
            "multiple_choice_confidence": 0.5,
            "gt_choice": "blue",
        },
        {
            "question_id": 102,
            "pred_ans": "no",
            "confidence": 0.333333,
            "gt_ans": ["maybe"] * 10,
            "multiple_choice": "three",
            "multiple_choice_confidence": 0.333333,
            "gt_choice": "one",
        },
    ]


def test_choices_are_ranked_one_question_at_a_time():
    model = Oracle(n1="yes", n2="no")
    made = task("aok_vqa", inference_method="generate", num_beams=4, prompt="Q: ")
    made.evaluation(model, Batches([aok_samples()], Questions()))
    assert [asked for asked, _ in model.asked] == [
        ["Q: what is 1?", "Q: what is 2?"],
        ["Q: what is 1?"],
        ["Q: what is 2?"],
    ]
    for (_, options), choices in zip(model.asked[1:], CHOICES, strict=True):
        assert options["answer_list"] == choices
        assert options["num_ans_candidates"] == len(choices)
        assert (options["inference_method"], options["num_beams"]) == ("rank", 4)


def test_both_accuracies():
    people = [["yes", "yes", "no"], ["no", "yes", "x"]]
    found = aok_rows(direct_answers=people, correct_choice_idx=[1, 0])
    made = task("aok_vqa")
    scores = made.score(found, Questions())
    right = 100 * (2 / 3 + 1 / 3) / 2
    assert scores == {
        "agg_metrics": pytest.approx(right),
        "acc": pytest.approx(right),
        "multiple_choice_acc": 50.0,
    }
    assert made.files(found) == {}


def test_words_are_compared_as_they_are():
    found = aok_rows(answer_list=["no", "Yes"], direct_answers=[["yes"] * 10, ["no"] * 10])
    assert task("aok_vqa").score(found, Questions())["acc"] == 50.0


@pytest.mark.parametrize(
    "fields", [{}, {"direct_answers": [None, None], "correct_choice_idx": [None, None]}]
)
def test_the_test_split_gives_a_file_for_the_server(fields):
    made, found = task("aok_vqa"), aok_rows(**fields)
    assert made.score(found, Questions()) == {}
    assert made.files(found) == {
        "result_leaderboard.json": {
            "101": {"direct_answer": "yes", "multiple_choice": "blue"},
            "102": {"direct_answer": "no", "multiple_choice": "three"},
        }
    }


@pytest.mark.parametrize("choices", [None, [None, None], [[], []]])
def test_without_choices_there_are_only_words(choices):
    found = aok_rows(choices=choices, direct_answers=[["yes"] * 3, ["no"] * 3])
    assert all("multiple_choice" not in row for row in found)
    scores = task("aok_vqa").score(found, Questions())
    assert scores == {"agg_metrics": 100.0, "acc": 100.0}


# --- GQA ----------------------------------------------------------------------------------------


def test_ranked_answers_must_match():
    made = task("gqa")
    batches = Batches([samples(1, 2, answer=["yes", "No"])], Questions(["no", "yes"]))
    found = made.evaluation(Oracle(), batches)
    assert found == [
        {"question_id": 101, "pred_ans": "yes", "gt_ans": "yes", "confidence": 0.5},
        {"question_id": 102, "pred_ans": "no", "gt_ans": "No", "confidence": 0.333333},
    ]
    assert made.score(found, Questions()) == {"agg_metrics": 50.0, "acc": 50.0}


def test_written_answers_are_normalized_first():
    made = task("gqa", inference_method="generate")
    model = Oracle(n1="The Car.", n2="two")
    found = made.evaluation(model, Batches([samples(1, 2, answer=["car", "two"])], Questions()))
    assert [row["pred_ans"] for row in found] == ["car", "2"]
    assert made.score(found, Questions())["acc"] == 50.0


def test_answers_that_only_the_data_set_has_are_compared_with():
    made = task("gqa")
    found = made.evaluation(Oracle(), Batches([samples(1, 2)], Questions(["no", "yes"])))
    first, second = (row["pred_ans"] for row in found)
    people = {101: truth(first, first), 102: truth(second, "?")}  # who do not agree: not scored
    assert made.score(found, Questions(references=people))["acc"] == 100.0
    people = {101: truth("?"), 102: truth(second)}
    assert made.score(found, Questions(references=people))["acc"] == 50.0


@pytest.mark.parametrize("fields", [{}, {"answer": [None, None]}])
def test_questions_whose_answers_are_secret(fields):
    made = task("gqa")
    found = made.evaluation(Oracle(), Batches([samples(1, 2, **fields)], Questions(["no"])))
    assert [row["gt_ans"] for row in found] == [None, None]
    assert made.score(found, Questions()) == {}
