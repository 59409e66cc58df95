"""BLIP for NLVR2: is a sentence true of two images?

Li et al., https://arxiv.org/abs/2201.12086, section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import BlipConfig
from lavis_clone.models.encoders.bert_twin import TwinBertModel
from lavis_clone.models.foreign import with_twin_attention
from lavis_clone.models.heads.classification import ClassifierFields, ClassifierModel
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipNLVRConfig(ClassifierFields, BlipConfig):
    """Fields of a judge of two images."""

    num_classes: int = 2
    use_distill: bool = False
    """Whether momentum copies are kept and teach; BLIP's own training does without."""
    max_txt_len: int = 0
    """0 for as many tokens as the text tower has positions: v1.0.2 cuts nothing."""
    merge_from: int = 6
    """First text layer that puts together by a learned map what it saw in the two images; those
    below take the mean."""

    def __post_init__(self) -> None:
        if not self.max_txt_len:
            object.__setattr__(self, "max_txt_len", self.text().max_position_embeddings)
        super().__post_init__()
        if self.merge_from < 0:
            raise ValueError(f"merge_from ({self.merge_from}) must be at least 0")


@registry.register_model("blip_nlvr")
class BlipNLVR(ClassifierModel):
    """Says whether a sentence is true of two images, ``image0`` and ``image1``."""

    Config = BlipNLVRConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_nlvr"]
    IMAGES = ("image0", "image1")
    RAMP_EPOCHS = 2
    PRETRAINED_MAY_STAY = (
        *ClassifierModel.PRETRAINED_MAY_STAY,
        r"\.crossattention\.output\.merge_layer\.",
    )
    config: BlipNLVRConfig

    @classmethod
    def build(cls, config: BlipNLVRConfig) -> BlipNLVR:
        encoder, text, tokenizer = cls.towers(config)
        bert = TwinBertModel(text, merge_from=config.merge_from)
        return cls(encoder, bert, tokenizer=tokenizer, config=config)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        state = with_twin_attention(state) if pretrained else state
        return super().convert(state, pretrained=pretrained)
