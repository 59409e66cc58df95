from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lavis_clone.common import config as config_module
from lavis_clone.common.blocks import DatasetBlock
from lavis_clone.common.config import ConfigError, load_config, load_yaml, parse_options
from lavis_clone.common.registry import Registry, registry

RUN = {
    "task": "captioning",
    "batch_size_train": 4,
    "batch_size_eval": 8,
    "num_workers": 0,
    "evaluate": True,
    "test_splits": ["test"],
}


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    arch: str
    model_type: str | None = None
    image_size: int = 32
    prompt: str = ""
    finetuned: str | None = None
    load_finetuned: bool = True
    med: dict[str, Any] = field(default_factory=dict)


class ToyModel:
    Config = ToyConfig
    PRETRAINED_MODEL_CONFIG_DICT: Mapping[str, str] = {}


class ToyBuilder:
    DATASET_CONFIG_DICT: Mapping[str, str] = {}


@dataclass
class Resize:
    image_size: int = 224


@pytest.fixture(autouse=True)
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of two types, a data set with default YAMLs, a processor, a task and a runner."""
    monkeypatch.chdir(tmp_path)
    for word in ("model", "dataset", "processor", "task", "runner"):
        table = "builders" if word == "dataset" else f"{word}s"
        monkeypatch.setattr(registry, table, Registry(word))
    registry.register_model("toy")(ToyModel)
    registry.register_builder("toy_set")(ToyBuilder)
    registry.register_processor("resize")(Resize)
    registry.register_task("captioning")(object)
    registry.register_runner("runner_base")(object)
    small = write(
        "toy_small.yaml", {"model": {"arch": "toy_base", "image_size": 8, "prompt": "a "}}
    )
    large = write(
        "toy_large.yaml",
        {
            "model": {"arch": "toy", "image_size": 64, "med": {"width": 3}},
            "preprocess": {"vis_processor": {"eval": {"name": "resize", "image_size": 64}}},
        },
    )
    ToyModel.PRETRAINED_MODEL_CONFIG_DICT = {"small": str(small), "large": str(large)}
    default = {"data_type": "images", "build_info": {"images": {"storage": "toy/images"}}}
    ToyBuilder.DATASET_CONFIG_DICT = {
        "default": str(write("toy_set.yaml", {"datasets": {"named_otherwise": default}})),
        "tiny": str(write("toy_tiny.yaml", {"datasets": {"toy_set": {"data_type": "videos"}}})),
    }


def write(name: str, content: Any) -> Path:
    path = Path(name).absolute()
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def run_file(**blocks: Any) -> Path:
    default = {
        "model": {"arch": "toy", "model_type": "small"},
        "datasets": {"toy_set": {}},
        "run": RUN,
    }
    return write("run.yaml", {**default, **blocks})


def problems_of(path: Path, *options: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, options)
    return str(caught.value).splitlines()


def test_defaults_lie_under_the_file_and_options_above() -> None:
    path = run_file(model={"arch": "toy", "model_type": "small", "prompt": "the "})
    config = load_config(path, ["run.batch_size_eval=2", "model.image_size=16"])
    assert config.model == {
        "arch": "toy",
        "model_type": "small",
        "prompt": "the ",
        "image_size": 16,
    }
    assert config.datasets == {
        "toy_set": {"data_type": "images", "build_info": {"images": {"storage": "toy/images"}}}
    }
    assert config.run.batch_size_eval == 2
    assert config.preprocess == {}


@pytest.mark.parametrize(
    "options",
    [["model.model_type=large"], ["model.model_type", "large"], ["model={model_type: large}"]],
)
def test_options_choose_the_default_yaml(options: list[str]) -> None:
    config = load_config(run_file(), options)
    assert config.model["image_size"] == 64 and "prompt" not in config.model
    assert config.preprocess["vis_processor"]["eval"]["name"] == "resize"
    assert "preprocess" not in config.model


def test_the_type_of_a_data_set_chooses_its_default_yaml() -> None:
    config = load_config(run_file(), ["datasets.toy_set.type=tiny"])
    assert config.datasets["toy_set"] == {"data_type": "videos", "type": "tiny"}


def test_an_empty_block_of_a_data_set_keeps_its_defaults() -> None:
    path = run_file(datasets={"toy_set": None})
    assert load_config(path).datasets["toy_set"]["data_type"] == "images"


def test_a_saved_config_loads_to_the_same(tmp_path: Path) -> None:
    path = run_file(datasets={"toy_set": {"vis_processor": {"eval": {"name": "resize"}}}})
    first = load_config(path, ["run.output_dir=a/${run.task}", "model.model_type=large"])
    first.save(tmp_path / "saved.yaml")
    second = load_config(tmp_path / "saved.yaml")
    assert second == first
    assert first.run.output_dir == Path("a/captioning")
    assert "env" not in first.merged


def test_everything_that_is_wrong_is_told_at_once() -> None:
    path = write(
        "run.yaml",
        {
            "modle": {},
            "model": {"arch": "toy", "model_type": "smal", "image_sise": 3, "prompt": 5},
            "datasets": {
                "toy_sett": {},
                "toy_set": {
                    "type": 3,
                    "vis_processor": {"eval": {"name": "resise"}, "val": {"name": "resize"}},
                    "text_processor": {"train": {"name": "resize", "size": 3}},
                    "build_info": {"annotations": {"train": {"urls": "x", "storage": "y"}}},
                },
            },
            "run": {**RUN, "task": "captionin", "runner": "runner_bass", "max_epoc": 1},
        },
    )
    assert [line.partition(" (")[0] for line in problems_of(path)] == [
        "modle: unknown block; did you mean 'model'?",
        "model: model 'toy' has no model_type 'smal'; did you mean 'small'?",
        "datasets.toy_set: dataset 'toy_set' has no type 3",
        "datasets.toy_sett: unknown dataset 'toy_sett'; did you mean 'toy_set'?",
        "model.image_sise: unknown key; did you mean 'image_size'?",
        "model.prompt: must be text, got 5",
        "datasets.toy_set.type: must be text, got 3",
        "datasets.toy_set.build_info.annotations.train.urls: unknown key; did you mean 'url'?",
        "datasets.toy_set.vis_processor.eval: unknown processor 'resise'; did you mean 'resize'?",
        "datasets.toy_set.vis_processor.val: must be train or eval, got 'val'",
        "datasets.toy_set.text_processor.train.size: unknown key",
        "run.task: unknown task 'captionin'; did you mean 'captioning'?",
    ]


def test_unknown_runners_and_schedules() -> None:
    path = run_file(run={**RUN, "runner": "runner_bass", "lr_sched": "linear_warmup_cosine"})
    assert [line.partition(" (")[0] for line in problems_of(path)] == [
        "run.runner: unknown runner 'runner_bass'; did you mean 'runner_base'?",
        "run.lr_sched: unknown lr scheduler 'linear_warmup_cosine'; "
        "did you mean 'linear_warmup_cosine_lr'?",
    ]


def test_blocks_that_are_missing_or_no_mappings() -> None:
    path = write("run.yaml", "model: 3\ndatasets:\n  toy_set: [1]\n")
    lines = problems_of(path)
    assert lines[:4] == [
        "model: must be a mapping, got 3",
        "run: required, but not given",
        "datasets.toy_set: must be a mapping, got [1]",
        "model.arch: required, but not given",
    ]


def test_an_unknown_model() -> None:
    assert problems_of(run_file(), "model.arch=toi") == [
        "model: unknown model 'toi'; did you mean 'toy'? (registered: toy)"
    ]


def test_a_model_that_needs_an_absent_package() -> None:
    registry.models.declare({"heavy": "heavy_model"})
    write("heavy_model.py", "import a_package_that_is_absent\n")
    sys.path.insert(0, str(Path.cwd()))
    try:
        assert problems_of(run_file(), "model.arch=heavy") == [
            "model: needs the Python package 'a_package_that_is_absent', not installed here"
        ]
    finally:
        sys.path.remove(str(Path.cwd()))


def test_modules_under_imports_can_register_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    write(
        "my_plugin.py",
        "from lavis_clone.common.registry import registry\n"
        "@registry.register_model('mine')\nclass Mine: ...\n",
    )
    path = run_file(imports=["my_plugin"], model={"arch": "mine", "free": 1})
    assert load_config(path).model == {"arch": "mine", "free": 1}
    assert problems_of(run_file(imports=["not_there"])) == [
        "imports: cannot import 'not_there': No module named 'not_there'"
    ]
    assert problems_of(run_file(imports="my_plugin")) == [
        "imports: must be a list of modules, got 'my_plugin'"
    ]


def test_a_syntax_error_says_where() -> None:
    path = write("run.yaml", "model:\n  arch: toy\n run: [\n")
    (line,) = problems_of(path)
    assert line.startswith(f"{path}:3:2: ")


@pytest.mark.parametrize("content", ["- 1\n", "\xff", "a: ${b\n"])
def test_files_that_are_no_config(content: str) -> None:
    path = Path("run.yaml").absolute()
    path.write_bytes(content.encode("latin-1"))
    (line,) = problems_of(path)
    assert str(path) in line


def test_a_missing_file_offers_the_nearest() -> None:
    run_file()
    with pytest.raises(
        ConfigError, match=r"no such config file: runn\.yaml; did you mean 'run\.yaml'"
    ):
        load_config("runn.yaml")


def test_an_interpolation_that_leads_nowhere() -> None:
    (line,) = problems_of(run_file(), "run.output_dir=${nothing}")
    assert "run.output_dir" in line and "nothing" in line


def test_options_are_pairs_of_either_form() -> None:
    parsed = parse_options(["a.b=1", "a.c", "[x, y]", "d=k=v", "a.f=1e-5"])
    assert parsed == {"a": {"b": 1, "c": ["x", "y"], "f": 1e-5}, "d": "k=v"}
    for wrong in (["a.b"], ["=3"], ["a..b=1"], ["a=[1"]):
        with pytest.raises(ConfigError, match="--options"):
            parse_options(wrong)


def test_the_cache_is_set_by_the_environment_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path / "cache"))
    path = run_file(
        datasets={"toy_set": {"build_info": {"images": {"storage": "${env.cache_root}"}}}}
    )
    config = load_config(path)
    assert config.datasets["toy_set"]["build_info"]["images"]["storage"] == str(tmp_path / "cache")
    (line,) = problems_of(run_file(env={"cache_root": "/elsewhere"}))
    assert line.startswith("env.cache_root: ") and "LAVIS_CLONE_CACHE" in line


def test_a_builder_with_a_config_refuses_keys_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_config(run_file(), ["datasets.toy_set.own_key=1"])
    monkeypatch.setattr(ToyBuilder, "Config", DatasetBlock, False)
    assert problems_of(run_file(), "datasets.toy_set.own_key=1") == [
        "datasets.toy_set.own_key: unknown key"
    ]


def test_model_defaults_are_plain_blocks() -> None:
    block, preprocess = config_module.model_defaults("toy", "large")
    assert block["med"] == {"width": 3} and type(block) is dict
    assert set(preprocess) == {"vis_processor"}


def test_load_yaml_of_an_empty_file_is_empty() -> None:
    assert load_yaml(write("empty.yaml", "")) == {}
