"""Annotations of all tasks but captioning, made from those of captioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import emoji_questions as questions
from emoji_questions import answer_list, question_records
from emoji_records import Record, write_rows
from emoji_statements import class_records, statement_records
from emoji_texts import names_held_out, pairs, retrieval_eval, retrieval_train

TRAIN = "train"


@dataclass(frozen=True)
class Amounts:
    """How much of what is possible is written, 0 to 1 each."""

    questions: float
    """Of what ``emoji_questions`` takes for the full set."""
    train_statements: float
    eval_statements: float
    train_classes: float
    eval_classes: float

    def statements(self, part: str) -> float:
        return _share(part, self.train_statements, self.eval_statements)

    def classes(self, part: str) -> float:
        return _share(part, self.train_classes, self.eval_classes)


FULL = Amounts(
    questions=1,
    train_statements=0.75,
    eval_statements=0.5,
    train_classes=0.75,
    eval_classes=0.5,
)
SAMPLE = Amounts(
    questions=0.35,
    train_statements=0.25,
    eval_statements=0.2,
    train_classes=0.35,
    eval_classes=0.3,
)


def parts_of(splits: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """Caption records by part: ``train``, ``val_seen``, ``val_unseen``, ``test_seen``, ..."""
    parts: dict[str, list[Record]] = {}
    for split, rows in splits.items():
        if split == TRAIN:
            parts[TRAIN] = list(rows)
            continue
        parts[f"{split}_seen"] = [row for row in rows if row["seen"]]
        parts[f"{split}_unseen"] = [row for row in rows if not row["seen"]]
    return parts


def write_tasks(splits: Mapping[str, Sequence[Record]], folder: Path, amounts: Amounts) -> None:
    """Write ``<task>_<part>.json`` for each task and each part of the splits.

    Args:
        splits: Caption records, by split.
        folder: Where the caption annotations are, too.
    """
    held_out = names_held_out(splits)
    for part, rows in parts_of(splits).items():
        texts = retrieval_train(rows) if part == TRAIN else retrieval_eval(rows)
        asked = [
            {**record, "question_id": f"{part}_{index}"}
            for index, record in enumerate(
                question_records(rows, _question_shares(part).times(amounts.questions))
            )
        ]
        write_rows(texts, folder / f"retrieval_{part}.json")
        write_rows(asked, folder / f"vqa_{part}.json")
        write_rows(statement_records(rows, amounts.statements(part)), folder / f"nlvr_{part}.json")
        write_rows(
            class_records(rows, amounts.classes(part)), folder / f"classification_{part}.json"
        )
        if part == TRAIN:
            write_rows(answer_list(asked), folder / "vqa_answer_list.json")
            write_rows(pairs(rows, held_out), folder / "pretrain.json")


def _question_shares(part: str) -> questions.Shares:
    if part == TRAIN:
        return questions.TRAIN
    return questions.UNSEEN if part.endswith("_unseen") else questions.SEEN


def _share(part: str, train: float, evaluation: float) -> float:
    """Unseen concepts are few: all of what is possible is kept."""
    if part == TRAIN:
        return train
    return 1.0 if part.endswith("_unseen") else evaluation
