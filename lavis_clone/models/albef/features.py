"""ALBEF as a feature extractor.

Li et al., https://arxiv.org/abs/2107.07651. Shapes: see ``FeatureOutput``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lavis_clone.common.registry import registry
from lavis_clone.models.albef.config import AlbefConfig
from lavis_clone.models.heads.contrastive import ContrastiveFields
from lavis_clone.models.heads.features import FeatureModel
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlbefFeatureConfig(ContrastiveFields, AlbefConfig):
    """Fields of a feature extractor."""

    max_txt_len: int = 30


@registry.register_model("albef_feature_extractor")
class AlbefFeatureExtractor(FeatureModel):
    """Turns images, texts, and texts that look at images into vectors."""

    Config = AlbefFeatureConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["albef_feature_extractor"]
    WITH_PARTS = True
    MAY_BE_IGNORED = (
        r"embeddings\.position_ids$",
        r"^(visual_encoder_m|text_encoder_m)\.",
        r"^((vision_proj|text_proj)_m|itm_head)\.",
        r"^(image_queue|text_queue|queue_ptr)$",
    )

    @classmethod
    def build(cls, config: AlbefFeatureConfig) -> AlbefFeatureExtractor:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, LanguageModel(text), tokenizer=tokenizer, config=config)
