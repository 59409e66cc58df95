"""Recall: how often one of the first few things found is right.

Shapes: Q queries, C candidates, I images, T texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]
Ranks = npt.NDArray[np.int64]

KS = (1, 5, 10)
_NUMBERS_AT_ONCE = 1 << 22
"""Scores that are compared in one call, so that memory stays small."""


def best_ranks(scores: Scores, right: Sequence[Sequence[int]]) -> Ranks:
    """How many candidates each query's best right one has before it: ``(Q,)``, 0 for a hit.

    Equal scores are in the order of numpy's ``argsort()[::-1]``, as in LAVIS; of a handful this is
    the last first.

    Args:
        scores: ``(Q, C)``, higher is better.
        right: The right candidates of each query, one or more.

    Raises:
        ValueError: a score is not a number, or a query has no right candidate.
    """
    num_queries, num_candidates = scores.shape
    counts = np.array([len(columns) for columns in right], dtype=np.int64)
    if len(counts) != num_queries:
        raise ValueError(f"{num_queries} queries, but {len(counts)} lists of what is right")
    if not counts.all():
        raise ValueError(f"query {int(counts.argmin())} has no right candidate")
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    columns = np.fromiter(chain.from_iterable(right), dtype=np.int64, count=int(counts.sum()))
    first = np.concatenate([[0], counts.cumsum()])  # where each query's right ones begin
    ranks = np.empty(num_queries, dtype=np.int64)
    step = max(1, _NUMBERS_AT_ONCE // max(1, num_candidates))
    for start in range(0, num_queries, step):
        end = min(start + step, num_queries)
        own = columns[first[start] : first[end]]
        ranks[start:end] = _best_ranks(scores[start:end], own, counts[start:end])
    return ranks


def _best_ranks(scores: Scores, columns: Ranks, counts: Ranks) -> Ranks:
    """The ranks of a few queries.

    Args:
        columns: The right candidates, those of the first query first.
        counts: ``(Q,)`` how many each query has.
    """
    rows = np.repeat(np.arange(len(scores)), counts)
    first = counts.cumsum() - counts
    best = np.maximum.reduceat(scores[rows, columns], first)[:, None]
    ranks: Ranks = (scores > best).sum(axis=1)
    for row in np.flatnonzero((scores == best).sum(axis=1) > 1):  # sorting takes longer
        order = scores[row].argsort()[::-1]
        ranks[row] = np.isin(order, columns[rows == row]).argmax()
    return ranks


def recalls(ranks: Ranks, ks: Sequence[int] = KS) -> list[float]:
    """The share of queries with a right answer among the first k, in percent, for each k.

    Raises:
        ValueError: there is no query.
    """
    if not len(ranks):
        raise ValueError("there are no queries to score")
    return [100.0 * int((ranks < k).sum()) / len(ranks) for k in ks]


def score_ranks(text_ranks: Ranks, image_ranks: Ranks) -> dict[str, float]:
    """LAVIS's scores, in percent.

    Args:
        text_ranks: ``(I,)`` of the best text of each image.
        image_ranks: ``(T,)`` of the image of each text.

    Returns:
        ``txt_r1``, ``txt_r5``, ``txt_r10`` of finding texts by image, ``txt_r_mean``; the same with
        ``img_`` of finding images by text; ``r_mean``; and ``agg_metrics``, the ``txt_r_mean``.
    """
    scores: dict[str, float] = {}
    for name, ranks in (("txt", text_ranks), ("img", image_ranks)):
        found = recalls(ranks)
        scores |= {f"{name}_r{k}": recall for k, recall in zip(KS, found, strict=True)}
        scores[f"{name}_r_mean"] = sum(found) / len(found)
    scores["r_mean"] = (scores["txt_r_mean"] + scores["img_r_mean"]) / 2
    scores["agg_metrics"] = scores["txt_r_mean"]
    return scores


def score_retrieval(
    i2t: Scores, t2i: Scores, txt2img: Mapping[int, int], img2txt: Mapping[int, Sequence[int]]
) -> dict[str, float]:
    """``score_ranks`` of score matrices.

    Args:
        i2t: ``(I, T)``
        t2i: ``(T, I)``
        txt2img: The image of each text.
        img2txt: The texts of each image.
    """
    text_ranks = best_ranks(i2t, [img2txt[i] for i in range(len(i2t))])
    return score_ranks(text_ranks, best_ranks(t2i, [[txt2img[i]] for i in range(len(t2i))]))
