"""Training and evaluating a model for dialogues as a user does it, on a few made-up videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavis_clone import load_model_and_preprocess
from lavis_clone.cli import evaluate_file, train_file
from tests.e2e import toys
from tests.models import tiny

ACTIONS = ("drinks", "speak", "does", "is")  # a token each
SIZES = {"train": 16, "val": 6, "test": 6}


def write_dialogues(folder: Path) -> Path:
    """Videos of one of four actions; the last question's answer is in the features alone."""
    random = np.random.default_rng(0)
    for split, count in SIZES.items():
        dialogs = []
        for number in range(count):
            action, name = number % 4, f"{split}_{number}"
            for kind, width in (("look", 4), ("sound", 1)):
                frames = random.normal(scale=0.1, size=(3 + number % 3, width))
                frames[:, action % width] += 5.0
                (folder / "features" / kind).mkdir(parents=True, exist_ok=True)
                np.save(folder / "features" / kind / f"{name}.npy", frames)
            answers = [f"he {ACTIONS[action]}", ACTIONS[action]]
            turns = [
                {"question": "is there a cup ?", "answer": "yes"},
                {"question": "what does he do ?", "answer": answers},
            ]
            dialogs.append({"image_id": name, "caption": "a man", "dialog": turns})
        (folder / f"{split}.json").write_text(json.dumps({"dialogs": dialogs}))
    return folder


