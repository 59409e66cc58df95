"""How images and texts are searched, and what is said about it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lavis_clone.common.reading import ConfigError
from lavis_clone.common.schema import read_run
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.tasks import setup_task
from lavis_clone.tasks.matching import score_pairs
from lavis_clone.tasks.metrics.retrieval import score_retrieval
from lavis_clone.tasks.retrieval import RetrievalTask
from tests.tasks.toys import Batches, Comparing, Judging, Pictures

RUN = {
    "task": "retrieval",
    "batch_size_train": 1,
    "batch_size_eval": 1,
    "num_workers": 0,
    "evaluate": True,
    "test_splits": ["test"],
}


def task(**options):
    made = setup_task(read_run({**RUN, **options}))
    assert isinstance(made, RetrievalTask)
    return made


def test_options_and_their_defaults():
    assert task().options == RetrievalOptions(k_test=256, image_tokens="auto")
    assert task(k_test=3, image_tokens="disk").options.image_tokens == "disk"
    for wrong, message in (({"k_test": 0}, r"k_test \(0\)"), ({"image_tokens": "x"}, "image_tok")):
        with pytest.raises(ConfigError, match=message):
            task(**wrong)


@pytest.mark.parametrize("model", [Judging, Comparing])
def test_scores_are_those_of_the_matrices(model):
    data, made = Pictures((5, 4, 3) * 8), task(k_test=4)
    rows = made.evaluation(model(), Batches(data, 5))
    pairs = score_pairs(model(), Batches(data, 24), made.options)
    matrices = pairs.i2t.numpy(), pairs.t2i.numpy()
    scores = made.score(made.unique(rows), data)
    assert scores == score_retrieval(*matrices, data.txt2img, data.img2txt)
    assert 0 < scores["agg_metrics"] < 100 and 0 < scores["img_r_mean"] < 100


def test_a_row_for_each_image_and_each_text():
    data, made = Pictures(), task(k_test=2)
    rows = made.evaluation(Judging(), Batches(data))
    pairs = score_pairs(Judging(), Batches(data), made.options)
    assert [row["id"] for row in rows] == [
        *(f"image {i}" for i in range(7)),
        *(f"text {i}" for i in range(12)),
    ]
    row = rows[2]
    values, columns = pairs.i2t[2].sort(descending=True)
    assert (row["query"], row["image"]) == ("image", "2.png")
    assert [found["text"] for found in row["texts"]] == [data.text[j] for j in columns[:2]]
    assert [f["score"] for f in row["texts"]] == pytest.approx(values[:2].tolist(), abs=1e-5)
    order = pairs.i2t[2].numpy().argsort()[::-1].tolist()
    assert row["rank"] == min(order.index(j) for j in data.img2txt[2])
    assert row["confidence"] == pytest.approx(values[:2].softmax(0)[0].item(), abs=1e-5)
    row = rows[7 + 5]
    values, columns = pairs.t2i[5].sort(descending=True)
    assert (row["query"], row["text"]) == ("text", data.text[5])
    assert [found["image"] for found in row["images"]] == [data.image[j] for j in columns[:2]]
    assert row["rank"] == pairs.t2i[5].numpy().argsort()[::-1].tolist().index(data.txt2img[5])
    assert row["confidence"] == pytest.approx(values[:2].softmax(0)[0].item(), abs=1e-5)


def test_rows_show_the_first_ten():
    rows = task().evaluation(Comparing(), Batches(Pictures((3,) * 12)))
    assert {len(row.get("texts", row.get("images"))) for row in rows} == {10}


def test_nothing_is_asked_of_images_that_could_not_be_read():
    data, made = Pictures(), task()
    rows = made.evaluation(Judging(), Batches(data, 3, [0, 1, 2, 3, 5, 6]))
    assert "image 4" not in [row["id"] for row in rows]
    texts = [row["id"] for row in rows if row["query"] == "text"]
    assert texts == [f"text {j}" for j in range(12) if data.txt2img[j] != 4]
    assert all(f["image"] != "4.png" for row in rows for f in row.get("images", ()))
    whole = made.evaluation(Judging(), Batches(data))
    by_id = {row["id"]: row for row in whole}
    for row in rows:
        if row["query"] == "image":  # all texts are still there to be found
            assert row == by_id[row["id"]]
        else:
            ahead = [f["image"] for f in by_id[row["id"]]["images"]].index("4.png")
            assert row["rank"] == by_id[row["id"]]["rank"] - (ahead < by_id[row["id"]]["rank"])


def test_a_batch_alone_has_no_answer():
    with pytest.raises(TypeError, match="all images of a split"):
        task().valid_step(Judging(), {})


def test_rehearsal_compares_and_judges_one_image():
    samples = {"image": Pictures().pixels[3:4], "index": torch.tensor([3])}
    model = Judging()
    task(image_tokens="recompute").rehearse(model, samples)
    assert model.num_judged == [1]
    task().rehearse(Comparing(), samples)

    class Broken(Judging):
        def match_pairs(self, tokens, texts):
            raise ValueError("cannot judge")

    with pytest.raises(ValueError, match="cannot judge"):
        task().rehearse(Broken(), samples)


def test_a_model_that_does_not_embed_is_told_at_once():
    made = task()
    with pytest.raises(TypeError) as error:
        made.check(nn.Linear(1, 1), read_run(RUN))
    message = str(error.value)
    assert "task 'retrieval' needs a model with embed_images(), embed_texts()" in message
    assert "Linear does not have" in message and "\n" not in message
    made.check(Comparing(), read_run(RUN))


def test_data_of_another_kind_are_told_before_work():
    data = SimpleNamespace(name="coco", split="val", text=[], image=[])
    with pytest.raises(ValueError, match=r"^coco/val: .* has no txt2img, img2txt$"):
        task().check_data(data)
    task().check_data(Pictures())


def test_images_without_texts_are_told_before_work():
    with pytest.raises(ValueError, match=r"^shapes/test: 2 images have no text .* 1.png$"):
        task().check_data(Pictures((1, 0, 2, 0)))


def test_one_data_set_at_a_time():
    both = SimpleNamespace(name="a+b", split="test", datasets=[Pictures(), Pictures()])
    with pytest.raises(ValueError, match=r"^a\+b/test: task 'retrieval' evaluates one data set"):
        task().check_data(both)
