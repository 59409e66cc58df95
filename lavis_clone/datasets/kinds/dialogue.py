"""Dialogues about videos or pictures: AVSD, VisDial, or your own.

A record is a whole dialogue: ``{"image_id": ..., "caption": "text", "summary": "text", "dialog":
[{"question": "text", "answer": "text" or ["text", ...]}, ...]}``; caption and summary may be
absent, and of several answers the first is learned while all are references. Only the last turn may
lack its answer. A sample is one turn, with the turns before it.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lavis_clone.datasets.annotations import AnnotationError, Record, read_json
from lavis_clone.datasets.base import BaseDataset, Description, Sample
from lavis_clone.datasets.kinds.vqa import weights_of
from lavis_clone.datasets.skip import SampleError
from lavis_clone.processors.dialogue import FeatureError

UNDISCLOSED = "__UNDISCLOSED__"
"""What AVSD's challenge files have in the place of an answer that is not told."""

TEXT_KEYS = ("input_ids", "token_type_ids", "labels")


def replies_of(turn: Mapping[str, Any]) -> list[str]:
    """The answers that people gave in a turn; none where they are not known."""
    given = turn.get("answer")
    answers = [given] if isinstance(given, str) else list(given or [])
    return [answer for answer in answers if answer and answer != UNDISCLOSED]


def _check_turn(turn: Any, *, is_last: bool) -> str | None:
    if not isinstance(turn, dict) or not isinstance(turn.get("question"), str):
        return f"must be a mapping with a question, got {turn!r:.80}"
    given = turn.get("answer")
    listed = [] if given is None else given if isinstance(given, list) else [given]
    if not all(isinstance(answer, str) for answer in listed):
        return f"answer must be text or a list of texts, got {given!r:.80}"
    if not is_last and not replies_of(turn):
        return "has no answer, which only the last turn may lack"
    return None