def recipe(data: Path, words: Path, output: Path, **run: Any) -> dict[str, Any]:
    vis = {"name": "gpt_video_ft", "visual_ft": ["look"], "audio_ft": ["sound"]}
    text = {"name": "gpt_dialogue", "tokenizer": str(words)}
    sizes = tiny.gpt_block(n_embd=32, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return {
        "model": {
            "arch": "gpt_dialogue",
            "tokenizer": str(words),
            "len_video_ft": 5,
            "gpt": sizes,
        },
        "datasets": {
            "avsd_dialogue": {
                "vis_processor": {"train": vis, "eval": vis},
                "text_processor": {"train": text, "eval": text},
                "build_info": {
                    "annotations": {s: {"storage": str(data / f"{s}.json")} for s in SIZES},
                    "features": {"storage": str(data / "features")},
                },
            }
        },
        "run": {
            "task": "dialogue",
            "lr_sched": "linear_warmup_cosine_lr",
            "init_lr": 3e-3,
            "min_lr": 1e-3,
            "weight_decay": 0.01,
            "max_epoch": 32,
            "val_freq": 8,
            "batch_size_train": 4,
            "batch_size_eval": 4,
            "num_workers": 0,
            "num_beams": 2,
            "max_len": 8,
            "train_splits": ["train"],
            "valid_splits": ["val"],
            "test_splits": ["test"],
            "output_dir": str(output),
            "device": "cpu",
            **run,
        },
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dialogues(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_gpt2_words(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def trained(
    data: Path, words: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, dict[str, dict[str, float]]]:
    """train.py's work: the recipe, the job and the scores."""
    folder = tmp_path_factory.mktemp("training")
    path = toys.write_recipe(folder / "recipe.yaml", recipe(data, words, folder / "jobs"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in toys.ALONE.items():
            patch.setenv(name, value)
        scores = train_file(str(path))
    return path, toys.the_job(folder / "jobs"), scores


def rows_of(job: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((job / "result/test_epochbest.json").read_text())
    return rows


@pytest.mark.slow
def test_the_loss_falls_and_the_lowest_is_the_best(trained: Any) -> None:
    _, job, scores = trained
    entries = toys.log_entries(job)
    losses = [entry["train_loss"] for entry in entries if "train_loss" in entry]
    assert losses[-1] < 0.2 * losses[0]
    assert [e["train_loss_lm"] for e in entries if "train_loss_lm" in e] == losses
    judged = [entry["val_agg_metrics"] for entry in entries if "val_agg_metrics" in entry]
    assert entries[-1]["best_epoch"] == 8 * judged.index(min(judged)) + 7 > 7
    assert (job / "checkpoint_best.pth").is_file()
    assert scores["test"]["loss"] < judged[0]


@pytest.mark.slow
def test_it_learns_what_the_videos_show(trained: Any, data: Path) -> None:
    _, job, scores = trained
    rows = rows_of(job)
    assert [row["image_id"] for row in rows] == [f"test_{n}" for n in range(6)]
    assert [row["answer"] for row in rows] == [f"he {ACTIONS[n % 4]}" for n in range(6)]
    assert all(0.3 < row["confidence"] <= 1 for row in rows)
    assert scores["test"]["exact_match"] == 1.0
    assert scores["test"]["Bleu_1"] == pytest.approx(1.0)
    assert scores["test"]["agg_metrics"] == scores["test"]["loss"]


@pytest.mark.slow
def test_evaluation_repeats_it_in_any_batch_size(trained: Any, tmp_path: Path) -> None:
    path, job, scores = trained
    for size in (1, 5):
        options = [f"model.finetuned={job / 'checkpoint_best.pth'}"]
        options += [f"run.batch_size_eval={size}", f"run.output_dir={tmp_path / str(size)}"]
        again = evaluate_file(str(path), options)
        assert again["test"] == pytest.approx(scores["test"], abs=1e-4)
        rows = rows_of(toys.the_job(tmp_path / str(size)))
        assert [row["answer"] for row in rows] == [row["answer"] for row in rows_of(job)]
        expected = [row["confidence"] for row in rows_of(job)]
        assert [row["confidence"] for row in rows] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_an_exported_model_answers_alone(trained: Any, data: Path, tmp_path: Path) -> None:
    _, job, _ = trained
    done = toys.invoke("export", job, tmp_path / "model")
    assert done.exit_code == 0, done.stderr
    model: Any
    model, vis, text = load_model_and_preprocess(
        "gpt_dialogue", str(tmp_path / "model"), is_eval=True
    )
    turn = {"caption": "a man", "question": "what does he do ?"}
    turn["dialog"] = [{"question": "is there a cup ?", "answer": "yes"}]  # type: ignore[assignment]
    asked = {name: ids[None] for name, ids in text["eval"](turn).items()}
    frames = vis["eval"](data / "features", "test_2")
    types = torch.full((1, len(frames)), text["eval"].video_type_id)
    samples = {
        **asked,
        "video_fts": frames[None],
        "token_type_ids": torch.cat([types, asked["token_type_ids"]], dim=1),
    }
    assert model.generate(samples, max_length=8) == ["he does"]


@pytest.mark.slow
def test_the_scripts_work_too(data: Path, words: Path, tmp_path: Path) -> None:
    content = recipe(data, words, Path("jobs"), max_epoch=1, num_workers=1)
    toys.write_recipe(tmp_path / "recipe.yaml", content)
    done = toys.start(str(toys.ROOT / "train.py"), "--cfg-path", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = toys.the_job(tmp_path / "jobs") / "checkpoint_best.pth"
    arguments = ("--cfg-path", "recipe.yaml", "--options", f"model.finetuned={best}")
    again = toys.start(
        str(toys.ROOT / "evaluate.py"), *arguments, "run.output_dir=evaluated", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert "test         loss" in done.stdout and "CIDEr" in done.stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["model.tokenizer=gpt2"],
            "tokenizer 'gpt2': cannot get hf://openai-community/gpt2/tokenizer.json: ",
        ),
        (
            ["model.pretrained=gpt2"],
            "cannot get hf://openai-community/gpt2/model.safetensors: ",
        ),
        (
            ["datasets.avsd_dialogue.vis_processor.eval.audio_ft=[]"],
            "video_fts has 4 features per frame, but the model takes 5",
        ),
        (
            ["datasets.avsd_dialogue.build_info.features.storage=/no/such"],
            "dataset 'avsd_dialogue': the folder of its features is missing: /no/such",
        ),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    data: Path, words: Path, tmp_path: Path, options: list[str], line: str
) -> None:
    path = toys.write_recipe(tmp_path / "r.yaml", recipe(data, words, tmp_path / "jobs"))
    told = toys.refused("train", path, *options)
    assert len(told) == 1
    assert line in told[0]
    assert not (tmp_path / "jobs").exists()
