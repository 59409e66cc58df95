"""Models: names, how to load them, and their classes (imported when first used)."""

from __future__ import annotations

import importlib
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.models.zoo import (
    MODEL_MODULES,
    load_model,
    load_model_and_preprocess,
    load_preprocess,
    model_zoo,
)

__all__ = [
    "AlbefClassification",
    "AlbefFeatureExtractor",
    "AlbefNLVR",
    "AlbefPretrain",
    "AlbefRetrieval",
    "AlbefVQA",
    "AlproPretrain",
    "AlproQA",
    "AlproRetrieval",
    "BaseModel",
    "BlipCaption",
    "BlipClassification",
    "BlipFeatureExtractor",
    "BlipITM",
    "BlipNLVR",
    "BlipPretrain",
    "BlipRetrieval",
    "BlipVQA",
    "CLIP",
    "ClipModel",
    "GPTDialogue",
    "compute_gradcam",
    "load_model",
    "load_model_and_preprocess",
    "load_preprocess",
    "model_zoo",
]

_CLASSES = {
    "AlbefClassification": "lavis_clone.models.albef.classification",
    "AlbefFeatureExtractor": "lavis_clone.models.albef.features",
    "AlbefNLVR": "lavis_clone.models.albef.nlvr",
    "AlbefPretrain": "lavis_clone.models.albef.pretrain",
    "AlbefRetrieval": "lavis_clone.models.albef.retrieval",
    "AlbefVQA": "lavis_clone.models.albef.vqa",
    "AlproPretrain": "lavis_clone.models.alpro.pretrain",
    "AlproQA": "lavis_clone.models.alpro.qa",
    "AlproRetrieval": "lavis_clone.models.alpro.retrieval",
    "BaseModel": "lavis_clone.models.base",
    "BlipCaption": "lavis_clone.models.blip.caption",
    "BlipClassification": "lavis_clone.models.blip.classification",
    "BlipFeatureExtractor": "lavis_clone.models.blip.features",
    "BlipITM": "lavis_clone.models.blip.matching",
    "BlipNLVR": "lavis_clone.models.blip.nlvr",
    "BlipPretrain": "lavis_clone.models.blip.pretrain",
    "BlipRetrieval": "lavis_clone.models.blip.retrieval",
    "BlipVQA": "lavis_clone.models.blip.vqa",
    "CLIP": "lavis_clone.models.clip.model",
    "ClipModel": "lavis_clone.models.clip.model",
    "GPTDialogue": "lavis_clone.models.dialogue.model",
    "compute_gradcam": "lavis_clone.models.heads.gradcam",
}

registry.models.declare(MODEL_MODULES)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
