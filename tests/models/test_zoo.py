"""Models by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lavis_clone.models
from lavis_clone.common.registry import UnknownName, registry
from lavis_clone.models import load_model, load_model_and_preprocess, load_preprocess, model_zoo
from lavis_clone.models.blip.caption import BlipCaption
from lavis_clone.models.weights import WeightError
from tests.models import tiny
from tests.models.test_base import PREPROCESS, assert_equal_weights


@pytest.fixture(scope="module")
def folder(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    model = tiny.caption_model(vocabulary)
    return str(model.save_pretrained(tmp_path_factory.mktemp("saved"), preprocess=PREPROCESS))


def test_a_model_is_loaded_from_a_folder(folder: str, vocabulary: Path) -> None:
    model = load_model("blip_caption", folder, is_eval=True)
    assert isinstance(model, BlipCaption)
    assert not model.training
    assert_equal_weights(model, tiny.caption_model(vocabulary))
    assert load_model("blip_caption", folder).training
    assert load_model("blip_caption", folder, device="meta").device.type == "meta"


def test_a_checkpoint_takes_the_place_of_the_type_s_weights(folder: str, tmp_path: Path) -> None:
    own = load_model("blip_caption", folder)
    with torch.no_grad():
        own.get_parameter("visual_encoder.cls_token").fill_(7.0)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": own.state_dict()}, path)
    assert_equal_weights(load_model("blip_caption", folder, checkpoint=str(path)), own)


def test_a_checkpoint_that_does_not_fit_is_refused(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(WeightError, match="1 left over: a"):
        load_model("blip_caption", folder, checkpoint=str(path))


def test_processors_come_with_the_model(folder: str) -> None:
    model, images, texts = load_model_and_preprocess("blip_caption", folder, is_eval=True)
    assert isinstance(model, BlipCaption)
    assert texts["train"]("A dog, and a CAT!") == "a picture of a dog, and a cat"
    assert texts["eval"]("kept As It is") == "kept As It is"  # the block names none
    assert set(images) == set(texts) == {"train", "eval"}
    assert images["eval"].image_size == 16


def test_without_a_block_processors_pass_everything_through() -> None:
    images, texts = load_preprocess(None)
    for processor in (*images.values(), *texts.values()):
        assert processor("as it is") == "as it is"


@pytest.mark.parametrize(
    ("name", "model_type", "message"),
    [
        ("blip_captoin", None, "unknown model 'blip_captoin'; did you mean 'blip_caption'"),
        ("blip_caption", "bas_coco", "unknown model type 'bas_coco' of blip_caption; did you mean"),
        ("blip_caption", "x", r"unknown model type 'x' of blip_caption \(known: base_coco, "),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    name: str, model_type: str | None, message: str
) -> None:
    with pytest.raises(LookupError, match=message):
        load_model(name, model_type)


def test_an_unknown_model_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName):
        load_model("no_such_model")


def test_a_model_without_types_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlipCaption, "PRETRAINED_MODEL_CONFIG_DICT", {})
    with pytest.raises(LookupError, match="blip_caption has no model types; build it with from_"):
        load_model("blip_caption")


def test_the_zoo_lists_every_model_with_its_types() -> None:
    zoo = dict(model_zoo)
    assert set(zoo) == set(registry.list_models())
    assert zoo["blip_caption"][:2] == ["base_coco", "large_coco"]
    assert len(model_zoo) == sum(map(len, zoo.values()))
    lines = str(model_zoo).splitlines()
    assert lines[0].split() == ["Architecture", "Types"]
    assert any(line.startswith("blip_caption ") and "base_coco, large" in line for line in lines)


def test_classes_are_found_under_their_names() -> None:
    for name in lavis_clone.models.__all__:
        assert getattr(lavis_clone.models, name) is not None
    assert lavis_clone.models.BlipCaption is BlipCaption
    with pytest.raises(AttributeError, match="has no attribute 'BlipCaptoin'"):
        _ = lavis_clone.models.BlipCaptoin
