"""Answer questions about images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import VqaOptions
from lavis_clone.models.capabilities import Answers
from lavis_clone.models.outputs import AnswerOutput
from lavis_clone.tasks.base import AGGREGATE, BaseTask, Row
from lavis_clone.tasks.captioning import row_id
from lavis_clone.tasks.checks import label_of
from lavis_clone.tasks.metrics.accuracy import accuracy
from lavis_clone.tasks.metrics.vqa import direct_accuracy, normalize, score_answers

logger = logging.getLogger(__name__)

LEADERBOARD = "result_leaderboard.json"
"""The file for A-OKVQA's server, in the job's directory."""


class AnswerTask(BaseTask):
    """Asks a model questions, which it answers from the data set's ``answer_list`` or freely."""

    evaluates_with = Answers
    key = "question_id"
    options: VqaOptions

    def __init__(self, options: VqaOptions) -> None:
        super().__init__(options)
        self.answer_list: Sequence[str] | None = None
        """What to choose from: the answers of the data set that was met last."""

    def check_data(self, dataset: Any) -> None:
        self._meet(dataset)
        if self.options.inference_method == "rank" and not self.answer_list:
            raise ValueError(
                f"{label_of(dataset)}run.inference_method 'rank' chooses from a list of answers, "
                "which the data set does not have; run.inference_method=generate writes answers"
            )

    def evaluation(self, model: Any, batches: Any) -> list[Row]:
        """A row for each question.

        Args:
            batches: Of questions; if it has a ``dataset``, that one's answers are chosen from.
        """
        if hasattr(batches, "dataset"):
            self._meet(batches.dataset)
        return super().evaluation(model, batches)

    def ask(self, model: Answers, samples: Mapping[str, Any], **changes: Any) -> AnswerOutput:
        """Let a model answer the questions of a batch.

        Args:
            changes: What to ask differently than the options say.
        """
        options: dict[str, Any] = {
            "num_beams": self.options.num_beams,
            "inference_method": self.options.inference_method,
            "max_len": self.options.max_len,
            "min_len": self.options.min_len,
            "num_ans_candidates": self.options.num_ans_candidates,
            "answer_list": self.answer_list,
        }
        questions = [self._prompted(question) for question in samples["text_input"]]
        return model.predict_answers_with_confidence(
            {**samples, "text_input": questions}, **(options | changes)
        )

    def _meet(self, dataset: Any) -> None:
        self.answer_list = getattr(dataset, "answer_list", None)

    def _prompted(self, question: str) -> str:
        prompt = self.options.prompt
        return prompt.replace("{}", question) if "{}" in prompt else f"{prompt}{question}"


@registry.register_task("vqa")
class VqaTask(AnswerTask):
    """Scores answers as the VQA challenge does.

    Rows: ``question_id``, ``answer``, ``confidence``. ``agg_metrics`` is the accuracy, 0 to 100.
    """

    name = "vqa"

    def check_data(self, dataset: Any) -> None:
        super().check_data(dataset)
        truths = _truths(dataset)
        if truths and all(len(truth.answers) < 2 for truth in truths.values()):
            raise ValueError(
                f"{label_of(dataset)}task 'vqa' compares an answer with those of several people, "
                "but no question has more than one; task 'gqa' scores exact matches"
            )

    def valid_step(self, model: Answers, samples: Mapping[str, Any]) -> list[Row]:
        output = self.ask(model, samples)
        return [
            {"question_id": question_id, "answer": answer, "confidence": sure}
            for question_id, answer, sure in _answered(samples, output)
        ]

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """Accuracy in percent: overall, by answer type (``yes/no``, ...) and by question type.

        {} without ground truth.
        """
        truths = _truths(dataset)
        known = [row for row in rows if row["question_id"] in truths]
        if not known:
            return {}
        if len(known) < len(rows):
            logger.warning(
                "%d of %d questions have no answers of people and are not scored",
                len(rows) - len(known),
                len(rows),
            )
        found = score_answers(
            [row["answer"] for row in known], [truths[row["question_id"]] for row in known]
        )
        by_question = {f"question_type={k}": v for k, v in found.by_question_type.items()}
        return {AGGREGATE: found.overall, **found.by_answer_type, **by_question}


