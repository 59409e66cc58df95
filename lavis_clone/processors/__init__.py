"""Processors: what turns a picture or a text into what a model takes.

Listing them, or importing this package, imports no torch; asking for one imports its module.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from lavis_clone.common.registry import registry

_IMAGE = "lavis_clone.processors.image"
_TEXT = "lavis_clone.processors.text"
_DIALOGUE = "lavis_clone.processors.dialogue"
_VIDEO = "lavis_clone.processors.video"

registry.processors.declare(
    {
        "base_processor": "lavis_clone.processors.base",
        "blip_image_train": _IMAGE,
        "blip_image_eval": _IMAGE,
        "blip2_image_train": _IMAGE,
        "clip_image_train": _IMAGE,
        "clip_image_eval": _IMAGE,
        "blip_caption": _TEXT,
        "blip_question": _TEXT,
        "gpt_dialogue": _DIALOGUE,
        "gpt_video_ft": _DIALOGUE,
        "alpro_video_train": _VIDEO,
        "alpro_video_eval": _VIDEO,
    }
)

_PUBLIC = {
    "AlproVideoEvalProcessor": _VIDEO,
    "AlproVideoTrainProcessor": _VIDEO,
    "BaseProcessor": "lavis_clone.processors.base",
    "Blip2ImageTrainProcessor": _IMAGE,
    "BlipCaptionProcessor": _TEXT,
    "BlipImageBaseProcessor": _IMAGE,
    "BlipImageEvalProcessor": _IMAGE,
    "BlipImageTrainProcessor": _IMAGE,
    "BlipQuestionProcessor": _TEXT,
    "ClipImageEvalProcessor": _IMAGE,
    "ClipImageTrainProcessor": _IMAGE,
    "GPTDialogueProcessor": _DIALOGUE,
    "GPTVideoFeatureProcessor": _DIALOGUE,
    "ImageError": "lavis_clone.processors.pictures",
    "VideoError": "lavis_clone.processors.frames",
    "load_image": "lavis_clone.processors.pictures",
    "load_video": _VIDEO,
}

__all__ = ["load_processor", *sorted(_PUBLIC)]


def load_processor(name: str, cfg: Mapping[str, Any] | None = None) -> Any:
    """Build the processor ``name`` from its config block, e.g. ``{"image_size": 384}``.

    Raises:
        UnknownName: no processor has that name.
        ConfigError: with a line for each key or value that does not fit.
    """
    return registry.get_processor_class(name).from_config(cfg)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
