"""Scripts in the style of LAVIS's documentation run unchanged, and with the import name changed."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lavis_clone import as_lavis, load_dataset, load_model_and_preprocess
from lavis_clone.common.registry import registry
from lavis_clone.migration.finder import Finder
from lavis_clone.migration.gradcam import getAttMap
from lavis_clone.migration.table import ABSENT, MODULES
from tests.models import tiny

SCRIPTS = Path(__file__).parent / "scripts"
REGISTERED = {
    "models": ["colour_model"],
    "processors": ["colour_words", "colour_image"],
    "builders": ["colours"],
    "tasks": ["naming"],
}
"""What the scripts register."""
COLOURS = ["Red", "Green", "Blue", "Red"]


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """What a script changes in this process is changed back."""
    for name in ("argv", "path", "meta_path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    yield
    for table, names in REGISTERED.items():
        for name in names:
            getattr(registry, table)._items.pop(name, None)
    for name in list(sys.modules):
        if name.split(".")[0] in ("lavis", "own_parts"):
            del sys.modules[name]


@pytest.fixture(params=["unchanged", "renamed"])
def run(request, tmp_path, capsys):
    """Run a script of ``scripts``, and read the JSON that it prints last."""

    def script(name, *arguments):
        if request.param == "unchanged":
            as_lavis.main([str(SCRIPTS / name), *map(str, arguments)])
        else:
            path = tmp_path / name
            path.write_text(re.sub(r"\blavis\b", "lavis_clone", (SCRIPTS / name).read_text()))
            sys.argv = [str(path), *map(str, arguments)]
            runpy.run_path(str(path), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return script


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model with random weights that is saved, by name."""
    place = tmp_path_factory.mktemp("models")
    vocabulary = tiny.write_vocabulary(place)
    image = {"name": "blip_image_eval", "image_size": tiny.IMAGE_SIZE}
    names = ("blip_vqa", "blip_feature_extractor", "blip_image_text_matching")
    for name in names:
        torch.manual_seed(0)
        block = tiny.block(name)(vocabulary)
        model = registry.get_model_class(name).from_config(block)
        with torch.no_grad():
            for parameter in model.parameters():  # large enough to look somewhere
                parameter.add_(torch.randn_like(parameter) * 0.3)
        text = {"name": "blip_question" if name == "blip_vqa" else "blip_caption"}
        model.save_pretrained(
            place / name,
            preprocess={"vis_processor": {"eval": image}, "text_processor": {"eval": text}},
        )
    return [place / name for name in names]


@pytest.fixture(scope="module")
def caption():
    """What our own names make of the picture that the script looks at."""
    model, images, _ = load_model_and_preprocess("blip_caption", "tiny_emoji", is_eval=True)
    picture = load_dataset("emoji_caption")["val"][0]["image"]
    return model.generate({"image": images["eval"](picture)[None]})


@pytest.fixture
def colours(tmp_path):
    """The files of ``own_parts.py``: of a model, and of a data set."""
    model = {"model": {"arch": "colour_model", "model_type": "base", "width": 5}}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(model))
    records = [{"colour": name, "label": len(name) - 3} for name in COLOURS]
    (tmp_path / "colours.json").write_text(json.dumps(records))
    (tmp_path / "pictures").mkdir()
    listed = {split: {"storage": str(tmp_path / "colours.json")} for split in ("train", "val")}
    info = {"annotations": listed, "images": {"storage": str(tmp_path / "pictures")}}
    block = {"data_type": "images", "build_info": info}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"datasets": {"colours": block}}))
    return tmp_path


def test_models_and_data_in_the_way_of_the_documentation(run, folders, caption):
    told = run("inference.py", *folders)
    assert told["captions"] == caption
    assert told["sampled"] == 3
    assert len(told["answers"]) == 1
    assert told["ranked"][0] in ("cat", "dog", "bird")
    assert told["shapes"] == [[1, 5, 12], [64, 96, 3]]
    assert told["words"] == ["a", "red", "cat"]
    assert told["maps"] == 3
    assert -1 <= told["similarity"] <= 1
    assert 0 < told["match"] < 1
    assert told["coloured"] > 0.05
    assert told["models"]


