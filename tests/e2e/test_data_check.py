"""``lavis-clone data check``, as a user calls it."""

from __future__ import annotations

import json

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from lavis_clone.cli import app
from lavis_clone.common.config import ConfigError, load_data_blocks
from lavis_clone.data_check import check_file, tokens_of
from lavis_clone.datasets import check
from lavis_clone.datasets.check import CheckOptions

OPTIONS = ["-o", "report", "--workers", "0"]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The working directory, with four pictures and two tables."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        size, colour = (8 + number, 6), (60 * number, 200, 0)
        Image.new("RGB", size, colour).save(tmp_path / "pictures" / f"{number}.png")
    write_rows("train", ("0.png", "a red cup"), ("1.png", "a cup"))
    write_rows("val", ("2.png", "a plate"), ("3.png", "a spoon"))
    annotations = {"train": "train.csv", "val": "val.csv"}
    block = {"kind": "caption", "images": "pictures", "annotations": annotations}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump({"datasets": {"shop": block}}))
    return tmp_path


def write_rows(split, *rows):
    with open(f"{split}.csv", "w", encoding="utf-8") as file:
        file.write("image,caption\n" + "".join(f"{image},{text}\n" for image, text in rows))


def called(*arguments):
    return CliRunner().invoke(app, ["data", "check", *arguments])


def test_good_data_end_with_0(shop):
    done = called("shop.yaml", *OPTIONS)
    assert done.exit_code == 0, done.output
    assert "shop/train                           2         2" in done.stdout
    assert "0 errors and 0 warnings." in done.stdout
    content = json.loads((shop / "report" / "report.json").read_text())
    assert content["checked"] == "shop.yaml" and content["complete"] and not content["findings"]
    assert set(content["splits"]) == {"shop/train", "shop/val"}
    assert (shop / "report" / "report.md").read_text().startswith("# Data check of shop.yaml")


def test_errors_end_with_1_unless_they_are_allowed(shop):
    write_rows("val", ("1.png", "a plate"), ("gone.png", ""))
    done = called("shop.yaml", *OPTIONS)
    assert done.exit_code == 1
    for problem in ("shared_picture", "missing_media", "empty_text"):
        assert f"error: 1 x {problem}: " in done.stdout
    allowed = [word for name in ("shared_picture", "missing_media") for word in ("--allow", name)]
    assert called("shop.yaml", *OPTIONS, *allowed).exit_code == 1
    write_rows("val", ("1.png", "a plate"), ("gone.png", "x"))
    done = called("shop.yaml", *OPTIONS, *allowed)
    assert done.exit_code == 0 and "warning: 1 x shared_picture: " in done.stdout
    done = called("shop.yaml", *OPTIONS, "--no-media", "--allow", "shared_picture")
    assert done.exit_code == 0 and "missing_media" not in done.stdout


def test_a_split_that_cannot_be_read_does_not_hide_the_others(shop):
    (shop / "val.csv").write_text("image,caption\n1.png\n")
    write_rows("train", ("0.png", "a cup"), ("gone.png", "a cup"))
    report = check_file("shop.yaml")
    found = [(f.problem, f.part) for f in report.findings]
    assert found == [("unreadable_annotations", "shop/val"), ("missing_media", "shop/train")]
    assert "val.csv, line 2: has 1 fields" in report.findings[0].message


def test_a_runs_file_counts_tokens_and_knows_what_is_trained_on(shop):
    content = yaml.safe_load((shop / "shop.yaml").read_text())
    content["model"] = {"arch": "blip_caption", "model_type": "tiny_emoji", "max_txt_len": 6}
    content["run"] = {"task": "captioning", "train_splits": ["val"], "test_splits": ["train"]}
    (shop / "run.yaml").write_text(yaml.safe_dump(content))
    write_rows("val", ("2.png", "one two three four five six"), ("3.png", "a spoon"))
    report = check_file("run.yaml", ["run.valid_splits=[]"])
    assert report.counts["long_text"] == 1
    assert "but the model reads 6" in report.findings[0].message
    assert report.splits["shop/train"]["texts"]["caption"]["tokens"]["least"] >= 4
    wider = check_file("run.yaml", options=CheckOptions(max_tokens=100))
    assert wider.counts["long_text"] == 0 and wider.splits["shop/val"]["texts"]["caption"]["tokens"]


def test_models_count_tokens_by_their_own_tokenizers():
    count, limit = tokens_of({"arch": "clip", "model_type": "ViT-B-32"} | SMALL_CLIP)
    assert limit == 77 and count("a cat") == 4 and count("cat " * 200) == 202
    count, limit = tokens_of({"arch": "blip_vqa", "max_txt_len": 35})
    assert limit == 35 and count("a cat") == 4
    assert tokens_of({"arch": "gpt_dialogue"}) is None


SMALL_CLIP = {"pretrained": None}


def test_ctrl_c_leaves_a_report(shop, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "MediaProbe", interrupted)
    done = called("shop.yaml", *OPTIONS)
    assert done.exit_code == 130 and "Interrupted: not all was looked at." in done.stdout
    assert json.loads((shop / "report" / "report.json").read_text())["complete"] is False


def test_what_cannot_be_checked_is_told_in_one_line(shop):
    done = called("nowhere.yaml", *OPTIONS)
    assert done.exit_code == 2 and "error: no such config file: nowhere.yaml" in done.stderr
    done = called("shop.yaml", *OPTIONS, "--allow", "shared")
    assert done.exit_code == 2 and "no such problem: 'shared'" in done.stderr
    done = called("shop.yaml", "datasets.shop.kind=captoin", *OPTIONS)
    assert done.exit_code == 2 and "unknown kind 'captoin'" in done.stderr
    (shop / "empty.yaml").write_text("run: {task: captioning}\n")
    with pytest.raises(ConfigError, match="datasets"):
        load_data_blocks("empty.yaml")
