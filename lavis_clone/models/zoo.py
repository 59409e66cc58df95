"""Models by name: what there is, and how to load it. Listing imports no model and no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lavis_clone.common.names import suggest
from lavis_clone.common.registry import registry

if TYPE_CHECKING:
    import torch

    from lavis_clone.models.base import BaseModel

MODEL_MODULES: Mapping[str, str] = {
    "albef_classification": "lavis_clone.models.albef.classification",
    "albef_feature_extractor": "lavis_clone.models.albef.features",
    "albef_nlvr": "lavis_clone.models.albef.nlvr",
    "albef_pretrain": "lavis_clone.models.albef.pretrain",
    "albef_retrieval": "lavis_clone.models.albef.retrieval",
    "albef_vqa": "lavis_clone.models.albef.vqa",
    "alpro_pretrain": "lavis_clone.models.alpro.pretrain",
    "alpro_qa": "lavis_clone.models.alpro.qa",
    "alpro_retrieval": "lavis_clone.models.alpro.retrieval",
    "blip_caption": "lavis_clone.models.blip.caption",
    "blip_classification": "lavis_clone.models.blip.classification",
    "blip_feature_extractor": "lavis_clone.models.blip.features",
    "blip_image_text_matching": "lavis_clone.models.blip.matching",
    "blip_nlvr": "lavis_clone.models.blip.nlvr",
    "blip_pretrain": "lavis_clone.models.blip.pretrain",
    "blip_retrieval": "lavis_clone.models.blip.retrieval",
    "blip_vqa": "lavis_clone.models.blip.vqa",
    "clip": "lavis_clone.models.clip.model",
    "clip_feature_extractor": "lavis_clone.models.clip.model",
    "gpt_dialogue": "lavis_clone.models.dialogue.model",
}
"""Name -> module that registers it. To add a model: write its module, then a line here."""

_CLIP_TYPES = {
    "ViT-B-32": "configs/models/clip_vit_base32.yaml",
    "ViT-B-16": "configs/models/clip_vit_base16.yaml",
    "ViT-L-14": "configs/models/clip_vit_large14.yaml",
    "ViT-L-14-336": "configs/models/clip_vit_large14_336.yaml",
    "RN50": "configs/models/clip_resnet50.yaml",
    "tiny_emoji": "configs/models/clip_tiny_emoji.yaml",
    "base": "configs/models/clip_vit_base32.yaml",
}

MODEL_TYPES: Mapping[str, Mapping[str, str]] = {
    "albef_classification": {
        "ve": "configs/models/albef_classification_ve.yaml",
    },
    "albef_feature_extractor": {
        "base": "configs/models/albef_feature_extractor.yaml",
    },
    "albef_nlvr": {
        "nlvr": "configs/models/albef_nlvr.yaml",
    },
    "albef_pretrain": {
        "base": "configs/models/albef_pretrain_base.yaml",
    },
    "albef_retrieval": {
        "coco": "configs/models/albef_retrieval_coco.yaml",
        "flickr": "configs/models/albef_retrieval_flickr.yaml",
    },
    "albef_vqa": {
        "vqav2": "configs/models/albef_vqav2.yaml",
    },
    "alpro_pretrain": {
        "base": "configs/models/alpro_pretrain_base.yaml",
    },
    "alpro_qa": {
        "msrvtt": "configs/models/alpro_qa_msrvtt.yaml",
        "msvd": "configs/models/alpro_qa_msvd.yaml",
    },
    "alpro_retrieval": {
        "msrvtt": "configs/models/alpro_retrieval_msrvtt.yaml",
        "didemo": "configs/models/alpro_retrieval_didemo.yaml",
    },
    "blip_caption": {
        "base_coco": "configs/models/blip_caption_base_coco.yaml",
        "large_coco": "configs/models/blip_caption_large_coco.yaml",
        "tiny_emoji": "configs/models/blip_caption_tiny_emoji.yaml",
    },
    "blip_classification": {
        "base": "configs/models/blip_classification_base.yaml",
    },
    "blip_feature_extractor": {
        "base": "configs/models/blip_feature_extractor_base.yaml",
        "tiny_emoji": "configs/models/blip_feature_extractor_tiny_emoji.yaml",
    },
    "blip_image_text_matching": {
        "base": "configs/models/blip_itm_base.yaml",
        "large": "configs/models/blip_itm_large.yaml",
        "tiny_emoji": "configs/models/blip_image_text_matching_tiny_emoji.yaml",
    },
    "blip_nlvr": {
        "nlvr": "configs/models/blip_nlvr.yaml",
    },
    "blip_pretrain": {
        "base": "configs/models/blip_pretrain_base.yaml",
    },
    "blip_retrieval": {
        "coco": "configs/models/blip_retrieval_coco.yaml",
        "flickr": "configs/models/blip_retrieval_flickr.yaml",
        "tiny_emoji": "configs/models/blip_retrieval_tiny_emoji.yaml",
    },
    "blip_vqa": {
        "vqav2": "configs/models/blip_vqav2.yaml",
        "okvqa": "configs/models/blip_vqa_okvqa.yaml",
        "aokvqa": "configs/models/blip_vqa_aokvqa.yaml",
        "tiny_emoji": "configs/models/blip_vqa_tiny_emoji.yaml",
    },
    "clip": _CLIP_TYPES,
    "clip_feature_extractor": _CLIP_TYPES,
    "gpt_dialogue": {
        "base": "configs/models/gpt_dialogue_base.yaml",
    },
}
"""Name -> model type -> YAML file."""

Processors = dict[str, Any]
"""A processor per split, ``"train"`` and ``"eval"``."""


class ModelZoo:
    """Every model name with its types; print it to see them as a table."""

    def __init__(self) -> None:
        self.model_zoo = {name: list(types) for name, types in MODEL_TYPES.items()}

    def __iter__(self) -> Any:
        return iter(self.model_zoo.items())

    def __len__(self) -> int:
        return sum(len(types) for types in self.model_zoo.values())

    def __str__(self) -> str:
        width = max(map(len, self.model_zoo)) + 2
        head = f"{'Architecture':<{width}}Types\n{'-' * (width + 30)}\n"
        return head + "\n".join(f"{name:<{width}}{', '.join(types)}" for name, types in self)


model_zoo = ModelZoo()


def load_model(
    name: str,
    model_type: str | None = None,
    is_eval: bool = False,
    device: str | torch.device = "cpu",
    checkpoint: str | None = None,
) -> BaseModel:
    """Build a model of the zoo with its weights.

    Args:
        name: A model, e.g. ``blip_caption``.
        model_type: One of its types, a folder that ``save_pretrained`` wrote, or
            ``hf://org/name``; None for the first type.
        is_eval: Switch dropout off.
        device: Where to put it.
        checkpoint: Weights to load instead of the type's: a path, a URL or ``hf://org/name/file``.

    Raises:
        LookupError: No such name or type; the nearest one is offered.
    """
    return _load(name, model_type, is_eval, device, checkpoint)[0]


def load_model_and_preprocess(
    name: str,
    model_type: str | None = None,
    is_eval: bool = False,
    device: str | torch.device = "cpu",
) -> tuple[BaseModel, Processors, Processors]:
    """Build a model together with its image and text processors.

    Returns:
        The model, and a ``{"train": ..., "eval": ...}`` of processors for images and for texts.
    """
    model, document = _load(name, model_type, is_eval, device, None)
    return model, *load_preprocess(document.get("preprocess"))


def load_preprocess(config: Mapping[str, Any] | None) -> tuple[Processors, Processors]:
    """Build the processors of a ``preprocess:`` block; what it lacks passes its input through.

    Returns:
        Image processors and text processors, each ``{"train": ..., "eval": ...}``.
    """
    config = config or {}
    return _processors(config.get("vis_processor")), _processors(config.get("text_processor"))


def _processors(block: Mapping[str, Any] | None) -> Processors:
    chosen = {}
    for split in ("train", "eval"):
        options = dict((block or {}).get(split) or {"name": "base_processor"})
        processor_class = registry.get_processor_class(options.pop("name"))
        chosen[split] = processor_class.from_config(options)
    return chosen


def _load(
    name: str,
    model_type: str | None,
    is_eval: bool,
    device: str | torch.device,
    checkpoint: str | None,
) -> tuple[BaseModel, dict[str, Any]]:
    from lavis_clone.models.base import read_default_config  # here, so that listing needs no torch

    model_class = registry.get_model_class(name)
    types = model_class.PRETRAINED_MODEL_CONFIG_DICT
    chosen = model_type or next(iter(types), None)
    if chosen is None:
        raise LookupError(f"{name} has no model types; build it with from_config")
    is_place = "/" in chosen or "\\" in chosen
    if chosen not in types and not is_place and model_class.other_type(chosen) is None:
        raise LookupError(
            f"unknown model type {chosen!r} of {name}{suggest(chosen, types)} "
            f"(known: {', '.join(types)})"
        )
    document = read_default_config(model_class, chosen)
    block = dict(document["model"])
    if checkpoint is not None:
        block |= {"load_finetuned": False, "load_pretrained": False}
    model = model_class.from_config(block)
    if checkpoint is not None:
        model.load_checkpoint(checkpoint)
    model.train(not is_eval)
    return model.to(device), document
