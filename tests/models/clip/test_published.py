"""Names that open_clip knows become models, weights and processors."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from safetensors.torch import save_file

from lavis_clone.common import files
from lavis_clone.common.config import load_config, model_defaults
from lavis_clone.common.reading import ConfigError, read
from lavis_clone.common.registry import registry
from lavis_clone.models import load_model_and_preprocess, load_preprocess
from lavis_clone.models.clip import published
from lavis_clone.models.clip.config import ClipConfig
from lavis_clone.models.clip.model import ClipModel
from lavis_clone.models.weights import WeightError
from lavis_clone.models.zoo import MODEL_TYPES
from tests.models.clip.toys import CLASSIC, CUSTOM, TEXTS, build, images, reference


def config(**block: Any) -> ClipConfig:
    return read(ClipConfig, {"arch": "clip"} | block, where="model")


def test_one_class_has_both_names() -> None:
    assert registry.get_model_class("clip") is ClipModel
    assert registry.get_model_class("clip_feature_extractor") is ClipModel
    block = build(CLASSIC, arch="clip_feature_extractor").to_block()
    assert block["arch"] == "clip_feature_extractor"


@pytest.mark.parametrize("model_type", [t for t in MODEL_TYPES["clip"] if t != "tiny_emoji"])
def test_types_are_openais_files(model_type: str) -> None:
    block, _ = model_defaults("clip", model_type)
    name = block["model_type"]
    assert block["pretrained"] == open_clip.get_pretrained_url(name, "openai")
    made = config(**block)
    expected = open_clip.get_model_config(name)
    assert made.architecture() == expected | {"quick_gelu": True, "custom_text": False}
    assert made.picture_size() == block["image_size"] == expected["vision_cfg"]["image_size"]


def test_every_architecture_is_understood() -> None:
    names = open_clip.list_models()
    assert len(names) > 100
    for name in names:
        made = config(model_type=name)
        block = made.to_block()
        assert yaml.safe_load(yaml.safe_dump(block)) == block
        assert read(ClipConfig, block).architecture() == made.architecture(), name


def test_every_tag_names_weights_and_processors() -> None:
    tagged = open_clip.list_pretrained(as_str=True)
    assert len(tagged) > 150
    for name in tagged:
        found = published.find(name)
        assert found is not None and found.weights, name
        images_, _ = load_preprocess(published.preprocess(found))
        assert images_["eval"].image_size > 0
        assert config(model_type=name).pretrained == name.partition(":")[2]


def test_laviss_own_block_means_openais_model() -> None:
    made = config(model_type="ViT-B-32", pretrained="openai")
    assert made.architecture()["quick_gelu"] is True
    assert config(model_type="base", pretrained="openai").architecture() == made.architecture()
    assert config(model_type="ViT-B/32").architecture()["quick_gelu"] is False
    other = config(model_type="ViT-B-32", pretrained="laion2b_s34b_b79k")
    assert other.architecture()["quick_gelu"] is False


def test_siglip_brings_its_own_processing() -> None:
    document = ClipModel.other_type("ViT-B-16-SigLIP")
    assert document is not None
    assert document["model"] == {"arch": "clip", "model_type": "ViT-B-16-SigLIP:webli"}
    eval_block = document["preprocess"]["vis_processor"]["eval"]
    assert (eval_block["name"], eval_block["image_size"]) == ("blip_image_eval", 224)
    assert eval_block["mean"] == eval_block["std"] == [0.5, 0.5, 0.5]
    made = config(**document["model"])
    assert (made.pretrained, made.architecture()["init_logit_bias"]) == ("webli", -10)
    assert ClipModel.other_type("ViT-B-33") is None


def test_a_run_may_name_any_of_them(tmp_path: Path) -> None:
    recipe = yaml.safe_load(Path("projects/clip/eval/exp_imnet_zs_eval.yaml").read_text())
    recipe["model"]["model_type"] = "ViT-B-16-SigLIP:webli"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    found = load_config(tmp_path / "run.yaml")
    assert found.model == {"arch": "clip", "model_type": "ViT-B-16-SigLIP:webli"}
    assert found.preprocess["vis_processor"]["eval"]["name"] == "blip_image_eval"
    recipe["model"]["model_type"] = "ViT-B-33"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ConfigError, match="has no model_type 'ViT-B-33'; did you mean 'ViT-B-32'"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "model: model_type or embed_dim, vision_cfg and text_cfg: required"),
        ({"model_type": "ViT-B-33"}, "no name that open_clip knows; did you mean 'ViT-B-3"),
        ({"model_type": "ViT-B-32:opnai"}, "did you mean 'ViT-B-32:openai'"),
        (CLASSIC | {"text_cfg": {"widht": 3}}, "text_cfg.widht: unknown key; did you mean 'width'"),
        (CLASSIC | {"chunk_size": 0}, r"chunk_size \(0\) must be at least 1"),
        (CLASSIC | {"max_logit_scale": 0}, r"max_logit_scale \(0.0\) must be more than 0"),
        (CLASSIC | {"templates": ["a photo"]}, "templates: must hold {} where the class goes"),
    ],
)
def test_blocks_that_mean_nothing_are_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**block)


# --- weights ------------------------------------------------------------------------------------


def openai_archive(path: Path) -> ClipModel:
    """A model as OpenAI publishes one: traced, its matrices in half precision."""
    model = build(CLASSIC)
    twin = reference(CLASSIC, model)
    open_clip.convert_weights_to_fp16(twin)
    model.load_state_dict(twin.state_dict())  # as half precision has rounded it
    del twin.context_length, twin.vocab_size  # plain numbers, there
    for name, value in (("input_resolution", 32), ("context_length", 20), ("vocab_size", 49408)):
        twin.register_buffer(name, torch.tensor(value))
    twin.forward = lambda x: x * twin.logit_scale  # what it does has no part in this
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out; old files stay
        torch.jit.trace(twin, torch.ones(1)).save(str(path))
    return model


def test_an_openai_archive_loads_exactly(tmp_path: Path) -> None:
    expected = openai_archive(tmp_path / "a.pt")
    model = build(CLASSIC, seed=1)
    report = model.load_checkpoint(tmp_path / "a.pt")
    assert not report.left_at_init
    for name, value in expected.state_dict().items():
        assert model.state_dict()[name].equal(value), name
    assert model.get_parameter("visual.proj").dtype == torch.float32
    with pytest.raises(WeightError, match="of another shape"):
        build(CLASSIC, embed_dim=16).load_checkpoint(tmp_path / "a.pt")


def test_openais_files_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path))
    good = hashlib.sha256(b"weights").hexdigest()
    for digest, is_good in ((good, True), ("0" * 64, False)):
        url = f"{published.OPENAI}azureedge.net/clip/models/{digest}/RN50.pt"
        path = files.cached_path(url)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
        if is_good:
            assert published.weights_file(url, None) == str(path)
        else:
            with pytest.raises(files.FileError, match="sha256"):
                published.weights_file(url, None)


def test_a_tag_leads_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path))
    url = open_clip.get_pretrained_url("RN50", "yfcc15m")
    path = files.cached_path(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert published.weights_file("yfcc15m", "RN50") == str(path)
    assert published.weights_file("yfcc15m", "RN50:yfcc15m") == str(path)
    assert published.weights_file("some/file.pth", "RN50") == "some/file.pth"
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    with pytest.raises(files.FileError, match="cc12m"):
        published.weights_file("cc12m", "RN50")


def local_dir(folder: Path, *, normalised: bool) -> ClipModel:
    """A model in the format that open_clip pushes to the hub."""
    model = build(CLASSIC)
    pictures = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    document = {"model_cfg": CLASSIC, "preprocess_cfg": pictures if normalised else {}}
    (folder / published.CONFIG_NAME).write_text(json.dumps(document))
    save_file(dict(model.state_dict()), folder / published.WEIGHT_NAMES[0])
    return model


def test_a_folder_of_open_clip_is_a_model_type(tmp_path: Path) -> None:
    expected = local_dir(tmp_path, normalised=True)
    name = f"local-dir:{tmp_path}"
    loaded, processors, _ = load_model_and_preprocess("clip", name, is_eval=True)
    model: Any = loaded
    pictures = images(2)
    assert model.encode_image(pictures).equal(expected.encode_image(pictures))
    assert processors["eval"].image_size == 32
    assert processors["eval"].mean == (0.5, 0.5, 0.5)
    twin = open_clip.create_model(name)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(pictures), twin.encode_image(pictures))


def test_a_folder_without_its_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match=published.CONFIG_NAME):
        load_model_and_preprocess("clip", f"local-dir:{tmp_path}")
    (tmp_path / published.CONFIG_NAME).write_text("{}")
    with pytest.raises(ConfigError, match="is not a config of open_clip"):
        load_model_and_preprocess("clip", f"local-dir:{tmp_path}")


def test_a_classic_checkpoint_goes_into_a_text_tower_of_its_own(tmp_path: Path) -> None:
    classic, custom = build(CLASSIC, quick_gelu=False), build(CUSTOM, seed=1)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in classic.state_dict().items()}},
        tmp_path / "a.pt",
    )
    custom.load_checkpoint(tmp_path / "a.pt")
    with torch.no_grad():
        torch.testing.assert_close(custom.encode_text(TEXTS), classic.encode_text(TEXTS))


def test_the_shipped_one_knows_its_drawings() -> None:
    model, images_of, texts_of = load_model_and_preprocess("clip", "tiny_emoji", is_eval=True)
    drawn = {"red apple": "1f34e", "rocket": "1f680", "dog": "1f415"}
    places = [f"asset://emoji/images/twemoji/{code}.webp" for code in drawn.values()]
    pictures = torch.stack([images_of["eval"](files.resolve(place)) for place in places])
    names = [texts_of["eval"](name) for name in drawn]
    with torch.inference_mode():
        found = model.extract_features({"image": pictures, "text_input": names})
    cosines = found.image_embeds_proj @ found.text_embeds_proj.t()
    assert cosines.argmax(dim=1).tolist() == [0, 1, 2]
