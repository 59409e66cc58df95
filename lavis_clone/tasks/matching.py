"""Scores between all images and texts: compared in one space, and the likeliest pairs judged.

The pairs that either direction wants judged are judged once, image by image, so that a model
computes an image's keys and values once. Shapes: I images, T texts, B images of a batch, K texts of
one image, F width of the space, N image tokens, E their width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from lavis_clone.common import dist
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.models.capabilities import Embeds, EmbedsVideos, Matches
from lavis_clone.models.outputs import ImageEmbeddings, TextEmbeddings
from lavis_clone.tasks.token_store import Batch, TokenStore, open_store

logger = logging.getLogger(__name__)

NOT_JUDGED = -100.0
"""The score of a pair that a model could have judged, but was not asked about; as in LAVIS."""
TEXTS_AT_ONCE = 256
"""Texts that are encoded in one call."""
IMAGES_AT_ONCE = 1024
"""Images that are compared with all texts in one call."""


class Split(Protocol):
    """Batches of images or videos, and the data set that they are of.

    A batch holds ``image`` ``(B, 3, H, W)``, or ``video`` ``(B, 3, T, H, W)`` and perhaps
    ``num_frames`` ``(B,)``, and ``index`` ``(B,)``; a data set ``text``, a list of str; its length
    is that of its images. Each of several processes has batches of its own.
    """

    @property
    def dataset(self) -> Any: ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class PairScores:
    """How well images and texts go together; higher is better. float32 on the CPU."""

    i2t: Tensor
    """``(I, T)``, to find texts by image"""
    t2i: Tensor
    """``(T, I)``, to find images by text"""
    images: list[int]
    """The index of each of the I images, ascending; images that could not be read are absent."""


@torch.no_grad()
def score_pairs(model: Embeds, split: Split, options: RetrievalOptions) -> PairScores:
    """Score all images of ``split`` with all texts of its data set.

    If the model ``Matches``, it judges each image's ``k_test`` likeliest texts, to find texts, and
    each text's ``k_test`` likeliest images, to find images: the score is the logit of a match plus
    ``itc_weight`` times the cosine, and ``NOT_JUDGED`` elsewhere. If it does not, all scores are
    cosines.

    Returns:
        The same in every process.

    Raises:
        ValueError: there are no images, or they are to be encoded twice but can be read only once.
    """
    if options.image_tokens == "recompute" and isinstance(split, Iterator):
        raise ValueError("image_tokens: 'recompute' needs batches that can be gone through twice")
    texts = _embed_texts(model, split.dataset.text)
    own: dict[int, Tensor] = {}
    lengths: dict[int, int] = {}
    with ExitStack() as stack:
        store: TokenStore | None = None
        for indices, images in _embed_images(model, split):
            own.update(zip(indices, images.projected.float().cpu(), strict=True))
            if images.num_tokens is not None:
                lengths.update(zip(indices, images.num_tokens.tolist(), strict=True))
            if store is None and isinstance(model, Matches):
                store = stack.enter_context(_open_store(images.tokens, model, split, options))
            if store is not None:
                store.add(indices, images.tokens)
        projected = _of_all(own)
        if not projected:
            raise ValueError("there are no images to compare with texts")
        order = sorted(projected)
        scores = _cosines(torch.stack([projected[i] for i in order]), texts.projected)
        if not isinstance(model, Matches):
            return PairScores(scores, scores.t(), order)
        candidates = Candidates.of(scores, options.k_test)
        logger.info("judging %d of %d pairs", candidates.count(), scores.numel())
        rows = {index: row for row, index in enumerate(order)}
        judged = _judge(model, store, texts, candidates, rows, lengths)
    scores *= options.itc_weight
    for row, logits in _of_all(judged).items():
        scores[row, candidates.texts(row)] += logits
    i2t = scores.masked_fill(~candidates.i2t, NOT_JUDGED)
    return PairScores(i2t, scores.masked_fill_(~candidates.t2i, NOT_JUDGED).t(), order)


@dataclass(frozen=True)
class Candidates:
    """Which pairs to judge."""

    i2t: Tensor
    """``(I, T)`` bool, True where a text is among the likeliest of the image"""
    t2i: Tensor
    """``(I, T)`` bool, True where an image is among the likeliest of the text"""

    @classmethod
    def of(cls, scores: Tensor, k: int) -> Candidates:
        """The k likeliest by ``scores`` ``(I, T)``; all, when there are not so many."""
        found = []
        for dim in (1, 0):
            best = scores.topk(min(k, scores.shape[dim]), dim=dim).indices
            found.append(torch.zeros_like(scores, dtype=torch.bool).scatter_(dim, best, True))
        return cls(*found)

    def texts(self, row: int) -> Tensor:
        """``(K,)`` the texts to judge an image with, for either direction."""
        return (self.i2t[row] | self.t2i[row]).nonzero()[:, 0]

    def count(self) -> int:
        return int((self.i2t | self.t2i).sum())


def _judge(
    model: Matches,
    store: TokenStore | None,
    texts: TextEmbeddings,
    candidates: Candidates,
    rows: Mapping[int, int],
    lengths: Mapping[int, int],
) -> dict[int, Tensor]:
    """Judge this process's images: by row, the logits ``(K,)`` of ``candidates.texts``.

    Args:
        store: None, if it has none.
        rows: The row of each image in ``candidates``, by its index.
        lengths: How many of an image's tokens count, by its index; where it does not say, all do.
    """
    judged: dict[int, Tensor] = {}
    device = texts.input_ids.device
    images = tqdm(
        store or (),
        desc="re-ranking",
        unit="image",
        disable=True if dist.rank() else None,
        dynamic_ncols=True,
        leave=False,
    )
    for index, stored in images:
        row, tokens = rows[index], stored[: lengths.get(index, len(stored))]
        chosen = texts.select(candidates.texts(row).to(device))
        judged[row] = model.match_pairs(tokens.to(device), chosen).float().cpu()
    return judged


def _of_all(own: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What all processes have. Of an image that several have, one counts."""
    arrays = {key: value.numpy() for key, value in own.items()}  # a view pickles as what it shows
    parts = dist.all_gather_objects(arrays)
    return {key: torch.from_numpy(value) for part in parts for key, value in part.items()}


