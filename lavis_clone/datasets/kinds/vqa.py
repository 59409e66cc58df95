"""Questions about pictures: VQAv2, OK-VQA, Visual Genome, GQA and A-OKVQA, or your own.

A record is ``{"image": "folder/file.jpg", "question": "text", "answer": "text" or ["text", ...],
"question_id": ...}``. Without a ``question_id`` a question's id is the number of its record,
counted from 0. Several answers are those of several people: the more gave one, the more it weighs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lavis_clone.datasets.annotations import (
    AnnotationError,
    Record,
    Records,
    holds_texts,
    read_annotations,
    read_texts,
)
from lavis_clone.datasets.base import BaseDataset, Sample, Scalar


@dataclass(frozen=True)
class QuestionTruth:
    """What people say about a question."""

    answers: list[str]
    """One for each person."""
    answer_type: str | None = None
    """``yes/no``, ``number`` or ``other``, in VQAv2."""
    question_type: str | None = None
    """The question's first words, in VQAv2."""


ANSWER_KEYS = ("answer", "answers")
"""Where a record's answers are."""


def answers_of(record: Record, keys: Sequence[str] = ANSWER_KEYS) -> list[str]:
    """A record's answers, one for each person; none when all of the ``keys`` are absent or empty.

    >>> answers_of({"answer": "yes"}), answers_of({"answers": [{"answer": "2"}, {"answer": "3"}]})
    (['yes'], ['2', '3'])
    """
    given: Any = next((record[key] for key in keys if record.get(key) not in (None, "")), [])
    if isinstance(given, str):
        return [given]
    return [answer if isinstance(answer, str) else answer["answer"] for answer in given]


def check_question(record: Record, media: str = "image") -> str | None:
    """What is wrong with a record of a picture or video and its question, or None."""
    for key in (media, "question"):
        if not isinstance(record[key], str) or not record[key]:
            return f"{key} must be text, got {record[key]!r:.80}"
    question_id = record.get("question_id")
    if question_id is not None and type(question_id) not in (int, str):
        return f"question_id must be a whole number or text, got {question_id!r:.80}"
    return None


def _check_answers(record: Record, keys: Sequence[str]) -> str | None:
    for key in keys:
        given = record.get(key)
        if given is None or isinstance(given, str):
            continue
        if not isinstance(given, list) or not given or not all(map(_is_answer, given)):
            return f"{key} must be text or a list of texts, got {given!r:.80}"
    return None


def _is_answer(given: Any) -> bool:
    return isinstance(given, str) or (
        isinstance(given, dict) and isinstance(given.get("answer"), str)
    )


def check_one_answer(record: Record) -> str | None:
    """What is wrong with the answer of a record that has one at most, or None."""
    answer = record.get("answer")
    if answer is None or isinstance(answer, str):
        return None
    return f"answer must be one text, got {answer!r:.80}"


def _check_choices(record: Record) -> str | None:
    choices, right = record.get("choices"), record.get("correct_choice_idx")
    if choices is None:
        return None if right is None else "has a correct_choice_idx, but no choices"
    if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        return f"choices must be a list of texts, got {choices!r:.80}"
    if right is None or (type(right) is int and 0 <= right < len(choices)):
        return None
    return f"correct_choice_idx must be one of 0 to {len(choices) - 1}, got {right!r:.80}"


def weights_of(given: Sequence[str], total: float = 1.0) -> dict[str, float]:
    """Distinct answers in order of appearance, and the share of people who gave each.

    >>> weights_of(["no", "yes", "no", "no"])
    {'no': 0.75, 'yes': 0.25}
    """
    return {answer: total * count / len(given) for answer, count in Counter(given).items()}


