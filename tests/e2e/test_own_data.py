"""docs/how-to/own-data.md, followed by somebody with 200 pictures and a CSV file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.contract.test_docs import DOCS, blocks_of
from tests.e2e import toys

COUNT = 200
SIZE = 32
PAGE = DOCS / "how-to" / "own-data.md"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's working directory: pictures, tables, and the page's YAML files."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "shop/pictures").mkdir(parents=True)
    captions, questions = [], []
    for number in range(COUNT):
        color = list(toys.COLORS)[number % len(toys.COLORS)]
        name = f"photo {number}.jpg"
        Image.new("RGB", (48, 40), toys.COLORS[color]).save(folder / "shop/pictures" / name)
        captions.append({"image": name, "caption": f"a {color} card"})
        questions.append({"image": name, "question": "which color", "answer": color})
    for table, rows in {"captions": captions, "questions": questions}.items():
        with (folder / f"shop/{table}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    for block in blocks_of(PAGE, "yaml"):
        if block.title is not None:
            content = yaml.safe_load(block.text)
            content["model"]["image_size"] = SIZE  # so that it takes seconds
            (folder / block.title).write_text(yaml.safe_dump(content))
    return folder


def done(*arguments: object) -> str:
    result = toys.invoke(*arguments)
    assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
    return str(result.stdout)


def rows_of(job: Path) -> list[dict[str, object]]:
    (path,) = (job / "result").glob("test_*.json")
    found: list[dict[str, object]] = json.loads(path.read_text())
    return found


def test_a_captioner_is_trained_validated_and_evaluated(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    assert "shop/pictures" in done("config", "check", "shop_captions.yaml")
    done("train", "shop_captions.yaml", "run.init_lr=1e-3")
    job = toys.the_job(shop / "output/shop_captions")
    (entry,) = [line for line in toys.log_entries(job) if "val_agg_metrics" in line]
    assert entry["val_agg_metrics"] >= 0
    best = f"model.finetuned={job / 'checkpoint_best.pth'}"
    again = [best, "run.test_splits=[test]", "run.output_dir=output/again"]
    printed = done("evaluate", "shop_captions.yaml", *again)
    assert "CIDEr" in printed
    tested = rows_of(toys.the_job(shop / "output/again"))
    assert 15 <= len(tested) <= 45  # of 200, about 0.15
    monkeypatch.chdir(shop.parent)  # what was saved runs from anywhere
    saved = ["run.test_splits=[test]", f"run.output_dir={shop / 'saved'}"]
    assert done("evaluate", job / "config.yaml", best, *saved) == printed
    assert rows_of(toys.the_job(shop / "saved")) == tested


def test_a_model_learns_to_answer(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    printed = done("train", "shop_questions.yaml", "run.init_lr=3e-3", "run.max_epoch=3")
    job = toys.the_job(shop / "output/shop_questions")
    losses = [line["train_loss"] for line in toys.log_entries(job) if "train_loss" in line]
    assert len(losses) == 3
    assert losses[-1] < 0.7 * losses[0]
    assert re.search(r"^test +acc +\d", printed, re.M)
    assert len(rows_of(job)) >= 15


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["datasets.shop.images=shop/photos"], "datasets.shop.images: no such folder: shop/photos"),
        (["datasets.shop.kind=captions"], "unknown kind 'captions'; did you mean 'caption'"),
        (["datasets.shop.colums.a=image"], "shop.colums: unknown key; did you mean 'columns'?"),
        (["datasets.shop.columns.file=image"], "shop/captions.csv: has no column 'file' (it has"),
        (["datasets.shop.template=a {color}"], "needs 'color' (it has image, caption)"),
        (["datasets.shop.images=output"], "files that its annotations name are missing, e.g."),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    shop: Path, changes: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    (shop / "output").mkdir(exist_ok=True)
    (line,) = toys.refused("train", "shop_captions.yaml", *changes, "run.output_dir=refused")
    assert told in line
    assert not (shop / "refused").exists()
