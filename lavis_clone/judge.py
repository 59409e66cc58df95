"""``lavis-clone ask``, ``match`` and ``classify``: what models say about pictures when asked.

Shapes: B pictures, K texts or labels, N image tokens, E image width, F width of the common space.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lavis_clone.inference import (
    Choice,
    Count,
    Item,
    OpenModel,
    Printing,
    Row,
    Rows,
    check_output,
    check_texts,
    find_pictures,
    in_batches,
    read_choices,
    read_picture,
    rounded,
)
from lavis_clone.models.capabilities import Answers, Embeds
from lavis_clone.models.heads.matching import MatchingModel

TEMPERATURE = 0.07
"""Of models that have none of their own: what the training of all families starts at."""
SLOT = "{}"
"""Where a label goes in a prompt."""


# --- ask ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Questions:
    """What to ask about a picture, and whom."""

    image: str
    questions: Sequence[str]
    choice: Choice
    answers: str | None = None
    """``a,b,c`` or a file to choose from; None to let the model write."""
    num_beams: int = 3
    batch_size: int = 32
    """Questions at a time; the picture is encoded once for each such batch."""

    @property
    def method(self) -> str:
        """How the model comes to its answers."""
        return "generate" if self.answers is None else "rank"


def ask(request: Questions, printing: Printing) -> None:
    """Print the answer to each question.

    Raises:
        ImageError, FileError, LookupError, TypeError, ValueError: before a model is loaded.
    """
    model_class = request.choice.check(Answers, task="ask")
    check_texts(request.questions, kind="question")
    if request.method not in getattr(model_class, "METHODS", [request.method]):
        raise ValueError(f"{request.choice.name} does not write answers; give some by --answers")
    answers = None if request.answers is None else read_choices(request.answers, kind="answer")
    check_output(printing.output)
    picture = read_picture(request.image)
    opened = request.choice.open()
    asked = opened.texts(request.questions)
    _mask_padding(opened.model)
    image = opened.images([picture])
    with Rows(_told_answer, printing) as rows:
        for start, batch in _parts(asked, request.batch_size):
            found = opened.model.predict_answers_with_confidence(
                {"image": image, "text_input": batch},
                num_beams=request.num_beams,
                inference_method=request.method,
                answer_list=answers,
            )
            given = request.questions[start : start + len(batch)]
            _show(rows, _answers(request.image, given, found.text, found.confidence.tolist()))


def _mask_padding(model: Any) -> None:
    """Let no answer depend on what else is asked; a question alone is answered as ever."""
    if hasattr(model.config, "mask_question_padding"):
        model.config = dataclasses.replace(model.config, mask_question_padding=True)


def _answers(
    image: str, questions: Sequence[str], answers: Sequence[str], confidences: Sequence[float]
) -> list[Row]:
    return [
        {"image": image, "question": question, "answer": answer, "confidence": rounded(confidence)}
        for question, answer, confidence in zip(questions, answers, confidences, strict=True)
    ]


def _told_answer(row: Mapping[str, Any]) -> str:
    return f"{row['question']} {row['answer']} ({row['confidence']:.2f})"


# --- match --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """A picture, and texts that may describe it."""

    image: str
    texts: Sequence[str]
    choice: Choice
    batch_size: int = 64
    """Texts at a time."""


def match(request: Pairs, printing: Printing) -> None:
    """Print how likely each text describes the picture, the likeliest first.

    Raises:
        ImageError, FileError, LookupError, TypeError, ValueError: before a model is loaded.
    """
    request.choice.check(MatchingModel, task="match")
    check_texts(request.texts, kind="text")
    check_output(printing.output)
    picture = read_picture(request.image)
    opened = request.choice.open()
    found = judge_texts(opened, picture, request.texts, size=request.batch_size)
    found.sort(key=lambda row: -row["confidence"])  # those that are alike stay in order
    with Rows(_told_match, printing) as rows:
        shown = ("confidence", "cosine")
        _show(
            rows,
            [{"image": request.image} | row | {k: rounded(row[k]) for k in shown} for row in found],
        )


@torch.no_grad()
def judge_texts(
    opened: OpenModel, picture: Image.Image, texts: Sequence[str], *, size: int
) -> list[Row]:
    """Judge K texts about one picture, which is encoded once.

    Args:
        size: Texts at a time.

    Returns:
        For each text ``text``, ``confidence`` (the probability that it describes the picture) and
        ``cosine`` (of the two in the common space).
    """
    model: MatchingModel = opened.model
    image = model.embed_images(opened.images([picture]))
    found: list[Row] = []
    for start, batch in _parts(opened.texts(texts), size):
        embedded = model.embed_texts(batch)
        cosines = embedded.projected @ image.projected[0]  # (K,)
        logits = model.match_logits(image.tokens[0], embedded)
        sure = logits.softmax(dim=1)[:, 1]
        given = texts[start : start + len(batch)]
        for text, confidence, cosine in zip(given, sure.tolist(), cosines.tolist(), strict=True):
            found.append({"text": text, "confidence": confidence, "cosine": cosine})
    return found


def _told_match(row: Mapping[str, Any]) -> str:
    return f"{row['text']} ({row['confidence']:.2f}, cosine {row['cosine']:.2f})"


# --- classify -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """Pictures, and classes that they may belong to."""

    sources: Sequence[str]
    labels: str
    """``a,b,c`` or a file"""
    choice: Choice
    prompt: str = "a picture of {}"
    top: int = 5
    batch_size: int = 8


def classify(request: Labels, printing: Printing) -> Count:
    """Print each picture's likeliest labels, without training: by texts that name them.

    Raises:
        ImageError, FileError, LookupError, TypeError, ValueError: before any work.
    """
    request.choice.check(Embeds, task="classify")
    labels = read_choices(request.labels, kind="label")
    if SLOT not in request.prompt:
        raise ValueError(f"prompt: must hold {SLOT} where the label goes, got {request.prompt!r}")
    check_output(printing.output)
    names = list(enumerate(find_pictures(request.sources)))
    opened = functools.cache(request.choice.open)

    @functools.cache
    def embedded() -> Tensor:
        prompted = [request.prompt.replace(SLOT, label) for label in labels]
        return embed_labels(opened(), prompted, size=request.batch_size)

    with Rows(_told_label, printing) as rows:

        def work(items: list[Item[Image.Image]]) -> list[str]:
            confidences = class_confidences(opened(), [i.content for i in items], embedded())
            best = confidences.topk(min(request.top, len(labels)))  # (B, top)
            return rows.add(
                [
                    {"image": item.name, "label": labels[index], "confidence": rounded(sure)}
                    for item, indices, sures in zip(
                        items, best.indices.tolist(), best.values.tolist(), strict=True
                    )
                    for index, sure in zip(indices, sures, strict=True)
                ]
            )

        return in_batches(names, work, read=read_picture, size=request.batch_size)


def embed_labels(opened: OpenModel, texts: Sequence[str], *, size: int) -> Tensor:
    """``(K, F)`` of length 1."""
    parts = [opened.model.embed_texts(batch) for _, batch in _parts(opened.texts(texts), size)]
    return torch.cat([part.projected for part in parts])


@torch.no_grad()
def class_confidences(opened: OpenModel, pictures: Sequence[Image.Image], labels: Tensor) -> Tensor:
    """``(B, K)`` probabilities: the softmax of cosines over the temperature.

    Args:
        labels: ``(K, F)`` from ``embed_labels``.
    """
    images = opened.model.embed_images(opened.images(pictures)).projected  # (B, F)
    return (images @ labels.t() / temperature_of(opened.model)).softmax(dim=1)


def temperature_of(model: Any) -> float:
    """What a model's cosines are divided by: its own ``temp``, or 0.07."""
    return float(getattr(model, "temp", TEMPERATURE))


def _told_label(row: Mapping[str, Any]) -> str:
    return f"{row['image']}: {row['label']} ({row['confidence']:.2f})"


# --- both ---------------------------------------------------------------------------------------


def _show(rows: Rows, found: Sequence[Row]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in rows.add(found))


def _parts(items: Sequence[str], size: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Each with the index of its first."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]