class DialogueDataset(BaseDataset):
    """For training: every turn that has an answer.

    With the text processor ``gpt_dialogue`` samples have ``input_ids``, ``token_type_ids`` and
    ``labels``, ``(T,)`` each; with any other ``text_input`` str (caption, turns and question) and
    ``answer`` str. With the vision processor ``gpt_video_ft`` they have ``video_fts`` ``(V, F)``
    and, beside ids, ``video_token_type_ids`` ``(V,)``; with any other ``image`` as processed.
    ``image_id`` and ``instance_id``, the number of the turn, are str.
    """

    required = ("image_id", "dialog")

    vis_processor: Any
    text_processor: Any

    def prepare(self) -> None:
        self._dialogues, self._turns = array("q"), array("q")
        for number, record in enumerate(self.annotation):
            for turn in self.asked(record["dialog"]):
                self._dialogues.append(number)
                self._turns.append(turn)

    @staticmethod
    def check_record(record: Record) -> str | None:
        for key in ("caption", "summary"):
            if record.get(key) is not None and not isinstance(record[key], str):
                return f"{key} must be text, got {record[key]!r:.80}"
        turns = record["dialog"]
        if not isinstance(turns, list) or not turns:
            return f"dialog must be a list of turns, got {turns!r:.80}"
        for number, turn in enumerate(turns, start=1):
            if problem := _check_turn(turn, is_last=number == len(turns)):
                return f"turn {number} of dialog {problem}"
        return None

    def asked(self, turns: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Which turns of a dialogue become samples."""
        return [number for number, turn in enumerate(turns) if replies_of(turn)]

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, index: int) -> Sample:
        record, turn = self.annotation[self._dialogues[index]], self.turn(index)
        words = self._words(turn)
        seen = self._seen(record)
        if "video_fts" in seen and "input_ids" in words:
            kind = self.text_processor.video_type_id
            seen["video_token_type_ids"] = torch.full((len(seen["video_fts"]),), kind)
        ids = {"image_id": str(record["image_id"]), "instance_id": str(index)}
        return {**seen, **words, **ids}

    def turn(self, index: int) -> dict[str, Any]:
        """One turn with what came before it: what a text processor of dialogues takes.

        ``answer`` is absent where nobody's is known.
        """
        record = self.annotation[self._dialogues[index]]
        number = self._turns[index]
        turns = record["dialog"]
        known = replies_of(turns[number])
        return {
            "caption": record.get("caption") or "",
            "summary": record.get("summary") or "",
            "dialog": [
                {"question": turn["question"], "answer": replies_of(turn)[0]}
                for turn in turns[:number]
            ],
            "question": turns[number]["question"],
        } | ({"answer": known[0]} if known else {})

    def references(self) -> dict[str, list[str]]:
        """All answers that people gave to each turn, by ``instance_id``; only where there are."""
        found = {}
        for index in range(len(self)):
            turns = self.annotation[self._dialogues[index]]["dialog"]
            if known := replies_of(turns[self._turns[index]]):
                found[str(index)] = known
        return found

    def picture_of(self, record: Record) -> str:
        """The file of a dialogue's picture, below ``vis_root``."""
        return str(record.get("image") or record["image_id"])

    def describe(self, index: int) -> Description:
        """A turn: ``dialog`` is the questions and answers before it, in turn."""
        record, turn = self.annotation[self._dialogues[index]], self.turn(index)
        known = replies_of(record["dialog"][self._turns[index]])
        texts = {
            "caption": (turn["caption"],),
            "summary": (turn["summary"],),
            "dialog": tuple(said[k] for said in turn["dialog"] for k in ("question", "answer")),
            "question": (turn["question"],),
        }
        return Description(
            media={role: self.place_of(file) for role, file in self.media_in(record).items()},
            texts={role: found for role, found in texts.items() if any(found)},
            answers=weights_of(known),
            scalars={"image_id": str(record["image_id"]), "instance_id": str(index)},
        )

    def media_in(self, record: Record) -> Mapping[str, str]:
        if not getattr(self.vis_processor, "takes_features", False):
            return {"image": self.picture_of(record)}
        kinds = self.vis_processor.kinds
        return {kind: f"{kind}/{record['image_id']}.npy" for kind in kinds}

    def displ_item(self, index: int) -> OrderedDict[str, Any]:
        """A turn to show to people, as it was said."""
        record = self.annotation[self._dialogues[index]]
        return OrderedDict(file=self.picture_of(record), **self.turn(index))

    def collater(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a ``DialogueBatch``: ids and features are padded, types and masks of both joined."""
        padded = {*TEXT_KEYS, "video_fts", "video_token_type_ids"}
        rest = [{k: v for k, v in sample.items() if k not in padded} for sample in samples]
        batch: dict[str, Any] = default_collate(rest)
        columns = {key: [sample[key] for sample in samples] for key in padded & samples[0].keys()}
        if "video_fts" in columns:
            batch["video_fts"] = self._pad_videos(columns["video_fts"])
        if "input_ids" in columns:
            batch |= self._pad_texts(columns)
        return batch

    def _pad_videos(self, videos: list[Tensor]) -> Tensor:
        widths = sorted({frames.shape[1] for frames in videos})
        if len(widths) > 1:
            raise ValueError(f"videos have features of different widths: {widths}")
        padded: Tensor = self.vis_processor.padding(videos)
        return padded

    def _pad_texts(self, columns: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """``input_ids`` and ``labels`` ``(B, T)``, ``token_type_ids`` and mask ``(B, V + T)``."""
        pad, present = self.text_processor.padding, self.text_processor.get_attention_mask
        pad_id = self.text_processor.pad_id
        parts = [columns[k] for k in ("video_token_type_ids", "token_type_ids") if k in columns]
        return {
            "input_ids": pad(columns["input_ids"], pad_id),
            "labels": pad(columns["labels"]),
            "token_type_ids": torch.cat([pad(part, pad_id) for part in parts], dim=1),
            "attn_mask": torch.cat([present(part) for part in parts], dim=1),
        }

    def _words(self, turn: dict[str, Any]) -> dict[str, Any]:
        if getattr(self.text_processor, "takes_dialogues", False):
            return dict(self.text_processor(turn))
        said = [turn["caption"], *(turn_[k] for turn_ in turn["dialog"] for k in turn_)]
        text = " ".join(filter(None, [*said, turn["question"]]))
        return {"text_input": self.text_processor(text), "answer": turn.get("answer", "")}

    def _seen(self, record: Record) -> dict[str, Any]:
        if not getattr(self.vis_processor, "takes_features", False):
            return {"image": self.load_picture(self.picture_of(record))}
        try:
            return {"video_fts": self.vis_processor(self.vis_root, str(record["image_id"]))}
        except FeatureError as error:
            raise SampleError(str(error)) from error


class AvsdEvalDataset(DialogueDataset):
    """For evaluation: the last turn of each dialogue, as AVSD's challenges ask it."""

    def asked(self, turns: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        return [len(turns) - 1]


class VisDialDataset(DialogueDataset):
    """For training on VisDial 1.0's files, or on records as all dialogues have them.

    Its files keep questions and answers in lists of their own, which the turns number. Pictures are
    COCO's where the split is ``train`` (in ``train2014`` or ``val2014``), else VisDial's own (in
    ``VisualDialog_val2018`` or ``VisualDialog_test2018``). Candidate answers are not read.
    """

    def read_file(self, path: str | Path) -> Sequence[Record]:
        content = read_json(path) if str(path).lower().endswith(".json") else None
        if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
            return super().read_file(path)
        data, split = content["data"], str(content.get("split", ""))
        if missing := [key for key in ("dialogs", "questions", "answers") if key not in data]:
            raise AnnotationError(f"{path}: data has no {missing[0]!r}")
        records = []
        for number, dialogue in enumerate(data["dialogs"], start=1):
            try:
                record = _with_texts(dialogue, data["questions"], data["answers"])
                problem = self.check_record(record)
            except (KeyError, IndexError, TypeError) as error:
                problem = f"does not fit the lists of questions and answers: {error!r}"
            if problem:
                raise AnnotationError(f"{path}, dialogue {number}: {problem}")
            records.append({**record, "split": split})
        if not records:
            raise AnnotationError(f"{path}: holds no records")
        return records

    def picture_of(self, record: Record) -> str:
        if record.get("image") or not record.get("split"):
            return super().picture_of(record)
        number, split = int(record["image_id"]), record["split"]
        if split != "train":
            return f"VisualDialog_{split}2018/VisualDialog_{split}2018_{number:012}.jpg"
        places = [f"{part}2014/COCO_{part}2014_{number:012}.jpg" for part in ("train", "val")]
        return next((place for place in places if (self.vis_root / place).is_file()), places[0])


class VisDialEvalDataset(VisDialDataset):
    """For evaluation: every turn; of a dialogue whose last answer is not told, that turn."""

    def asked(self, turns: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        return range(len(turns)) if replies_of(turns[-1]) else [len(turns) - 1]


def _with_texts(
    dialogue: Mapping[str, Any], questions: Sequence[str], answers: Sequence[str]
) -> dict[str, Any]:
    """A dialogue with texts in the place of their numbers."""
    turns = [
        {"question": questions[turn["question"]]}
        | ({"answer": answers[turn["answer"]]} if "answer" in turn else {})
        for turn in dialogue["dialog"]
        if "question" in turn
    ]
    named = {key: dialogue.get(key) for key in ("caption", "image")}
    return {"image_id": dialogue["image_id"], "dialog": turns} | named
