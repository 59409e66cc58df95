"""Tasks on videos: what is in a batch is looked at, and repeated frames are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lavis_clone.common.schema import read_run
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.processors.video import AlproVideoEvalProcessor
from lavis_clone.tasks import setup_task
from lavis_clone.tasks.matching import score_pairs
from tests.contract.test_models import build
from tests.models import tiny
from tests.processors.videos import write_video
from tests.tasks.toys import Batches, Comparing, Judging, Pictures

OPTIONS = RetrievalOptions(k_test=3, image_tokens="ram")


class Videos(Batches):
    """The pictures of a data set as videos of frames that are all the same."""

    def __init__(self, dataset, num_frames=3, **options):
        super().__init__(dataset, **options)
        self.num_frames = num_frames

    def __iter__(self):
        for samples in super().__iter__():
            frames = samples["image"][:, :, None].expand(-1, -1, self.num_frames, -1, -1)
            yield {"video": frames, "index": samples["index"]}


def as_pictures(model_class):
    """A model whose ``embed_images`` takes videos, and looks at their first frame."""

    class Watching(model_class):
        def embed_images(self, images):
            assert images.ndim == 5
            return super().embed_images(images[:, :, 0])

    return Watching()


@pytest.mark.parametrize("model_class", [Comparing, Judging])
def test_videos_are_scored_as_pictures_are(model_class):
    expected = score_pairs(model_class(), Batches(Pictures()), OPTIONS)
    found = score_pairs(as_pictures(model_class), Videos(Pictures()), OPTIONS)
    assert found.i2t.equal(expected.i2t) and found.t2i.equal(expected.t2i)
    assert found.images == expected.images


@pytest.mark.parametrize("where", ["ram", "disk", "recompute"])
def test_tokens_that_do_not_count_are_not_judged(where):
    class Padding(Judging):
        """Puts tokens behind each picture's that would change what it says."""

        def embed_videos(self, videos, num_frames=None):
            seen = super().embed_images(videos[:, :, 0])
            noise = torch.full_like(seen.tokens[:, :3], 9.0)
            seen.num_tokens = torch.full((len(videos),), seen.tokens.shape[1])
            seen.tokens = torch.cat([seen.tokens, noise], dim=1)
            return seen

        def match_pairs(self, tokens, texts):
            assert tokens.shape == (4, 3)
            return super().match_pairs(tokens, texts)

    options = RetrievalOptions(k_test=3, image_tokens=where)
    expected = score_pairs(Judging(), Batches(Pictures()), options)
    found = score_pairs(Padding(), Videos(Pictures()), options)
    torch.testing.assert_close(found.i2t, expected.i2t)
    torch.testing.assert_close(found.t2i, expected.t2i)


# --- BLIP on real videos --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two long videos and one of 2 frames, and what is said of them."""
    made = tmp_path_factory.mktemp("videos")
    for name, count in (("a.mp4", 12), ("b.mp4", 25), ("short.mp4", 2)):
        write_video(made / name, count)
    texts = ["a red cat", "the dog", "blue birds"]
    questions = [("is the cat red", "red"), ("of the dog", "blue"), ("a house", "green")]
    names = ("a.mp4", "b.mp4", "short.mp4")
    captions = [
        {"video": v, "caption": [t, f"{t} runs"], "image_id": v[:-4]}
        for v, t in zip(names, texts, strict=True)
    ]
    asked = [
        {"video": v, "question": q, "answer": a, "question_id": i}
        for i, (v, (q, a)) in enumerate(zip(names, questions, strict=True))
    ]
    (made / "captions.json").write_text(json.dumps(captions))
    (made / "questions.json").write_text(json.dumps(asked))
    tiny.write_vocabulary(made)
    return made


def evaluated(folder: Path, kind: str, arch: str, run: dict, **options):
    """Rows and scores of a tiny model."""
    file = "questions" if kind == "video_qa" else "captions"
    processor = AlproVideoEvalProcessor(tiny.IMAGE_SIZE, n_frms=4)
    data = dataset_classes(kind)[1](processor, None, folder, [folder / f"{file}.json"], **options)
    sizes = {"batch_size_train": 1, "batch_size_eval": 2, "num_workers": 0, "evaluate": True}
    task = setup_task(read_run({**sizes, **run}))
    task.check_data(data)
    model = build(arch, folder / "vocab.txt").eval()
    rows = task.unique(task.evaluation(model, build_loader(data, batch_size=2, is_train=False)))
    return rows, task.score(rows, data)


def test_retrieval(folder):
    rows, scores = evaluated(folder, "video_retrieval", "blip_retrieval", {"task": "retrieval"})
    assert [row["image"] for row in rows if row["query"] == "image"] == [
        *("a.mp4", "b.mp4", "short.mp4")
    ]
    assert sum(row["query"] == "text" for row in rows) == 6
    assert {"txt_r1", "img_r1", "agg_metrics"} <= set(scores)


def test_questions(folder):
    answers = ["red", "green", "blue"]
    run = {"task": "gqa", "num_ans_candidates": 3}
    rows, scores = evaluated(folder, "video_qa", "blip_vqa", run, class_names=answers)
    assert [row["gt_ans"] for row in rows] == ["red", "blue", "green"]
    right = [row["pred_ans"] == row["gt_ans"] for row in rows]
    assert scores["acc"] == pytest.approx(100 * sum(right) / 3)
    assert {row["pred_ans"] for row in rows} <= set(answers)


def test_answers_as_classes(folder):
    run = {"task": "multimodal_classification"}
    names = ["red", "blue", "green"]
    rows, scores = evaluated(folder, "video_qa", "alpro_qa", run, class_names=names)
    assert [row["target"] for row in rows] == [0, 1, 2]
    assert scores["acc"] == sum(row["prediction"] == row["target"] for row in rows) / 3


def test_captions(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no Java
    run = {"task": "captioning", "max_len": 12, "min_len": 2}
    rows, scores = evaluated(folder, "video_caption", "blip_caption", run)
    assert [row["image_id"] for row in rows] == ["a", "b", "short"]
    assert scores["agg_metrics"] == pytest.approx(scores["CIDEr"] + scores["Bleu_4"])