def test_parts_of_ones_own(run, colours):
    told = run("own_parts.py", colours / "model.yaml", colours / "data.yaml")
    assert told == {
        "texts": ["red!", "green!"],
        "ids": ["0", "1"],
        "shape": [2, 3, 4, 4],
        "width": 5,
        "params": 3 * 5 + 5 + 5 * 3 + 3,
        "path": str(colours / "model.yaml"),
        "groups": [2, 2],
        "eval": False,
    }


def test_a_training_script_with_a_task_of_its_own(colours, capsys):
    image = {"name": "colour_image", "image_size": 4}
    text = {"name": "colour_words"}
    recipe = {
        "model": {"arch": "colour_model", "model_type": "base", "num_classes": 4},
        "datasets": {
            "colours": {
                "vis_processor": {"train": image, "eval": image},
                "text_processor": {"train": text, "eval": text},
            }
        },
        "run": {
            "task": "naming",
            "num_beams": 7,
            "lr_sched": "linear_warmup_cosine_lr",
            **{"init_lr": "1e-3", "min_lr": 0, "max_epoch": 2, "weight_decay": 0.05},
            **{"batch_size_train": 2, "batch_size_eval": 2, "num_workers": 0, "device": "cpu"},
            **{"train_splits": ["train"], "valid_splits": ["val"], "test_splits": ["val"]},
            "evaluate": False,
            "output_dir": str(colours / "output"),
        },
    }
    (colours / "run.yaml").write_text(yaml.safe_dump(recipe))
    files = [str(colours / "model.yaml"), str(colours / "data.yaml")]
    options = ["--cfg-path", str(colours / "run.yaml"), "--options", "run.seed=3"]
    as_lavis.main([str(SCRIPTS / "train.py"), *options, *files])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    calls = [tuple(call) if isinstance(call, list) else call for call in told["calls"]]
    steps = [call for call in calls if isinstance(call, tuple) and isinstance(call[0], int)]
    assert steps == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert calls.count(("val", 4)) >= 2
    assert "before" in calls
    assert told["beams"] == 7
    assert told["again"] < 0
    assert told["same"]
    assert told["bias"] == pytest.approx(7.0, abs=0.1)
    (job,) = (colours / "output").iterdir()
    assert (job / "checkpoint_best.pth").is_file()


def test_what_is_not_here_says_so(capsys):
    as_lavis.main([str(SCRIPTS / "absent.py")])
    told = capsys.readouterr().out.splitlines()
    near = "did you mean 'BlipCaption'?; see docs/migration.md"
    later = "BLIP-2 and what came with it are not here yet"
    assert told == [
        f"ModuleNotFoundError: lavis_clone has no lavis.models.Blip2OPT: {later}",
        f"ModuleNotFoundError: lavis_clone has no lavis.models.blip2_models: {later}",
        "ModuleNotFoundError: lavis_clone has no lavis.models.blip_models.blip_captoin; did you "
        "mean 'blip_caption'?; see docs/migration.md",
        "ModuleNotFoundError: lavis_clone has no lavis.nonsense; see docs/migration.md",
        "ModuleNotFoundError: lavis_clone has no lavis.models.base_model.MomentumDistilationMixin: "
        "use lavis_clone.models.heads.momentum",
        f"ModuleNotFoundError: lavis_clone has no lavis.models.BlipCaptoin; {near}",
        f"AttributeError: lavis_clone has no lavis.models.BlipCaptoin; {near}",
        "ModuleNotFoundError: lavis_clone has no lavis.datasets.builders.nlvr_builder: "
        "use registry.get_builder_class(name)",
    ]


@pytest.mark.parametrize("path", MODULES)
def test_every_name_of_the_table_is_there(path):
    place = MODULES[path]
    sys.meta_path.insert(0, Finder("lavis"))
    module = importlib.import_module(f"lavis.{path}" if path else "lavis")
    for name in place.names:
        assert getattr(module, name) is not None
    if place.home is not None:
        importlib.import_module(place.home)
    parent = path.rpartition(".")[0]
    assert parent in MODULES, "a path is reached through its parents"


@pytest.mark.parametrize("path", ABSENT)
def test_advice_names_what_there_is(path):
    assert path not in MODULES
    for told in re.findall(r"lavis_clone[\w.]+", ABSENT[path]):
        module, _, name = told.rpartition(".")
        try:
            importlib.import_module(told)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), name), told


