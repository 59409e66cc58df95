"""Every YAML file that is shipped says what the code understands, and so do those of LAVIS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lavis_clone.common.blocks import AnnotationBlock, DatasetBlock
from lavis_clone.common.config import load_config, load_yaml, model_defaults
from lavis_clone.common.reading import plain, read
from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import CaptioningOptions
from lavis_clone.datasets.builders.table import BENCHMARKS
from lavis_clone.datasets.kinds import KINDS
from lavis_clone.models import load_preprocess
from lavis_clone.models.encoders.bert import BertConfig
from lavis_clone.models.zoo import MODEL_TYPES
from tests.models import tiny

ROOT = Path(__file__).parents[2]
LAVIS = ROOT / "tests" / "fixtures" / "lavis_recipes"


def found(folder, pattern, *, at_least):
    """Files, relative to the repository; fails when they are fewer than there are known to be."""
    paths = sorted((ROOT / folder).rglob(pattern))
    assert len(paths) >= at_least, f"{folder} holds {len(paths)} {pattern}"
    return [path.relative_to(ROOT).as_posix() for path in paths]


MODELS = found("configs/models", "*.yaml", at_least=3)
SIZES = found("configs/models", "*.json", at_least=2)
DATASETS = found("configs/datasets", "*.yaml", at_least=2)
RECIPES = found("projects", "*.yaml", at_least=3)
TYPES = [(name, kind) for name, kinds in MODEL_TYPES.items() for kind in kinds]


def made_sizes(processors):
    """The sizes of the pictures that a block of processors makes."""
    vis, _ = load_preprocess({"vis_processor": processors})
    return {getattr(p, "image_size", None) for s, p in vis.items() if s in (processors or {})}


def taken_size(model_block):
    """The size of the pictures that a model takes; None for any."""
    config = registry.get_model_class(model_block["arch"]).Config
    return read(config, model_block).picture_size()


def test_every_file_belongs_to_something():
    everything = found("configs", "*.yaml", at_least=6)
    used = [file for types in MODEL_TYPES.values() for file in types.values()]
    used += [file for benchmark in BENCHMARKS.values() for file in benchmark.files.values()]
    assert sorted({*used, "configs/default.yaml"}) == everything
    assert sorted([*MODELS, *DATASETS, "configs/default.yaml"]) == everything


@pytest.mark.parametrize(("name", "model_type"), TYPES)
def test_a_model_type_says_what_its_model_understands(name, model_type):
    block, preprocess = model_defaults(name, model_type)
    assert (block["arch"], block["model_type"]) == tiny.stated(name, model_type)
    read(registry.get_model_class(name).Config, block, where="model")
    load_preprocess(preprocess)
    assert {"eval"} <= set(preprocess["vis_processor"]) <= {"train", "eval"}
    sizes = made_sizes(preprocess["vis_processor"])
    assert sizes in ({taken_size(block)}, {block.get("image_size")})
    path = MODEL_TYPES[name][model_type]
    assert set(plain(load_yaml(ROOT / path))) == {"model", "preprocess"}


@pytest.mark.parametrize("path", SIZES)
def test_a_file_of_sizes_holds_fields_of_the_text_tower(path):
    read(BertConfig, json.loads((ROOT / path).read_text()), where=path)


@pytest.mark.parametrize("path", DATASETS)
def test_a_data_set_says_what_its_builder_understands(path):
    content = plain(load_yaml(ROOT / path))
    assert list(content) == ["datasets"]
    ((name, block),) = content["datasets"].items()
    assert path in BENCHMARKS[name].files.values()
    config = read(DatasetBlock, block, where=f"datasets.{name}")
    assert config.kind in KINDS
    assert config.data_type in config.build_info
    for split, entry in config.build_info.get("annotations", {}).items():
        read(AnnotationBlock, entry, where=split)


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_can_be_run(path):
    assert path.split("/")[2] in ("train", "eval"), path
    config = load_config(ROOT / path)
    registry.get_runner_class(config.run.runner).check(config.run)
    assert config.run.evaluate == (path.split("/")[2] == "eval")
    assert config.run.test_splits or config.run.task == "image_text_pretrain"
    for block in config.datasets.values():
        phases = set(block["vis_processor"])
        assert phases >= ({"eval"} if config.run.evaluate else {"train", "eval"})
        sizes = made_sizes(block["vis_processor"])
        assert sizes in ({taken_size(config.model)}, {config.model.get("image_size")})


def test_a_saved_config_is_the_same_config(tmp_path):
    for number, path in enumerate(RECIPES):
        config = load_config(ROOT / path, ["run.seed=3"])
        config.save(tmp_path / f"{number}.yaml")
        assert load_config(tmp_path / f"{number}.yaml") == config


# --- files of LAVIS v1.0.2, unchanged -----------------------------------------------------------

TRAIN = {
    "caption_coco_ft": ("base_coco", 1e-5, 32),
    "caption_coco_large_ft": ("large_coco", 2e-6, 16),
}
EVALUATE = {"caption_coco_eval": "base_coco", "caption_coco_eval_large": "large_coco"}


def test_all_fixtures_are_tested():
    assert sorted(path.stem for path in LAVIS.glob("*.yaml")) == sorted([*TRAIN, *EVALUATE])


@pytest.mark.parametrize("name", TRAIN)
def test_a_training_recipe_of_lavis_means_the_same(name):
    model_type, rate, batch_size = TRAIN[name]
    config = load_config(LAVIS / f"{name}.yaml")
    run = config.run
    assert (config.model["arch"], config.model["model_type"]) == ("blip_caption", model_type)
    assert config.model["load_finetuned"] is False
    assert config.model["pretrained"].endswith(".pth")
    assert config.model["prompt"] == "a picture of "
    assert (run.init_lr, run.min_lr, run.weight_decay) == (rate, 0.0, 0.05)
    assert (run.warmup_lr, run.warmup_steps, run.lr_sched) == (-1, 0, "linear_warmup_cosine_lr")
    assert (run.batch_size_train, run.batch_size_eval, run.max_epoch) == (batch_size, 64, 5)
    assert run.task_options == CaptioningOptions(num_beams=3, max_len=20, min_len=5)
    assert (run.precision, run.evaluate, run.seed) == ("fp32", False, 42)
    assert (run.train_splits, run.valid_splits, run.test_splits) == (["train"], ["val"], ["test"])
    assert run.output_dir == Path("output/BLIP/Caption_coco")
    registry.get_runner_class(run.runner).check(run)
    block = config.datasets["coco_caption"]
    assert block["text_processor"]["train"]["prompt"] == "a picture of "
    assert made_sizes(block["vis_processor"]) == {taken_size(config.model)} == {384}
    assert set(block["build_info"]["annotations"]) == {"train", "val", "test"}


@pytest.mark.parametrize("name", EVALUATE)
def test_an_evaluation_recipe_of_lavis_means_the_same(name):
    config = load_config(LAVIS / f"{name}.yaml")
    run = config.run
    assert config.model["model_type"] == EVALUATE[name]
    assert config.model["load_finetuned"] is True
    assert config.model["finetuned"].endswith(".pth")
    assert (run.evaluate, run.train_splits, run.test_splits) == (True, [], ["test"])
    assert run.task_options == CaptioningOptions(num_beams=3, max_len=20, min_len=5)
    registry.get_runner_class(run.runner).check(run)


def test_another_type_by_option_brings_its_own_defaults():
    options = ["model.model_type=large_coco", "run.max_epoch=1", "run.amp", "True"]
    config = load_config(LAVIS / "caption_coco_ft.yaml", options)
    assert config.model["vit_type"] == "large"
    assert (config.run.max_epoch, config.run.precision) == (1, "fp16")
