"""Names: what there is, what a typo gets, who may add more, and what it costs to ask."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from torch import nn

import lavis_clone
from lavis_clone import models, processors
from lavis_clone.common.own_data import OWN
from lavis_clone.common.registry import Registries, UnknownName, load_plugins, registry
from lavis_clone.datasets import builders
from tests.contract.test_configs import ROOT

KINDS = {
    "model": ("models", "blip_caption"),
    "processor": ("processors", "blip_image_train"),
    "builder": ("datasets", "coco_caption"),
    "task": ("tasks", "captioning"),
    "runner": ("runners", "runner_base"),
    "lr_scheduler": ("lr_schedulers", "linear_warmup_cosine_lr"),
}
"""The word in the names of methods, the word of its list, and a name that must be there."""


def table(kind):
    return getattr(registry, f"{kind}s")


def get(kind, name):
    return getattr(registry, f"get_{kind}_class")(name)


EVERYTHING = [(kind, name) for kind in KINDS for name in table(kind).names()]


@pytest.mark.parametrize(("kind", "name"), EVERYTHING)
def test_every_name_that_is_listed_can_be_had(kind, name):
    assert callable(get(kind, name))
    assert name in table(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_sorted_and_hold_what_is_promised(kind):
    listed, known = KINDS[kind]
    names = getattr(registry, f"list_{listed}")()
    assert names == sorted(set(names))
    assert known in names


@pytest.mark.parametrize("kind", KINDS)
def test_a_typo_gets_the_nearest_name(kind):
    known = KINDS[kind][1]
    typo = f"{known[:-3]}{known[-2]}{known[-3]}{known[-1]}"  # two letters changed places
    with pytest.raises(UnknownName, match=f"unknown .* '{typo}'; did you mean '{known}'") as told:
        get(kind, typo)
    assert f"(registered: {', '.join(table(kind).names())})" in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert typo not in table(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_taken_once(kind):
    fresh = Registries()
    register = getattr(fresh, f"register_{kind}")

    class First:
        pass

    class Second:
        pass

    assert register("mine")(First) is First
    register("mine")(First)  # the same again, as when a module is imported twice
    with pytest.raises(ValueError, match=r"'mine' is already registered: .*First"):
        register("mine")(Second)
    assert getattr(fresh, f"get_{kind}_class")("mine") is First


def test_zoos_list_the_same_names():
    assert sorted(name for name, _ in models.model_zoo) == registry.list_models()
    assert builders.dataset_zoo.get_names() == registry.list_datasets()
    for name, types in models.model_zoo:
        assert types == list(registry.get_model_class(name).PRETRAINED_MODEL_CONFIG_DICT)
    assert len(models.model_zoo) == sum(len(types) for _, types in models.model_zoo)


def test_models_and_builders_carry_their_names():
    for name in registry.list_models():
        assert issubclass(registry.get_model_class(name), nn.Module)
    for name in registry.list_datasets():
        assert registry.get_builder_class(name).name == ("" if name == OWN else name)
    for name in registry.list_tasks():
        assert registry.get_task_class(name).name == name


def test_public_names_are_all_there():
    for module in (lavis_clone, models, processors, builders):
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        lavis_clone.load_modle  # noqa: B018


# --- plugins ------------------------------------------------------------------------------------

PLUGIN = """
from torch import nn

from lavis_clone.common.registry import registry


@registry.register_model("from_a_plugin")
class FromPlugin(nn.Module):
    pass
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package that adds a model."""
    (tmp_path / "toy_plugin.py").write_text(PLUGIN)
    info = tmp_path / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lavis_clone.plugins]\ntoy = toy_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_plugins.cache_clear()
    yield
    registry.models._items.pop("from_a_plugin", None)
    sys.modules.pop("toy_plugin", None)
    load_plugins.cache_clear()


def test_a_package_outside_adds_its_components_by_being_installed(plugin):
    assert "from_a_plugin" in registry.list_models()
    assert registry.get_model_class("from_a_plugin").__module__ == "toy_plugin"
    with pytest.raises(UnknownName, match="did you mean 'from_a_plugin'"):
        registry.get_model_class("from_a_plugni")


def test_without_the_package_there_is_no_such_model():
    assert "from_a_plugin" not in registry.list_models()


# --- what asking costs --------------------------------------------------------------------------


def python(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_importing_the_package_takes_no_time():
    times = []
    for _ in range(3):  # the machine may be busy with something else
        told = python("-X", "importtime", "-c", "import lavis_clone").stderr
        times += re.findall(r"\| +(\d+) \| +lavis_clone$", told, flags=re.MULTILINE)
    assert len(times) == 3
    assert min(map(int, times)) < 100_000  # microseconds


LOOK = """
import json, sys
{work}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def modules_after(work):
    return set(json.loads(python("-c", LOOK.format(work=work)).stdout.splitlines()[-1]))


def test_lists_import_no_torch():
    work = """
import lavis_clone
from lavis_clone import registry, model_zoo, dataset_zoo
str(model_zoo), str(dataset_zoo)
registry.list_models(), registry.list_datasets(), registry.list_processors()
registry.list_tasks(), registry.list_runners(), registry.list_lr_schedulers()
"""
    assert not modules_after(work) & {"torch", "torchvision", "timm", "transformers", "numpy"}


def test_a_captioner_loads_without_the_packages_of_other_families(tmp_path):
    """The slow or optional ones: whoever lacks them can still caption."""
    work = f"""
from lavis_clone import load_model_and_preprocess, load_preprocess
from tests.models import tiny
from pathlib import Path
model = tiny.caption_model(tiny.write_vocabulary(Path({str(tmp_path)!r})))
block = {{"eval": {{"name": "blip_image_eval", "image_size": 16}}}}
folder = model.save_pretrained({str(tmp_path / "model")!r}, preprocess={{"vis_processor": block}})
model, vis, _ = load_model_and_preprocess("blip_caption", str(folder), is_eval=True)
model.generate({{"image": tiny.images(1)}}, max_length=6, min_length=1)
"""
    found = modules_after(work)
    assert "torch" in found
    assert not found & {
        *("open_clip", "transformers", "decord", "av", "pycocoevalcap", "fairscale"),
        *("webdataset", "gradio", "wandb", "tensorboard", "peft", "ray", "datasets", "pandas"),
    }