@registry.register_task("aok_vqa")
class AokVqaTask(AnswerTask):
    """A-OKVQA: answers in words, and a choice among the few that come with a question.

    Rows: ``question_id``, ``pred_ans``, ``gt_ans`` (people's answers or None), ``confidence``; and
    where there are choices ``multiple_choice``, ``multiple_choice_confidence`` and ``gt_choice``.
    ``agg_metrics`` is the accuracy in words, 0 to 100.
    """

    name = "aok_vqa"

    def valid_step(self, model: Answers, samples: Mapping[str, Any]) -> list[Row]:
        """A choice is made by ranking the choices, whatever the inference method."""
        answered = _answered(samples, self.ask(model, samples))
        rows = []
        for i, (question_id, answer, sure) in enumerate(answered):
            row = {"question_id": question_id, "pred_ans": answer, "confidence": sure}
            row["gt_ans"] = _field(samples, "direct_answers", i)
            if choices := _field(samples, "choices", i):
                row |= self._choose(model, samples, i, choices)
            rows.append(row)
        return rows

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:  # noqa: ARG002
        """``acc`` of words and ``multiple_choice_acc`` in percent; {} without ground truth."""
        scores = {}
        known = [row for row in rows if row["gt_ans"] is not None]
        if known:
            right = [direct_accuracy(row["pred_ans"], row["gt_ans"]) for row in known]
            scores[AGGREGATE] = scores["acc"] = 100 * sum(right) / len(right)
        chosen = [row for row in known if row.get("gt_choice") is not None]
        if chosen:
            pairs = [row["multiple_choice"] for row in chosen], [row["gt_choice"] for row in chosen]
            scores["multiple_choice_acc"] = 100 * accuracy(*pairs)
        return scores

    def files(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the server that knows the answers takes, by the file's name; {} if we know them."""
        if not rows or any(row["gt_ans"] is not None for row in rows):
            return {}
        entries = {
            str(row["question_id"]): {
                "direct_answer": row["pred_ans"],
                "multiple_choice": row.get("multiple_choice", ""),
            }
            for row in rows
        }
        return {LEADERBOARD: entries}

    def _choose(
        self, model: Answers, samples: Mapping[str, Any], i: int, choices: Sequence[str]
    ) -> Row:
        """Rank the choices of question i."""
        output = self.ask(
            model,
            {"image": samples["image"][i : i + 1], "text_input": samples["text_input"][i : i + 1]},
            inference_method="rank",
            answer_list=list(choices),
            num_ans_candidates=len(choices),
        )
        right = _field(samples, "correct_choice_idx", i)
        return {
            "multiple_choice": output.text[0],
            "multiple_choice_confidence": round(output.confidence[0].item(), 6),
            "gt_choice": None if right is None else choices[int(right)],
        }


@registry.register_task("gqa")
class GqaTask(AnswerTask):
    """Scores answers by exact match; those that a model writes are normalized before.

    Rows: ``question_id``, ``pred_ans``, ``gt_ans`` (or None), ``confidence``. ``agg_metrics`` is
    the accuracy, 0 to 100.
    """

    name = "gqa"

    def valid_step(self, model: Answers, samples: Mapping[str, Any]) -> list[Row]:
        written = self.options.inference_method == "generate"
        answered = _answered(samples, self.ask(model, samples))
        return [
            {
                "question_id": question_id,
                "pred_ans": normalize(answer) if written else answer,
                "gt_ans": _field(samples, "answer", i),
                "confidence": sure,
            }
            for i, (question_id, answer, sure) in enumerate(answered)
        ]

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """``acc`` in percent; {} without ground truth.

        Where rows have none, it is what the data set says of their questions, if people agree.
        """
        is_told = any(row["gt_ans"] is not None for row in rows)
        agreed = {} if is_told else _agreed(dataset)
        pairs = [(row["pred_ans"], agreed.get(row["question_id"], row["gt_ans"])) for row in rows]
        known = [(answer, truth) for answer, truth in pairs if truth is not None]
        if not known:
            return {}
        right = 100 * accuracy([answer for answer, _ in known], [truth for _, truth in known])
        return {AGGREGATE: right, "acc": right}


def _answered(
    samples: Mapping[str, Any], output: AnswerOutput
) -> list[tuple[int | str, str, float]]:
    """Question id, answer and confidence of each sample."""
    ids = samples["question_id"]
    ids = ids.tolist() if isinstance(ids, Tensor) else ids
    sure = [round(confidence, 6) for confidence in output.confidence.tolist()]
    return [(row_id(q), a, c) for q, a, c in zip(ids, output.text, sure, strict=True)]


def _field(samples: Mapping[str, Any], name: str, i: int) -> Any:
    """What a batch says about sample i; None, when it says nothing."""
    values = samples.get(name)
    return None if values is None else values[i]


def _agreed(dataset: Any) -> dict[int | str, str]:
    """The answer of each question that people gave one answer to."""
    answers = {question_id: set(truth.answers) for question_id, truth in _truths(dataset).items()}
    return {question_id: found.pop() for question_id, found in answers.items() if len(found) == 1}


def _truths(dataset: Any) -> dict[int | str, Any]:
    """People's answers by question id, as rows have it."""
    references: Mapping[Any, Any] = getattr(dataset, "references", dict)()
    return {row_id(question_id): truth for question_id, truth in references.items()}
