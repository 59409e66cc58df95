"""What test_matching.py runs in each of two processes."""

from __future__ import annotations

import torch

from lavis_clone.common import dist
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.tasks.matching import PairScores, score_pairs
from tests.tasks.toys import Batches, Comparing, Judging, Pictures


def each_process_judges_its_own_images() -> None:
    """Every process gets all scores, even one that has no image."""
    data = Pictures()
    for k in (1, 3, 256):
        for where in ("ram", "disk", "recompute"):
            options = RetrievalOptions(k_test=k, image_tokens=where)  # type: ignore[arg-type]
            for own in (range(dist.rank(), len(data), 2), range(len(data) * (1 - dist.rank()))):
                model = Judging()
                shared = score_pairs(model, Batches(data, 2, own), options)
                assert len(model.num_judged) == len(own)
                assert_equal(shared, alone(Judging(), data, options))
            whole = score_pairs(Judging(), Batches(data), options)  # all images in both
            assert_equal(whole, alone(Judging(), data, options))
    options = RetrievalOptions()
    compared = score_pairs(Comparing(), Batches(data, 2, range(dist.rank(), len(data), 2)), options)
    assert_equal(compared, alone(Comparing(), data, options))


def alone(model: Comparing, data: Pictures, options: RetrievalOptions) -> PairScores:
    """What a single process finds: both have all images, and the first one's count."""
    return score_pairs(model, Batches(data, 7), options)


def assert_equal(found: PairScores, expected: PairScores) -> None:
    assert found.images == expected.images
    torch.testing.assert_close(found.i2t, expected.i2t)
    torch.testing.assert_close(found.t2i, expected.t2i)
