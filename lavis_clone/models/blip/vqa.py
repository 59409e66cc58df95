"""BLIP for questions about images, answered in words of its own or from a list.

Li et al., https://arxiv.org/abs/2201.12086.
"""

from __future__ import annotations

from dataclasses import dataclass

from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import DECODE, BlipConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.answering import AnswerFields, AnswerModel
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipVQAConfig(AnswerFields, BlipConfig):
    """Fields of BLIP for questions."""

    max_txt_len: int = 35
    mask_question_padding: bool = False
    """Let written answers not depend on what else is in the batch. v1.0.2 also looks at the padding
    behind a question that is shorter than others; ranked answers never do."""


@registry.register_model("blip_vqa")
class BlipVQA(AnswerModel):
    """Answers questions about images."""

    Config = BlipVQAConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_vqa"]
    PRETRAINED_MAY_BE_IGNORED = (
        *AnswerModel.PRETRAINED_MAY_BE_IGNORED,
        r"^(visual_encoder|text_encoder|text_decoder)_m\.",
    )
    START = DECODE
    config: BlipVQAConfig

    @classmethod
    def build(cls, config: BlipVQAConfig) -> BlipVQA:
        encoder, text, tokenizer = cls.towers(config)
        decoder = LanguageModel(config.decoder(text))
        return cls(encoder, BertModel(text), decoder, tokenizer=tokenizer, config=config)
