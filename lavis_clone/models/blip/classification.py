"""BLIP as a classifier of images with a text.

Li et al., https://arxiv.org/abs/2201.12086.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import BlipConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.classification import ClassifierFields, ClassifierModel
from lavis_clone.models.tokenizers import Tokenizer
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipClassificationConfig(ClassifierFields, BlipConfig):
    """Fields of a classifier."""


@registry.register_model("blip_classification")
class BlipClassification(ClassifierModel):
    """Sorts images with a text into classes, e.g. whether the one entails the other."""

    Config = BlipClassificationConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_classification"]
    config: BlipClassificationConfig

    def __init__(
        self, *towers: Any, tokenizer: Tokenizer, config: BlipClassificationConfig
    ) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        self.encode_id = None  # in v1.0.2 [CLS] itself looks at the image here, and not [ENC]

    @classmethod
    def build(cls, config: BlipClassificationConfig) -> BlipClassification:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, BertModel(text), tokenizer=tokenizer, config=config)
