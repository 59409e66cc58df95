"""ALBEF as a classifier of images with a text, e.g. for SNLI-VE.

Li et al., https://arxiv.org/abs/2107.07651.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.albef.config import AlbefConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.foreign import without_bert_prefix
from lavis_clone.models.heads.classification import ClassifierFields, ClassifierModel
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlbefClassificationConfig(ClassifierFields, AlbefConfig):
    """Fields of a classifier."""


@registry.register_model("albef_classification")
class AlbefClassification(ClassifierModel):
    """Sorts images with a text into classes, e.g. whether the one entails the other."""

    Config = AlbefClassificationConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["albef_classification"]
    PRETRAINED_MAY_BE_IGNORED = (
        *ClassifierModel.PRETRAINED_MAY_BE_IGNORED,
        r"^text_encoder(_m)?\.cls\.",
    )
    config: AlbefClassificationConfig

    @classmethod
    def build(cls, config: AlbefClassificationConfig) -> AlbefClassification:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, BertModel(text), tokenizer=tokenizer, config=config)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        state = without_bert_prefix(state) if pretrained else state
        return super().convert(state, pretrained=pretrained)
