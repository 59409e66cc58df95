"""From names and YAML files to data sets."""

from __future__ import annotations

import re

import pytest
import torch
import yaml

from lavis_clone.common.config import ConfigError
from lavis_clone.common.files import FileError
from lavis_clone.common.registry import UnknownName, registry
from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.base import BaseDataset
from lavis_clone.datasets.builders import (
    BaseDatasetBuilder,
    dataset_zoo,
    load_dataset,
    load_dataset_config,
)
from lavis_clone.datasets.builders.table import BENCHMARKS
from lavis_clone.datasets.kinds.caption import CaptionDataset, CaptionEvalDataset
from lavis_clone.datasets.loaders import build_loader


def block(**changes):
    return {
        "kind": "caption",
        "data_type": "images",
        "build_info": {
            "annotations": {
                "train": {"storage": "shapes/train.json"},
                "val": {"storage": "shapes/val.json"},
            },
            "images": {"storage": "shapes/images"},
        },
        **changes,
    }


@pytest.fixture
def config(shapes, tmp_path):
    """A YAML file of the shapes, under another name than the builder's."""
    path = tmp_path / "shapes.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"shapes": block()}}))
    return path


def test_the_zoo_lists_names_and_prints_a_table():
    names = dataset_zoo.get_names()
    assert names == sorted(names) and {"coco_caption", "emoji_caption"} <= set(names)
    assert dataset_zoo.dataset_zoo["coco_caption"] == ["default"]
    head, rule, *lines = str(dataset_zoo).splitlines()
    assert len(lines) == len(names) and set(rule) == {"="} and len(rule) >= max(map(len, lines))
    coco = next(line for line in lines if line.startswith("coco_caption "))
    cells = dict(zip(re.split("  +", head), re.split("  +", coco), strict=True))
    assert cells == {
        **{"Data set": "coco_caption", "Kind": "caption", "Types": "default"},
        "Splits": "train 566,747, val 5,000, test 5,000",
        "Licence": "CC BY 4.0 (annotations)",
        "Where its media come from": "COCO 2014, photographs from Flickr under their owners' terms",
    }


def test_every_benchmark_says_whose_it_is():
    for listing in dataset_zoo.listings():
        if listing.name != "own":
            assert listing.licence and listing.media and listing.homepage.startswith("https://")
            assert listing.splits and listing.kind == BENCHMARKS[listing.name].kind


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_builder_and_its_files(name):
    builder_class = registry.get_builder_class(name)
    assert issubclass(builder_class, BaseDatasetBuilder)
    for kind in BENCHMARKS[name].files:
        found = load_dataset_config(builder_class.default_config_path(kind), name=name)
        assert found.kind == BENCHMARKS[name].kind
        info = found.build_info
        assert info.get("annotations") or info.splits  # folders of pictures have no annotations
        assert info[found.data_type].storage


def test_coco_names_the_folder_of_its_pictures(cache):
    with pytest.raises(FileError) as caught:
        load_dataset("coco_caption")
    assert "'coco_caption'" in str(caught.value)
    assert str(cache / "coco" / "images") in str(caught.value)


def test_coco_with_pictures_says_where_the_annotations_belong(cache, shapes):
    with pytest.raises(FileError) as caught:
        load_dataset("coco_caption", vis_path=shapes / "images")
    assert str(cache / "coco/annotations/coco_karpathy_train.json") in str(caught.value)
    assert "datasets/coco_karpathy_train.json" in str(caught.value)


def test_load_dataset_with_a_file(config):
    datasets = load_dataset("coco_caption", cfg_path=config)
    assert list(datasets) == ["train", "val"]
    assert isinstance(datasets["train"], CaptionDataset)
    assert isinstance(datasets["val"], CaptionEvalDataset)
    assert datasets["train"][1]["image"].size == (8, 6)
    assert (datasets["val"].name, datasets["val"].split) == ("coco_caption", "val")


def test_vis_path_is_relative_to_the_working_directory_or_the_cache(config, shapes, monkeypatch):
    (shapes / "images").rename(shapes / "moved")
    with pytest.raises(FileError, match="shapes/images"):
        load_dataset("coco_caption", config)
    monkeypatch.chdir(shapes)
    for place in ("moved", shapes / "moved", "shapes/moved"):
        assert load_dataset("coco_caption", config, place)["train"][0]["image"].size == (8, 6)
    with pytest.raises(ConfigError, match="no 'image'; did you mean 'images'"):
        load_dataset("coco_caption", config, "moved", "image")


def test_unknown_names_and_files():
    with pytest.raises(UnknownName, match="did you mean 'coco_caption'"):
        load_dataset("coco_captions")
    with pytest.raises(ConfigError, match="no such config file: nowhere.yaml"):
        load_dataset("coco_caption", "nowhere.yaml")
    with pytest.raises(ConfigError, match="no type 'defaults'; did you mean 'default'"):
        registry.get_builder_class("coco_caption").default_config_path("defaults")


