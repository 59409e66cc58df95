"""Scores of all pairs, against a model that is asked about one pair at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.tasks import matching
from lavis_clone.tasks.matching import score_pairs
from tests.common.processes import run_distributed
from tests.tasks.toys import Batches, Comparing, Judging, Pictures

PLACES = ("ram", "disk", "recompute", "auto")


def options(k=3, where="ram", weight=1.0):
    return RetrievalOptions(k_test=k, image_tokens=where, itc_weight=weight)


def one_by_one(data, k, weight=1.0):
    """The definition: each query's k likeliest by cosine are judged, one pair at a time."""
    model = Judging()
    images = [model.embed_images(data.pixels[i : i + 1]) for i in range(len(data))]
    texts = [model.embed_texts([text]) for text in data.text]
    cosines = [[float(i.projected[0] @ t.projected[0]) for t in texts] for i in images]
    i2t = torch.full((len(images), len(texts)), -100.0)
    t2i = torch.full((len(texts), len(images)), -100.0)
    for i, image in enumerate(images):
        for t in sorted(range(len(texts)), key=lambda t: -cosines[i][t])[:k]:
            i2t[i, t] = model.match_pairs(image.tokens[0], texts[t])[0] + weight * cosines[i][t]
    for t, text in enumerate(texts):
        for i in sorted(range(len(images)), key=lambda i: -cosines[i][t])[:k]:
            t2i[t, i] = model.match_pairs(images[i].tokens[0], text)[0] + weight * cosines[i][t]
    return i2t, t2i


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_as_if_judged_one_by_one(k, size):
    data = Pictures()
    scores = score_pairs(Judging(), Batches(data, size), options(k))
    i2t, t2i = one_by_one(data, k)
    assert ((i2t > -100).sum(dim=1) == k).all() and ((t2i > -100).sum(dim=1) == k).all()
    torch.testing.assert_close(scores.i2t, i2t)
    torch.testing.assert_close(scores.t2i, t2i)
    assert scores.images == list(range(7))


@pytest.mark.parametrize("weight", [0.0, 20.0])
def test_comparing_may_count_more_or_less(weight):
    data = Pictures()
    scores = score_pairs(Judging(), Batches(data), options(3, weight=weight))
    i2t, t2i = one_by_one(data, 3, weight)
    torch.testing.assert_close(scores.i2t, i2t)
    torch.testing.assert_close(scores.t2i, t2i)


def test_a_weight_that_would_hide_what_was_not_judged_is_refused():
    with pytest.raises(ValueError, match=r"itc_weight \(200\.0\) must be at most 50"):
        options(weight=200.0)


def test_both_directions_have_their_own_candidates():
    data = Pictures()
    scores = score_pairs(Judging(), Batches(data), options(3))
    assert not torch.equal(scores.i2t == -100, scores.t2i.t() == -100)
    both = (scores.i2t > -100) & (scores.t2i.t() > -100)
    assert both.any() and torch.equal(scores.i2t[both], scores.t2i.t()[both])