def test_with_our_own_name_the_advice_is_the_same():
    with pytest.raises(
        ModuleNotFoundError, match=r"lavis_clone\.models\.Blip2OPT: BLIP-2 and what"
    ):
        exec("from lavis_clone.models import Blip2OPT")
    with pytest.raises(ImportError, match="cannot import name 'BlipCaptoin'"):
        exec("from lavis_clone.models import BlipCaptoin")


def test_everything_at_once():
    sys.meta_path.insert(0, Finder("lavis"))
    names = {}
    for module in ("models", "tasks", "processors", "datasets.builders", "runners"):
        exec(f"from lavis.{module} import *", names)
    for name in ("BlipCaption", "load_model", "CaptionTask", "load_processor", "load_dataset"):
        assert name in names


def test_a_path_of_ours_that_nobody_knows_is_python_s_own_error():
    with pytest.raises(ModuleNotFoundError, match="No module named 'lavis_clone.nonsense'"):
        importlib.import_module("lavis_clone.nonsense")


def test_the_command(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, neighbour, lavis\nfrom lavis.common.registry import registry\n"
        "print(__name__, sys.argv[1:], neighbour.HERE, 'torch' in sys.modules)\n"
        "sys.exit(3)\n"
    )
    (tmp_path / "neighbour.py").write_text("HERE = 1\n")
    command = [sys.executable, "-m", "lavis_clone.as_lavis", script, "a", "--b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout == "__main__ ['a', '--b'] 1 False\n"


def test_no_script():
    with pytest.raises(SystemExit, match="usage: python -m lavis_clone.as_lavis"):
        as_lavis.main([])
    with pytest.raises(SystemExit, match=r"none\.py: no such script"):
        as_lavis.main(["none.py"])


@pytest.mark.parametrize("blur", [True, False])
def test_attention_is_drawn_where_it_is(blur):
    image, weights = np.full((40, 60, 3), 0.25), np.zeros((4, 6))
    weights[3, 5] = 2.0
    drawn = getAttMap(image, weights, blur=blur)
    assert drawn.shape == image.shape
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert drawn[36:, 56:, 0].mean() > 0.4 > drawn[36:, 56:, 2].mean()
    np.testing.assert_allclose(drawn[:20, :30], image[:20, :30], atol=0.05)
    alone = getAttMap(image, weights, blur=blur, overlap=False)
    assert alone[0, 0].tolist() == pytest.approx([0, 0, 0.5], abs=0.1)
    same = getAttMap(image, np.ones((4, 6)), blur=blur)
    np.testing.assert_array_equal(same, image)


def test_lavis_s_helpers(tmp_path):
    from lavis_clone.common.utils import is_convertible_to_int, load_json, makedir, now

    assert len(now()) == 14
    assert is_convertible_to_int("3")
    assert not is_convertible_to_int("x")
    assert makedir(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert not makedir(tmp_path / "file" / "b")
    (tmp_path / "a.json").write_text("[1]")
    assert load_json(tmp_path / "a.json") == [1]


def test_paths_and_values_of_the_registry():
    from lavis_clone.migration.registry import LavisRegistry

    own = LavisRegistry()
    own.register_path("result_dir", "/x")
    assert own.get_path("result_dir") == "/x"
    assert Path(own.get_path("library_root"), "as_lavis.py").is_file()
    with pytest.raises(KeyError):
        own.get_path("nowhere")
    own.register("a.b", 3)
    assert (own.get("a.b"), own.get("a.c", 4), own.unregister("a.b"), own.get("a.b")) == (
        3,
        4,
        3,
        None,
    )


def test_results_are_kept_once(tmp_path):
    from lavis_clone.migration.tasks import BaseTask

    rows = [{"id": 1, "x": "a"}, {"id": 2, "x": "b"}, {"id": 1, "x": "c"}]
    path = BaseTask.save_result(rows, tmp_path / "result", "val", remove_duplicate="id")
    assert json.loads(Path(path).read_text()) == rows[:2]
    assert BaseTask.save_result(rows, tmp_path, "all") == str(tmp_path / "all.json")
    assert len(json.loads((tmp_path / "all.json").read_text())) == 3