@pytest.mark.parametrize("content", ["model: {}", "datasets: {}", "datasets: {a: 3}"])
def test_a_file_without_a_data_set(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(ConfigError, match="a.yaml: "):
        load_dataset_config(tmp_path / "a.yaml")


def test_processors_of_the_config(shapes):
    builder = registry.get_builder_class("coco_caption")(
        block(
            vis_processor={
                "train": {"name": "blip_image_train", "image_size": 16},
                "eval": {"name": "blip_image_eval", "image_size": 8},
            },
            text_processor={"train": {"name": "blip_caption", "prompt": "a picture of "}},
        )
    )
    datasets = builder.build_datasets()
    assert datasets["train"][0]["image"].shape == (3, 16, 16)
    assert datasets["train"][0]["text_input"].startswith("a picture of ")
    assert datasets["val"][0]["image"].shape == (3, 8, 8)
    batch = next(iter(build_loader(datasets["train"], batch_size=3, is_train=True)))
    assert batch["image"].shape == (3, 3, 16, 16)
    assert batch["image_id"].dtype == torch.long and len(batch["text_input"]) == 3


INFO = block()["build_info"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "captoin"}, r"datasets.coco_caption.kind: unknown kind .* mean 'caption'"),
        ({"vis_procesor": {}}, "vis_procesor: unknown key; did you mean 'vis_processor'"),
        ({"vis_processor": {"test": {"name": "blip_image_eval"}}}, "vis_processor.test: must be"),
        ({"vis_processor": {"eval": {"image_size": 3}}}, r"vis_processor.eval.name: must be"),
        ({"text_processor": {"eval": {"name": "blip_caption", "words": 3}}}, "words: unknown key"),
        ({"build_info": {"images": INFO["images"]}}, "annotations: names no split"),
        (
            {"build_info": {"annotations": INFO["annotations"]}},
            "build_info.images.storage: required",
        ),
        ({"data_type": ["images", "pc"]}, "data_type: must be one type"),
        (
            {"build_info": {**INFO, "annotations": {"val": {"stroage": "a.json"}}}},
            "annotations.val.stroage: unknown key",
        ),
    ],
)
def test_wrong_blocks_are_named(shapes, changes, message):
    with pytest.raises(ConfigError, match=message):
        registry.get_builder_class("coco_caption")(block(**changes)).build_datasets()


def test_a_split_can_be_taken_out_and_others_added(shapes):
    info = {
        **INFO,
        "annotations": {
            "train": None,
            "unseen": {"storage": ["shapes/train.json", "shapes/val.json"]},
        },
    }
    builder = registry.get_builder_class("coco_caption")(block(build_info=info))
    datasets = builder.build_datasets()
    assert list(datasets) == ["unseen"] and len(datasets["unseen"]) == 15


def test_bad_annotations_are_told(shapes):
    (shapes / "val.json").write_text("[]")
    with pytest.raises(AnnotationError, match="val.json: holds no records"):
        registry.get_builder_class("coco_caption")(block()).build_datasets()


class Named(BaseDataset):
    """Written as LAVIS's own data sets are."""

    def __init__(self, vis_processor, text_processor, vis_root, ann_paths):
        super().__init__(vis_processor, text_processor, vis_root, ann_paths)
        self.names = [ann["image"] for ann in self.annotation]

    def __getitem__(self, index):
        ann = self.annotation[index]
        return {"image": self.load_picture(ann["image"]), "text_input": self.names[index]}


def test_a_builder_of_ones_own(shapes, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"own": {**block(), "colour": "red"}}}))

    class OwnBuilder(BaseDatasetBuilder):
        train_dataset_cls = Named
        eval_dataset_cls = Named
        DATASET_CONFIG_DICT = {"default": str(path)}

    try:
        registry.register_builder("own_for_this_test")(OwnBuilder)
        assert "own_for_this_test" in str(dataset_zoo)
        datasets = load_dataset("own_for_this_test")
    finally:
        registry.builders._items.pop("own_for_this_test", None)
    sample = datasets["train"][2]
    assert type(datasets["val"]) is Named and sample["text_input"] == "shape_002.png"
    assert datasets["train"].name == "own_for_this_test"


def test_a_builder_without_classes_or_kind(shapes):
    without = {k: v for k, v in block().items() if k != "kind"}
    with pytest.raises(ConfigError, match="kind: required, since BaseDatasetBuilder has no train"):
        BaseDatasetBuilder(without).build_datasets()


def test_the_config_can_be_read_by_subclasses(config):
    builder = BaseDatasetBuilder(config)
    assert builder.config.build_info.images.storage == "shapes/images"  # LAVIS's way
    assert builder.data_type == "images"
