"""Runs that cannot be done: told in one line, before anything is loaded or made."""

from __future__ import annotations

import json
import re

import pytest
import torch
import yaml

from lavis_clone.cli import evaluate_file
from lavis_clone.common.registry import registry
from tests.e2e import toys
from tests.e2e.toys import refused


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("model.arch=blip_captoin", "unknown model 'blip_captoin'; did you mean 'blip_caption'?"),
        ("model.model_type=base_cooc", "has no model_type 'base_cooc'; did you mean 'base_coco'?"),
        ("model.promt=x", "model.promt: unknown key; did you mean 'prompt'?"),
        ("model.vit.depht=2", "vit.depht: unknown key; did you mean 'depth'?"),
        ("run.max_epochs=2", "run.max_epochs: unknown key; did you mean 'max_epoch'?"),
        ("run.max_epoch=two", "run.max_epoch: must be a whole number, got 'two'"),
        ("run.task=captoining", "unknown task 'captoining'; did you mean 'captioning'?"),
        ("run.runner=runner_bsae", "unknown runner 'runner_bsae'; did you mean 'runner_base'?"),
        ("run.lr_sched=cosine", "unknown lr scheduler 'cosine'"),
        ("run.num_ans_candidates=5", "task 'captioning' has no such key (it belongs to vqa"),
        ("datasets.emoji_captions.type=x", "unknown dataset 'emoji_captions'; did you mean"),
        (
            "datasets.emoji_caption.vis_processor.eval.image_sise=8",
            "image_sise: unknown key; did you mean 'image_size'?",
        ),
        (
            "datasets.emoji_caption.vis_processor.eval.name=blip_image_evla",
            "unknown processor 'blip_image_evla'; did you mean 'blip_image_eval'?",
        ),
        ("run.resume_ckpt_path=x.pth", "run.resume: no such job or checkpoint: x.pth"),
        ("run.train_dataset_ratios.emoji_caption=1", "run.train_dataset_ratios: belongs to runn"),
        ("run.test_splits=[tset]", "run: no data set has a split 'tset'; there are test, train, v"),
        ("run.score_by=colour", "run.score_by: annotation 0 has no field 'colour'"),
        ("run.lr_scale.visual_encodr=2", "run.lr_scale: no trainable weight's name starts with"),
        ("run.freeze=[visual_encodr]", "run.freeze: no weight's name starts with 'visual_encodr'"),
        ("run.device=mps", "device 'mps' is not available on this machine; use auto or cpu"),
        ("run.device=gpu", "device must be auto, cpu, cuda, cuda:<n> or mps, got 'gpu'"),
        ("model.finetuned=no.pth", "no such file: no.pth"),
        ("run.max_len=100", "max_length (100) must be at most the model's 32 positions"),
        ("datasets.emoji_caption.build_info.images.storage=/no/pictures", "folder of its images"),
        (
            "datasets.emoji_caption.build_info.annotations.val.storage=/no/val.json",
            "no such annotation file: /no/val.json",
        ),
        (
            "datasets.emoji_caption.vis_processor.eval.image_size=32",
            "vis_processor.eval.image_size: is 32, but the model takes pictures of 16 pixels",
        ),
    ],
)
def test_a_wrong_config_is_told_before_anything_is_made(recipe, option, told):
    lines = refused("train", recipe, option)
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert not (recipe.parent / "output").exists()


def test_all_problems_are_told_at_once(recipe):
    lines = refused("train", recipe, "run.max_epoch=two", "model.promt=x", "run.taks=x")
    assert len(lines) == 3


def test_data_sets_without_processors_are_told_before_anything_is_made(recipe):
    assert refused("train", recipe, "datasets.emoji_caption.vis_processor=null") == [
        f"error: datasets.emoji_caption.vis_processor.{phase}: required, but not given"
        for phase in ("train", "eval")
    ]
    assert not (recipe.parent / "output").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run: [1, 2", r"recipe.yaml:\d+:\d+: .*expected ',' or ']'"),
        ("a: b: c", r"recipe.yaml:1:5: mapping values are not allowed"),
        ("- x", "recipe.yaml: must be a mapping, got a list"),
        ("", "model: required, but not given"),
    ],
)
def test_wrong_yaml_is_told_with_its_place(tmp_path, text, told):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert re.search(told, refused("train", path)[0])


