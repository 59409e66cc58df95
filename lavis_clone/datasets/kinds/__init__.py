"""Kinds of samples. A benchmark is a YAML file that names one of these and says where files are.

To add a kind: write its module, then add a line here.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from lavis_clone.common.names import suggest


class Kind(NamedTuple):
    """Where the classes of a kind are."""

    module: str
    train: str
    """Name of the class for the split ``train``."""
    eval: str
    """Name of the class for all other splits."""


KINDS: dict[str, Kind] = {
    "aok_vqa": Kind("lavis_clone.datasets.kinds.vqa", "AokVqaDataset", "AokVqaEvalDataset"),
    "avsd": Kind("lavis_clone.datasets.kinds.dialogue", "DialogueDataset", "AvsdEvalDataset"),
    "caption": Kind("lavis_clone.datasets.kinds.caption", "CaptionDataset", "CaptionEvalDataset"),
    "classification": Kind(
        "lavis_clone.datasets.kinds.classification",
        "ClassificationDataset",
        "ClassificationDataset",
    ),
    "entailment": Kind(
        "lavis_clone.datasets.kinds.classification", "EntailmentDataset", "EntailmentDataset"
    ),
    "gqa": Kind("lavis_clone.datasets.kinds.vqa", "GqaDataset", "GqaEvalDataset"),
    "image_folder": Kind(
        "lavis_clone.datasets.kinds.image_folder", "ImageFolderDataset", "ImageFolderDataset"
    ),
    "imagenet": Kind(
        "lavis_clone.datasets.kinds.image_folder", "ImageNetDataset", "ImageNetDataset"
    ),
    "nlvr": Kind("lavis_clone.datasets.kinds.nlvr", "NlvrDataset", "NlvrEvalDataset"),
    "pairs": Kind("lavis_clone.datasets.kinds.pairs", "PairDataset", "PairDataset"),
    "retrieval": Kind(
        "lavis_clone.datasets.kinds.retrieval", "RetrievalDataset", "RetrievalEvalDataset"
    ),
    "vg_vqa": Kind("lavis_clone.datasets.kinds.vqa", "VgVqaDataset", "VqaEvalDataset"),
    "video_caption": Kind(
        "lavis_clone.datasets.kinds.video", "VideoCaptionDataset", "VideoCaptionEvalDataset"
    ),
    "video_qa": Kind("lavis_clone.datasets.kinds.video", "VideoQADataset", "VideoQAEvalDataset"),
    "video_retrieval": Kind(
        "lavis_clone.datasets.kinds.video", "VideoRetrievalDataset", "VideoRetrievalEvalDataset"
    ),
    "visdial": Kind("lavis_clone.datasets.kinds.dialogue", "VisDialDataset", "VisDialEvalDataset"),
    "vqa": Kind("lavis_clone.datasets.kinds.vqa", "VqaDataset", "VqaEvalDataset"),
    "winoground": Kind(
        "lavis_clone.datasets.kinds.winoground", "WinogroundDataset", "WinogroundDataset"
    ),
}


def dataset_classes(kind: str) -> tuple[Any, Any]:
    """The classes of ``kind`` for training and for evaluation.

    Raises:
        ValueError: no kind has that name.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}{suggest(kind, KINDS)} (known: {', '.join(KINDS)})")
    module = importlib.import_module(KINDS[kind].module)
    return getattr(module, KINDS[kind].train), getattr(module, KINDS[kind].eval)