def _embed_texts(model: Embeds, texts: Sequence[str]) -> TextEmbeddings:
    parts = range(0, len(texts), TEXTS_AT_ONCE)
    return TextEmbeddings.cat(
        [model.embed_texts(list(texts[i : i + TEXTS_AT_ONCE])) for i in parts]
    )


def _embed_images(model: Embeds, split: Split) -> Iterator[tuple[list[int], ImageEmbeddings]]:
    for samples in split:
        indices: list[int] = torch.as_tensor(samples["index"]).tolist()
        yield indices, _embed(model, samples)


def _embed(model: Embeds, samples: Mapping[str, Any]) -> ImageEmbeddings:
    """Images or videos, whichever a batch has."""
    if "image" in samples:
        return model.embed_images(samples["image"])
    if isinstance(model, EmbedsVideos):
        return model.embed_videos(samples["video"], samples.get("num_frames"))
    return model.embed_images(samples["video"])


def _open_store(
    example: Tensor, model: Embeds, split: Split, options: RetrievalOptions
) -> TokenStore:
    """A place for the tokens of all processes' images, of which ``example`` holds some."""

    def encode() -> Iterator[Batch]:
        return ((indices, images.tokens) for indices, images in _embed_images(model, split))

    num_bytes = example[0].nbytes * len(split.dataset)
    return open_store(options.image_tokens, num_bytes=num_bytes, encode=encode)


def _cosines(images: Tensor, texts: Tensor) -> Tensor:
    """``(I, F)`` and ``(T, F)``, of length 1 each -> ``(I, T)`` on the CPU.

    In float32, so that sums of many pairs are told apart whatever the towers compute in.
    """
    cosines = torch.empty(len(images), len(texts))
    transposed = texts.float().t()
    with torch.autocast(texts.device.type, enabled=False):
        for start in range(0, len(images), IMAGES_AT_ONCE):
            part = images[start : start + IMAGES_AT_ONCE].to(texts.device)
            cosines[start : start + IMAGES_AT_ONCE] = (part @ transposed).cpu()
    return cosines