def collate_lists(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stack tensors; all else becomes lists, in which None stands for what is not known."""
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    return {
        key: torch.stack(values) if isinstance(values[0], Tensor) else values
        for key, values in batch.items()
    }


class VqaDataset(BaseDataset):
    """For training.

    ``image`` as processed, ``text_input`` str, ``answers`` (n distinct ones in order of
    appearance) and ``weights`` (n floats: the share of people who gave an answer).
    """

    required: ClassVar[tuple[str, ...]] = ("image", "question")
    weight: ClassVar[float] = 1.0
    """What the weights of a question's answers add up to."""
    answer_keys: ClassVar[tuple[str, ...]] = ANSWER_KEYS
    told_keys = ANSWER_KEYS

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        problem = check_question(record) or _check_answers(record, cls.answer_keys)
        if problem or answers_of(record, cls.answer_keys):
            return problem
        if empty := [key for key in cls.answer_keys if record.get(key) == ""]:
            return f"{empty[0]} is empty"
        return f"has no {cls.answer_keys[0]!r} (it has {', '.join(map(str, record))})"

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        weights = self.answers_in(record)
        return {
            "image": self.load_picture(record["image"]),
            "text_input": self.text_processor(record["question"]),
            "answers": list(weights),
            "weights": list(weights.values()),
        }

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"question": [record["question"]]}

    def answers_in(self, record: Record) -> Mapping[str, float]:
        return weights_of(answers_of(record, self.answer_keys), self.weight)

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a ``VqaBatch``: the answers of all questions in one list, one after another."""
        weights = [weight for sample in samples for weight in sample["weights"]]
        return {
            **collate_lists([{k: s[k] for k in ("image", "text_input")} for s in samples]),
            "answer": [answer for sample in samples for answer in sample["answers"]],
            "weight": torch.tensor(weights, dtype=torch.float32),
            "n_answers": torch.tensor([len(sample["answers"]) for sample in samples]),
        }


class VqaEvalDataset(BaseDataset):
    """For evaluation. ``image``, ``text_input``, ``question_id``, ``instance_id`` str.

    Besides files of records, ``ann_paths`` may have, in any order after the first:

    - a list of texts, or a ``.txt`` file with one on each line: the answers to choose from;
    - VQAv2's questions (``{"questions": [...]}``), which the records repeat and are not used;
    - VQAv2's annotations (``{"annotations": [...]}``): people's answers by ``question_id``. Without
      them those of the records are the truth, where they have any.

    Raises:
        AnnotationError: a file cannot be used, two records have one id, or annotations are of other
            questions than the records'.
    """

    required = ("image", "question")
    answer_keys: ClassVar[tuple[str, ...]] = ANSWER_KEYS
    told_keys = ANSWER_KEYS

    answer_list: list[str] | None
    """The answers to choose from; None when there is no such file."""

    def __init__(
        self,
        vis_processor: Any = None,
        text_processor: Any = None,
        vis_root: str | Path | None = None,
        ann_paths: Sequence[str | Path] = (),
    ) -> None:
        self.answer_list = None
        truths: list[Record] = []
        of_records = []
        for number, path in enumerate(ann_paths):
            if (answers := _answer_list(path)) is not None:
                self.answer_list = [*(self.answer_list or ()), *answers]
            elif number == 0 or (kept := _other_file(path)) is None:
                of_records.append(path)
            else:
                truths += kept
        super().__init__(vis_processor, text_processor, vis_root, of_records)
        ids = self._check_ids()
        if truths and ids.isdisjoint(str(truth["question_id"]) for truth in truths):
            names = ", ".join(map(str, ann_paths))
            raise AnnotationError(f"{names}: the annotations have none of the records' questions")
        self._truths = Records(truths)

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_question(record) or _check_answers(record, cls.answer_keys)

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        return {
            "image": self.load_picture(record["image"]),
            "text_input": self.text_processor(record["question"]),
            "question_id": question_id_of(record),
            "instance_id": record["instance_id"],
        }

    def ids_in(self, record: Record) -> Mapping[str, Scalar]:
        return {"question_id": question_id_of(record)}

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {"question": [record["question"]]}

    def answers_in(self, record: Record) -> Mapping[str, float]:
        truth = self._truth_by_id.get(question_id_of(record)) if len(self._truths) else record
        keys = ANSWER_KEYS if len(self._truths) else self.answer_keys
        return weights_of(answers_of(truth, keys)) if truth else {}

    @cached_property
    def _truth_by_id(self) -> dict[int | str, Record]:
        return {truth["question_id"]: truth for truth in self._truths}

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a ``VqaEvalBatch``: tensors are stacked, all else becomes lists."""
        return collate_lists(samples)

    def references(self) -> dict[int | str, QuestionTruth]:
        """People's answers by question id, unprocessed; {} where nobody's are known."""
        if len(self._truths):
            return {truth["question_id"]: _truth(truth, ANSWER_KEYS) for truth in self._truths}
        return {
            question_id_of(record): _truth(record, self.answer_keys)
            for record in self.annotation
            if answers_of(record, self.answer_keys)
        }

    def _check_ids(self) -> set[str]:
        """The ids of all questions."""
        found: set[str] = set()
        for record in self.annotation:
            question_id = str(question_id_of(record))
            if question_id in found:
                raise AnnotationError(
                    f"annotation {record['instance_id']}: another has its question_id too, "
                    f"{question_id!r}"
                )
            found.add(question_id)
        return found


