"""Recall by hand, and against the loop that LAVIS's definition amounts to."""

from __future__ import annotations

import numpy as np
import pytest

from lavis_clone.tasks.metrics import retrieval
from lavis_clone.tasks.metrics.retrieval import best_ranks, recalls, score_ranks, score_retrieval


def ranks_one_by_one(scores, right):
    """Sort each query's candidates, and look for its right ones."""
    found = []
    for row, columns in zip(scores, right, strict=True):
        order = np.argsort(row)[::-1]
        found.append(min(int(np.where(order == column)[0][0]) for column in columns))
    return found


def test_ranks_by_hand():
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.9], [0.3, 0.2, 0.1]])
    assert best_ranks(scores, [[0], [1], [2]]).tolist() == [0, 1, 2]
    assert best_ranks(scores, [[1, 2], [0, 2], [0, 1, 2]]).tolist() == [1, 0, 0]


def test_of_equal_scores_the_last_is_first():
    scores = np.zeros((2, 4), dtype=np.float32)
    assert best_ranks(scores, [[0], [3]]).tolist() == [3, 0]
    assert best_ranks(np.array([[1.0, 1.0, 2.0]]), [[0]]).tolist() == [2]
    assert best_ranks(np.array([[-100.0, 1.0, -100.0]]), [[0]]).tolist() == [2]


@pytest.mark.parametrize("at_once", [1, 100, 1 << 22])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_are_those_of_the_loop(at_once, dtype, monkeypatch):
    monkeypatch.setattr(retrieval, "_NUMBERS_AT_ONCE", at_once)
    random = np.random.default_rng(at_once)
    scores = random.normal(size=(13, 57)).astype(dtype).round(1)  # with many that are equal
    scores[random.random(scores.shape) > 0.4] = -100
    right = [random.choice(57, size=random.integers(1, 6), replace=False) for _ in range(13)]
    assert best_ranks(scores, right).tolist() == ranks_one_by_one(scores, right)
    turned = [random.choice(13, size=1) for _ in range(57)]
    assert best_ranks(scores.T, turned).tolist() == ranks_one_by_one(scores.T, turned)


@pytest.mark.parametrize(
    ("scores", "right", "message"),
    [
        ([[1.0, np.nan]], [[0]], "a score is not a number"),
        ([[1.0], [2.0]], [[0], []], "query 1 has no right candidate"),
        ([[1.0], [2.0]], [[0]], "2 queries, but 1 lists"),
    ],
)
def test_what_cannot_be_ranked(scores, right, message):
    with pytest.raises(ValueError, match=message):
        best_ranks(np.array(scores), right)


def test_recall_is_a_share_in_percent():
    ranks = np.array([0, 0, 3, 4, 5, 9, 10, 300])
    assert recalls(ranks) == [25.0, 50.0, 75.0]
    assert recalls(ranks, ks=(4,)) == [37.5]
    with pytest.raises(ValueError, match="no queries"):
        recalls(np.array([], dtype=np.int64))


def test_scores_carry_the_names_of_lavis():
    scores = score_ranks(np.array([0, 2, 7, 20]), np.array([0, 1]))
    assert scores == {
        "txt_r1": 25.0,
        "txt_r5": 50.0,
        "txt_r10": 75.0,
        "txt_r_mean": 50.0,
        "img_r1": 50.0,
        "img_r5": 100.0,
        "img_r10": 100.0,
        "img_r_mean": 250 / 3,
        "r_mean": (50.0 + 250 / 3) / 2,
        "agg_metrics": 50.0,
    }


def test_both_directions_from_matrices():
    i2t = np.array([[0.0, 3.0, 2.0], [9.0, 1.0, 0.0]])  # image 0 has the texts 0 and 1
    t2i = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 1.0]])
    scores = score_retrieval(i2t, t2i, {0: 0, 1: 0, 2: 1}, {0: [0, 1], 1: [2]})
    assert (scores["txt_r1"], scores["txt_r5"]) == (50.0, 100.0)
    assert scores["img_r1"] == pytest.approx(100 / 3)
