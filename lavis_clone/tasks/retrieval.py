"""Find texts by image and images by text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lavis_clone.common import dist
from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.models.capabilities import Embeds
from lavis_clone.tasks.base import BaseTask, Row
from lavis_clone.tasks.checks import label_of, require_one
from lavis_clone.tasks.matching import NOT_JUDGED, PairScores, score_pairs
from lavis_clone.tasks.metrics.retrieval import Ranks, best_ranks, score_ranks

NUM_SHOWN = 10
"""Candidates in a row, at most."""
_QUERIES_AT_ONCE = 1024
"""Rows of a score matrix that are looked at in one call."""


@registry.register_task("retrieval")
class RetrievalTask(BaseTask):
    """Ranks all texts of a split by each image, and all images by each text.

    Rows: ``id`` (``image 0``, ``text 0``, ...), ``query`` (``image`` or ``text``), the ``image`` or
    ``text``, ``rank`` of the best right answer (0 is a hit), ``texts`` or ``images``, the best ones
    with their scores, and ``confidence``, the share of the best one in the softmax of the query's
    scores. ``agg_metrics`` is the mean of recall at 1, 5 and 10 in finding texts.
    """

    name = "retrieval"
    evaluates_with = Embeds
    key = "id"
    options: RetrievalOptions

    def check_data(self, dataset: Any) -> None:
        require_one(dataset, task=self.name)
        label = label_of(dataset)
        needed = ("text", "image", "txt2img", "img2txt")
        if missing := [name for name in needed if not hasattr(dataset, name)]:
            raise ValueError(
                f"{label}task 'retrieval' needs images that are listed with their texts, but the "
                f"data set has no {', '.join(missing)}"
            )
        without = [i for i in range(len(dataset)) if not dataset.img2txt.get(i)]
        if without:
            raise ValueError(
                f"{label}{len(without)} images have no text to be found, e.g. "
                f"{dataset.image[without[0]]}"
            )

    def valid_step(self, model: Any, samples: Mapping[str, Any]) -> list[Row]:  # noqa: ARG002
        """Not for this task.

        Raises:
            TypeError: always; see ``evaluation``.
        """
        raise TypeError("task 'retrieval' compares all images of a split, not those of a batch")

    def evaluation(self, model: Embeds, batches: Any) -> list[Row]:
        """A row for each image that could be read, then for each text of one.

        Args:
            batches: See ``matching.Split``; its data set has ``image`` (names), ``txt2img`` and
                ``img2txt``, too.
        """
        dataset = batches.dataset
        scores = score_pairs(model, batches, self.options)
        return [*_image_rows(scores, dataset), *_text_rows(scores, dataset)]

    def rows(self, model: Embeds, batches: Any) -> list[Row]:
        """As of every task; what to compare is exchanged before, so that rows need not be."""
        rows = self.evaluation(model, batches)
        return self.unique(rows) if dist.rank() == 0 else []

    def rehearse(self, model: Embeds, samples: Mapping[str, Any]) -> None:
        """Compare one image with a text; where both are from does not matter."""
        score_pairs(model, _OneImage(samples), self.options)

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:  # noqa: ARG002
        """Recall in percent; see ``metrics.retrieval.score_ranks``."""
        return score_ranks(_ranks(rows, "image"), _ranks(rows, "text"))


def _ranks(rows: Sequence[Row], query: str) -> Ranks:
    return np.array([row["rank"] for row in rows if row["query"] == query], dtype=np.int64)


def _image_rows(scores: PairScores, dataset: Any) -> Iterator[Row]:
    ranks = best_ranks(scores.i2t.numpy(), [dataset.img2txt[i] for i in scores.images])
    found = _best(scores.i2t)
    for index, rank, (candidates, confidence) in zip(scores.images, ranks, found, strict=True):
        yield {
            "id": f"image {index}",
            "query": "image",
            "image": dataset.image[index],
            "rank": int(rank),
            "texts": [{"text": dataset.text[j], "score": score} for j, score in candidates],
            "confidence": confidence,
        }


def _text_rows(scores: PairScores, dataset: Any) -> Iterator[Row]:
    """Without the texts of images that could not be read."""
    places = {index: place for place, index in enumerate(scores.images)}
    asked = [j for j in range(len(dataset.text)) if dataset.txt2img[j] in places]
    t2i = scores.t2i if len(asked) == len(scores.t2i) else scores.t2i[asked]
    ranks = best_ranks(t2i.numpy(), [[places[dataset.txt2img[j]]] for j in asked])
    for j, rank, (candidates, confidence) in zip(asked, ranks, _best(t2i), strict=True):
        named = [(dataset.image[scores.images[place]], score) for place, score in candidates]
        yield {
            "id": f"text {j}",
            "query": "text",
            "text": dataset.text[j],
            "rank": int(rank),
            "images": [{"image": image, "score": score} for image, score in named],
            "confidence": confidence,
        }


def _best(scores: Tensor) -> Iterator[tuple[list[tuple[int, float]], float]]:
    """For each query of ``(Q, C)``: its best candidates with their scores, and the confidence."""
    for strided in scores.split(_QUERIES_AT_ONCE):
        part = strided.contiguous()
        best = part.topk(min(NUM_SHOWN, part.shape[1]), dim=1)
        confidence = (best.values[:, 0] - part.logsumexp(dim=1)).exp()
        columns = best.indices.tolist(), best.values.tolist(), confidence.tolist()
        for indices, values, sure in zip(*columns, strict=True):
            pairs = zip(indices, values, strict=True)
            yield [(i, round(v, 6)) for i, v in pairs if v != NOT_JUDGED], round(sure, 6)


class _OneText:
    """A data set of one text; of its one image only the number counts."""

    text = ("a picture",)

    def __len__(self) -> int:
        return 1


class _OneImage:
    """A split of one batch."""

    def __init__(self, samples: Mapping[str, Any]) -> None:
        self.dataset = _OneText()
        self._samples = samples

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        yield self._samples