class VgVqaDataset(VqaDataset):
    """Visual Genome's questions weigh less than those of VQAv2, beside which they are used."""

    weight = 0.2


class GqaDataset(VqaDataset):
    """For training on questions with one answer each."""

    required = ("image", "question", "answer")
    answer_keys = ("answer",)

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_one_answer(record) or super().check_record(record)


class GqaEvalDataset(VqaEvalDataset):
    """For evaluation: as ``VqaEvalDataset``, with ``answer`` str.

    Samples have no ``answer`` when no record has, and None when only others have.
    """

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return check_question(record) or check_one_answer(record)

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        known = {"answer": self.annotation[index].get("answer") or None} if self._answered else {}
        return {**sample, **known}

    @cached_property
    def _answered(self) -> bool:
        return any(record.get("answer") for record in self.annotation)


class AokVqaDataset(VqaDataset):
    """For training on ``direct_answers``; the choices are not used."""

    answer_keys = ("direct_answers",)


class AokVqaEvalDataset(VqaEvalDataset):
    """For evaluation: as ``VqaEvalDataset``, with what is to be chosen from and what is right.

    ``choices`` list of str, ``correct_choice_idx`` int and ``direct_answers`` list of str; each
    None where the record does not say.
    """

    answer_keys = ("direct_answers",)
    told_keys = ("direct_answers", "correct_choice_idx")

    @classmethod
    def check_record(cls, record: Record) -> str | None:
        return super().check_record(record) or _check_choices(record)

    def __getitem__(self, index: int) -> Sample:
        record = self.annotation[index]
        return {
            **super().__getitem__(index),
            "choices": record.get("choices"),
            "correct_choice_idx": record.get("correct_choice_idx"),
            "direct_answers": answers_of(record, self.answer_keys) or None,
        }

    def texts_in(self, record: Record) -> Mapping[str, Sequence[str]]:
        return {**super().texts_in(record), "choices": record.get("choices") or ()}

    def labels_in(self, record: Record) -> Sequence[str]:
        right = record.get("correct_choice_idx")
        return [] if right is None else [record["choices"][right]]


def question_id_of(record: Record) -> int | str:
    given: int | str | None = record.get("question_id")
    return int(record["instance_id"]) if given is None else given


def _truth(record: Record, keys: Sequence[str]) -> QuestionTruth:
    return QuestionTruth(
        answers_of(record, keys), record.get("answer_type"), record.get("question_type")
    )


def _answer_list(path: str | Path) -> list[str] | None:
    """The answers to choose from, if that is what a file holds."""
    path = Path(path)
    if path.suffix.lower() != ".txt":
        return read_texts(path) if holds_texts(path) else None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: cannot be read: {error}") from error
    answers = [line.strip() for line in lines if line.strip()]
    if not answers:
        raise AnnotationError(f"{path}: holds no answers")
    return answers


def _other_file(path: str | Path) -> list[Record] | None:
    """The answers in a file of VQAv2's annotations, [] of its questions; None for our records."""
    found = read_annotations(path, check=_check_other)
    if "image" in found[0]:
        return None
    kept = ("question_id", *ANSWER_KEYS, "answer_type", "question_type")
    return [{key: row.get(key) for key in kept} for row in found if answers_of(row)]


def _check_other(record: Record) -> str | None:
    if "image" in record:
        return None  # checked when the records are read
    if record.get("question_id") is None:
        return "has neither 'image', as a record has, nor 'question_id', as VQAv2's files have"
    return _check_answers(record, ANSWER_KEYS)