def test_each_pair_is_judged_once_and_no_image_twice():
    data, model = Pictures(), Judging()
    scores = score_pairs(model, Batches(data), options(3))
    wanted = (scores.i2t > -100) | (scores.t2i.t() > -100)
    assert model.num_judged == wanted.sum(dim=1).tolist()
    assert sum(model.num_judged) < 3 * (len(data) + len(data.text))
    assert model.num_encoded == len(data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_where_tokens_wait_changes_nothing(dtype):
    class Half(Judging):
        def embed_images(self, images):
            output = super().embed_images(images.float())
            output.tokens = output.tokens.to(dtype)
            return output

        def match_pairs(self, tokens, texts):
            assert tokens.dtype == dtype and tokens.shape == (4, 3)
            return super().match_pairs(tokens, texts)

    found = [score_pairs(Half(), Batches(Pictures(), 3), options(3, where)) for where in PLACES]
    for scores in found[1:]:
        assert torch.equal(scores.i2t, found[0].i2t) and torch.equal(scores.t2i, found[0].t2i)


def test_recomputing_goes_through_the_batches_again():
    data, model, batches = Pictures(), Judging(), Batches(Pictures())
    score_pairs(model, batches, options(3, "recompute"))
    assert batches.num_times == 2
    assert model.num_encoded == 2 * len(data)


def test_batches_that_end_cannot_be_recomputed():
    class Once(Batches):
        def __iter__(self):
            return self

        def __next__(self):
            raise AssertionError("nothing is loaded")

    with pytest.raises(ValueError, match="'recompute' needs batches that can be gone through"):
        score_pairs(Judging(), Once(Pictures()), options(3, "recompute"))


def test_more_candidates_than_there_are():
    data = Pictures()
    scores = score_pairs(Judging(), Batches(data), options(256))
    i2t, t2i = one_by_one(data, 256)
    assert (scores.i2t > -100).all()
    torch.testing.assert_close(scores.i2t, i2t)
    torch.testing.assert_close(scores.t2i, t2i)
    assert torch.equal(scores.i2t, scores.t2i.t())


@pytest.mark.parametrize("where", PLACES)
def test_a_dual_encoder_only_compares(where):
    data, model = Pictures(), Comparing()
    scores = score_pairs(model, Batches(data), options(2, where))
    images = model.embed_images(data.pixels).projected
    texts = model.embed_texts(data.text).projected
    torch.testing.assert_close(scores.i2t, images @ texts.t())
    torch.testing.assert_close(scores.t2i, texts @ images.t())
    assert model.num_encoded == 2 * len(data)  # ours, and once


def test_texts_and_images_in_many_calls(monkeypatch):
    whole = score_pairs(Judging(), Batches(Pictures()), options(3))
    monkeypatch.setattr(matching, "TEXTS_AT_ONCE", 5)
    monkeypatch.setattr(matching, "IMAGES_AT_ONCE", 2)
    parts = score_pairs(Judging(), Batches(Pictures()), options(3))
    torch.testing.assert_close(parts.i2t, whole.i2t)
    torch.testing.assert_close(parts.t2i, whole.t2i)


def test_the_order_of_batches_does_not_matter():
    data = Pictures()
    straight = score_pairs(Judging(), Batches(data), options(3))
    mixed = score_pairs(Judging(), Batches(data, 3, [6, 0, 3, 1, 5, 2, 4]), options(3))
    assert mixed.images == straight.images
    torch.testing.assert_close(mixed.i2t, straight.i2t)
    torch.testing.assert_close(mixed.t2i, straight.t2i)


def test_images_that_could_not_be_read_are_no_candidates():
    data = Pictures()
    scores = score_pairs(Judging(), Batches(data, 2, [0, 2, 3, 6]), options(256))
    whole = score_pairs(Judging(), Batches(data), options(256))
    assert scores.images == [0, 2, 3, 6]
    torch.testing.assert_close(scores.i2t, whole.i2t[scores.images])
    torch.testing.assert_close(scores.t2i, whole.t2i[:, scores.images])


def test_without_images_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no images to compare"):
        score_pairs(Judging(), Batches(Pictures(), order=[]), options(3))


def test_likeliness_does_not_depend_on_precision():
    exact = score_pairs(Comparing(), Batches(Pictures()), options())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        texts = Comparing().embed_texts(Pictures().text).projected
        rough = texts @ texts.t()
        assert rough.dtype == torch.bfloat16
        found = matching._cosines(texts, texts)
    assert found.dtype == exact.i2t.dtype == torch.float32
    torch.testing.assert_close(found.diagonal(), torch.ones(len(texts)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("fails", [False, True])
def test_no_file_is_left_behind(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    class Watching(Judging):
        def match_pairs(self, tokens, texts):
            seen.extend(path.name for path in Path(tmp_path).rglob("tokens"))
            if fails:
                raise RuntimeError("out of luck")
            return super().match_pairs(tokens, texts)

    if fails:
        with pytest.raises(RuntimeError, match="out of luck"):
            score_pairs(Watching(), Batches(Pictures()), options(3, "disk"))
    else:
        score_pairs(Watching(), Batches(Pictures()), options(3, "disk"))
    assert seen and not list(tmp_path.iterdir())


def test_two_processes_share_the_images():
    run_distributed("tests.tasks.dist_scripts", "each_process_judges_its_own_images")
