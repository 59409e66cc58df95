"""ALPRO trained and judged as a user does it, on videos of a few frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lavis_clone.common.config import load_config
from lavis_clone.job import build_runner
from lavis_clone.models.alpro.retrieval import AlproRetrieval
from tests.models import tiny
from tests.processors.videos import write_video

CLASSES = ["red", "green", "blue"]
ANSWERS = ["red", "green", "blue", "red", "house"]
"""The last one is no class."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos, one of them shorter than what is read of it, with texts and questions."""
    root = tmp_path_factory.mktemp("videos")
    tiny.write_vocabulary(root)
    records, texts, questions = [], [], []
    for number, answer in enumerate(ANSWERS):
        name = write_video(root / f"{number}.mp4", 2 if number == 3 else 9, size=(32, 32)).name
        text = f"a {answer} cat runs on the {number}"
        records.append({"video": name, "caption": text, "image_id": number})
        texts.append({"video": name, "caption": [text]})
        asked = {"video": name, "question": "the dog sits on", "answer": answer}
        questions.append(asked | {"question_id": number})
    numbers = {name: number for number, name in enumerate(CLASSES)}
    files = {"train": records, "texts": texts, "questions": questions, "ans2label": numbers}
    for name, content in files.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def results(folder: Path, dataset: str, annotations: dict[str, str], **changes: Any) -> Any:
    """What a job says about its test split; ``annotations`` names the file of each split."""
    processors = {"n_frms": 4, "image_size": tiny.IMAGE_SIZE}
    listed = {
        k: {"url": None, "storage": str(folder / f"{v}.json")} for k, v in annotations.items()
    }
    model = tiny.video_block(changes["arch"])(folder / "vocab.txt")
    model |= {"load_finetuned": False, "pretrained": None} | changes["model"]
    vis = {split: {"name": f"alpro_video_{split}"} | processors for split in ("train", "eval")}
    document = {
        "model": model,
        "datasets": {
            dataset: {
                "build_info": {"annotations": listed, "videos": {"storage": str(folder)}},
                "vis_processor": vis,
                "text_processor": {s: {"name": "blip_caption"} for s in ("train", "eval")},
            }
        },
        "run": {
            "lr_sched": "linear_warmup_cosine_lr",
            "init_lr": 1e-3,
            "max_epoch": 1,
            "batch_size_train": 2,
            "batch_size_eval": 2,
            "num_workers": 0,
            "device": "cpu",
            "train_splits": ["train"],
            "output_dir": str(folder / changes["arch"]),
        }
        | changes["run"],
    }
    path = folder / f"{changes['arch']}.yaml"
    path.write_text(yaml.safe_dump(document))
    return build_runner(load_config(path)).train()


def test_videos_are_found_and_judged(folder: Path) -> None:
    found = results(
        folder,
        "msrvtt_retrieval",
        {"train": "train", "val": "texts", "test": "texts"},
        arch="alpro_retrieval",
        model={},
        run={"task": "retrieval", "k_test": 2, "valid_splits": ["val"], "test_splits": ["test"]},
    )
    scores = found["test"]
    assert 0 < scores["txt_r5"] <= scores["txt_r10"] == 100  # five texts in all


def test_answers_are_classes_of_the_file_that_names_them(folder: Path) -> None:
    split = {"train": "questions", "test": "questions", "ans2label": "ans2label"}
    found = results(
        folder,
        "msrvtt_qa",
        split,
        arch="alpro_qa",
        model={"num_classes": 3},
        run={"task": "multimodal_classification", "test_splits": ["test"]},
    )
    assert 0 <= found["test"]["acc"] <= 0.8
    (path,) = folder.glob("alpro_qa/*/result/test*.json")
    rows = {row["instance_id"]: row["target"] for row in json.loads(path.read_text())}
    assert [rows[str(number)] for number in range(5)] == [0, 1, 2, 0, 3]


def test_pretraining_leaves_a_start(folder: Path) -> None:
    results(
        folder,
        "msrvtt_caption",
        {"train": "train"},
        arch="alpro_pretrain",
        model={"mlm_mask_prob": 0.5},
        run={"task": "image_text_pretrain"},
    )
    (path,) = folder.glob("alpro_pretrain/*/checkpoint_*.pth")
    start = torch.load(path, weights_only=True)["model"]
    block = tiny.video_block("alpro_retrieval", pretrained=str(path))(folder / "vocab.txt")
    model = AlproRetrieval.from_config(block)
    for name, value in model.state_dict().items():
        assert value.equal(start[name.replace("text_encoder.", "text_encoder.bert.")]), name
