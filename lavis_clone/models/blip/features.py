"""BLIP as a feature extractor.

Li et al., https://arxiv.org/abs/2201.12086. Shapes: see ``FeatureOutput``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import BlipConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.contrastive import ContrastiveFields
from lavis_clone.models.heads.features import FeatureModel
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipFeatureConfig(ContrastiveFields, BlipConfig):
    """Fields of a feature extractor."""


@registry.register_model("blip_feature_extractor")
class BlipFeatureExtractor(FeatureModel):
    """Turns images, texts, and texts that look at images into vectors."""

    Config = BlipFeatureConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_feature_extractor"]
    MAY_BE_IGNORED = (
        r"embeddings\.position_ids$",
        r"^(visual_encoder_m|text_encoder_m|text_decoder(_m)?)\.",
        r"^((vision_proj|text_proj)_m|itm_head)\.",
        r"^(image_queue|text_queue|idx_queue|queue_ptr|ptr_queue)$",
    )

    @classmethod
    def build(cls, config: BlipFeatureConfig) -> BlipFeatureExtractor:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, BertModel(text), tokenizer=tokenizer, config=config)
