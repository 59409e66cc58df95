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
    "BaseModel",
    "BlipCaption",
    "load_model",
    "load_model_and_preprocess",
    "load_preprocess",
    "model_zoo",
]

_CLASSES = {
    "BaseModel": "lavis_clone.models.base",
    "BlipCaption": "lavis_clone.models.blip.caption",
}

registry.models.declare(MODEL_MODULES)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
