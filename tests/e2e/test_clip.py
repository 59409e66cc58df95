"""CLIP as a user has it: the commands, a run that trains, and classes from folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lavis_clone.models import load_model_and_preprocess
from tests.e2e import toys
from tests.models import tiny
from tests.models.clip.toys import stir

EVAL = {"name": "clip_image_eval", "image_size": tiny.IMAGE_SIZE}
VIS = {"train": EVAL | {"name": "clip_image_train"}, "eval": EVAL}
LABELS = ["red cat", "blue dog", "green bird"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from lavis_clone.models import ClipModel  # takes long to import

    place = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = ClipModel.from_config(tiny.clip_block("clip")(tiny.write_vocabulary(place)))
    stir(model)
    return model.save_pretrained(place / "saved", preprocess={"vis_processor": VIS})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toys.write_pictures(tmp_path_factory.mktemp("data"))


def test_labels_are_told_with_their_probability(folder, data):
    pictures = sorted((data / "images").iterdir())[:3]
    options = ("--model", "clip", "--type", folder, "--labels", ",".join(LABELS), "--json")
    done = toys.invoke("classify", *pictures, *options, "--prompt", "a {}", "--batch-size", 2)
    assert done.exit_code == 0, (done.stderr, done.exception)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 9
    model, images, _ = load_model_and_preprocess("clip", str(folder), is_eval=True)
    model.set_classes(LABELS, ["a {}"])
    batch = torch.stack([images["eval"](Image.open(path)) for path in pictures])
    expected = model.predict({"image": batch}).predictions.softmax(dim=1)
    for row in rows:
        place = [str(path) for path in pictures].index(row["image"])
        sure = expected[place, LABELS.index(row["label"])].item()
        assert row["confidence"] == pytest.approx(sure, abs=1e-4)


def test_features_are_one_vector_each(folder, data, tmp_path):
    (tmp_path / "texts.txt").write_text("red cat\nblue dog\n")
    options = ("--model", "clip", "--type", folder)
    done = toys.invoke("features", data / "images", "-o", tmp_path / "a.npz", *options)
    assert done.exit_code == 0, (done.stderr, done.exception)
    texts = ("--mode", "text", "--texts", tmp_path / "texts.txt")
    done = toys.invoke("features", *texts, "-o", tmp_path / "b.npz", *options)
    assert done.exit_code == 0, (done.stderr, done.exception)
    with np.load(tmp_path / "a.npz") as images, np.load(tmp_path / "b.npz") as words:
        assert images["image_embeds_proj"].shape == (28, 6)
        assert words["text_embeds_proj"].shape == (2, 6)
        np.testing.assert_allclose(
            np.linalg.norm(images["image_embeds_proj"], axis=1), 1, rtol=1e-5
        )


def test_a_mode_that_it_lacks_is_told_before_any_work(folder, data, tmp_path, monkeypatch):
    monkeypatch.setattr("lavis_clone.inference.Choice.open", lambda _choice: pytest.fail("opened"))
    (tmp_path / "texts.txt").write_text("red cat\nblue dog\n")
    both = ("--mode", "multimodal", "--texts", tmp_path / "texts.txt")
    pictures = sorted((data / "images").iterdir())[:2]
    options = ("--model", "clip", "--type", folder, "-o", tmp_path / "c.npz")
    (line,) = toys.refused("features", *pictures, *both, *options)
    assert "clip has no mode 'multimodal'; use one of image, text" in line


def recipe(data, folder, output, **run):
    content = toys.recipe(data, folder / "vocab.txt", output, task="retrieval", **run)
    for key in ("num_beams", "max_len", "min_len"):
        del content["run"][key]
    block = content["datasets"].pop("emoji_caption") | {"vis_processor": VIS}
    content["datasets"]["emoji_retrieval"] = block
    content["model"] = tiny.clip_block("clip", chunk_size=3, init_logit_scale=2.66)(
        folder / "vocab.txt"
    )
    return content


def test_training_learns_and_is_judged_by_cosine(folder, data, tmp_path):
    content = recipe(data, folder, tmp_path / "output", max_epoch=15, init_lr=1e-2)
    done = toys.invoke("train", toys.write_recipe(tmp_path / "run.yaml", content))
    assert done.exit_code == 0, (done.stderr, done.exception)
    job = toys.the_job(tmp_path / "output")
    losses = [e["train_loss"] for e in toys.log_entries(job) if "train_loss" in e]
    assert float(losses[-1]) < 0.9 * float(losses[0])
    rows = json.loads((job / "result" / "test_epochbest.json").read_text())
    scores = [row["texts"][0]["score"] for row in rows if row["query"] == "image"]
    assert all(-1 <= score <= 1 for score in scores)
    exported = toys.invoke("export", job, tmp_path / "exported")
    assert exported.exit_code == 0, (exported.stderr, exported.exception)
    model, images, _ = load_model_and_preprocess("clip", str(tmp_path / "exported"))
    assert images["eval"].image_size == model.image_size == tiny.IMAGE_SIZE


def test_folders_are_classes(folder, tmp_path):
    for place, (name, color) in enumerate(toys.COLORS.items()):
        (tmp_path / "pictures" / "val" / name).mkdir(parents=True)
        for index in range(place + 1):
            picture = tmp_path / "pictures" / "val" / name / f"{index}.png"
            Image.new("RGB", (20, 20 + index), color).save(picture)
    content = {
        "model": tiny.clip_block("clip", templates=["a {} house"])(folder / "vocab.txt")
        | {"finetuned": str(folder / "model.safetensors")},
        "datasets": {
            "own": {
                "kind": "image_folder",
                "build_info": {
                    "splits": ["val"],
                    "images": {"storage": str(tmp_path / "pictures")},
                },
                "vis_processor": {"eval": EVAL},
            }
        },
        "run": {
            "task": "multimodal_classification",
            "evaluate": True,
            "batch_size_train": 1,
            "batch_size_eval": 4,
            "num_workers": 0,
            "test_splits": ["val"],
            "output_dir": str(tmp_path / "output"),
            "device": "cpu",
        },
    }
    done = toys.invoke("evaluate", toys.write_recipe(tmp_path / "run.yaml", content))
    assert done.exit_code == 0, (done.stderr, done.exception)
    job = toys.the_job(tmp_path / "output")
    rows = json.loads(next((job / "result").glob("val_*.json")).read_text())
    assert [row["target"] for row in rows] == [0] * 3 + [1] * 2 + [2] * 4 + [3]  # by their names
    (line,) = (job / "evaluate.txt").read_text().splitlines()
    scores = json.loads(line)["val"]
    assert {"acc", "acc/red", "acc/blue"} <= set(scores)
    assert scores["agg_metrics"] == np.mean([row["prediction"] == row["target"] for row in rows])