def test_a_missing_file_is_told_with_the_nearest_one():
    (line,) = refused("train", "projects/emoji/train/captoin.yaml")
    assert "no such config file: projects/emoji/train/captoin.yaml; did you mean 'caption" in line


def test_evaluate_without_test_splits(recipe):
    assert refused("evaluate", recipe, "run.test_splits=[]") == [
        "error: run.test_splits: names no split to evaluate"
    ]


def test_pictures_that_are_not_there_are_told_before_training(recipe, data, tmp_path):
    (tmp_path / "images").mkdir()
    where = f"datasets.emoji_caption.build_info.images.storage={tmp_path / 'images'}"
    (line,) = refused("train", recipe, where)
    assert line == (
        f"error: 6 bad samples in a row; the last: {tmp_path}/images/val_05.png: no such picture"
    )
    assert not (recipe.parent / "output").exists()


def test_evaluate_needs_no_annotations_but_those_of_its_splits(recipe, tmp_path):
    gone = [
        f"datasets.emoji_caption.build_info.annotations.{split}.storage=/no/{split}.json"
        for split in ("train", "val")
    ]
    assert list(evaluate_file(str(recipe), gone)) == ["test"]


def test_pictures_without_captions_cannot_be_scored(recipe, data, tmp_path):
    records = json.loads((data / "test.json").read_text())
    del records[1]["caption"]
    (tmp_path / "some.json").write_text(json.dumps(records))
    where = "datasets.emoji_caption.build_info.annotations.test.storage"
    (line,) = refused("evaluate", recipe, f"{where}={tmp_path / 'some.json'}")
    assert line.startswith("error: emoji_caption/test: 1 pictures have no caption to compare with")
    assert "image_id 'test_1'" in line
    scores = evaluate_file(
        str(recipe), [f"{where}={tmp_path / 'some.json'}", "run.report_metric=False"]
    )
    assert scores == {"test": {}}


def test_a_model_without_what_the_task_asks(recipe, monkeypatch):
    class Mute(torch.nn.Module):
        pass

    monkeypatch.setitem(registry.models._items, "mute", Mute)
    content = yaml.safe_load(recipe.read_text())
    content["model"] = {"arch": "mute"}
    (line,) = refused("train", toys.write_recipe(recipe, content))
    assert line == (
        "error: task 'captioning' needs a model with generate_with_confidence(), which Mute does "
        "not have"
    )
    assert not (recipe.parent / "output").exists()


def test_weights_come_last_of_what_is_checked(recipe):
    """Each of these is told although the weights, which take longest to get, are missing, too."""
    missing = "model.finetuned=/no/weights.pth"
    for option, told in (
        ("run.resume_ckpt_path=x", "no such job or checkpoint"),
        ("run.test_splits=[tset]", "no data set has a split"),
        ("run.score_by=colour", "score_by"),
        ("run.device=mps", "mps"),
        (f"run.output_dir={recipe}/x", "is a file, not a folder"),
        ("datasets.emoji_caption.vis_processor.eval=null", "vis_processor.eval"),
    ):
        (line,) = refused("train", recipe, missing, option)
        assert told in line


def test_processes_that_cannot_meet_are_told_before_work(recipe, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    (line,) = refused("train", recipe, "model.finetuned=/no/weights.pth")
    assert line == "rank 1: error: MASTER_ADDR and MASTER_PORT must be set, as torchrun does"
    assert not (recipe.parent / "output").exists()


def test_export_refuses_what_is_no_job(recipe, tmp_path):
    assert refused("export", tmp_path / "none", tmp_path / "x") == [
        f"error: no such job or checkpoint: {tmp_path / 'none'}"
    ]
    (tmp_path / "empty").mkdir()
    assert refused("export", tmp_path / "empty", tmp_path / "x") == [
        f"error: {tmp_path / 'empty'} holds no checkpoint"
    ]
    (tmp_path / "empty" / "checkpoint_best.pth").write_bytes(b"no checkpoint")
    assert "no such config file" in refused("export", tmp_path / "empty", tmp_path / "x")[0]
    (tmp_path / "empty" / "config.yaml").write_text(recipe.read_text())
    (line,) = refused("export", tmp_path / "empty", tmp_path / "x")
    assert "checkpoint_best.pth cannot be read as a checkpoint" in line
    assert refused("export", tmp_path / "empty", recipe) == [
        f"error: {recipe} is a file, not a folder to export to"
    ]
