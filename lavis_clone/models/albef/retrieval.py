"""ALBEF for image-text retrieval: a common space, and a head that judges pairs.

Li et al., https://arxiv.org/abs/2107.07651.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.albef.config import AlbefConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.foreign import without_bert_prefix
from lavis_clone.models.heads.contrastive import QueueFields
from lavis_clone.models.heads.matching import PairTraining
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlbefRetrievalConfig(QueueFields, AlbefConfig):
    """Fields of ALBEF for retrieval."""

    queue_size: int = 65536
    max_txt_len: int = 30


@registry.register_model("albef_retrieval")
class AlbefRetrieval(PairTraining):
    """Finds images by text and texts by image."""

    Config = AlbefRetrievalConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["albef_retrieval"]
    WITH_IDS = True
    PRETRAINED_MAY_BE_IGNORED = (r"^text_encoder(_m)?\.cls\.",)
    config: AlbefRetrievalConfig

    @classmethod
    def build(cls, config: AlbefRetrievalConfig) -> AlbefRetrieval:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, BertModel(text), tokenizer=tokenizer, config=config)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        state = without_bert_prefix(state) if pretrained else state
        return super().convert(state, pretrained=pretrained)
