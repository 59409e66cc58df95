"""ALBEF for NLVR2: is a sentence true of two images?

Li et al., https://arxiv.org/abs/2107.07651, section 5: every layer that looks at images is
doubled, and each of the two looks at one image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.albef.config import AlbefConfig
from lavis_clone.models.encoders.bert import BertConfig, BertModel
from lavis_clone.models.encoders.bert_twin import AlternatingBertModel
from lavis_clone.models.foreign import with_doubled_layers, without_bert_prefix
from lavis_clone.models.heads.classification import ClassifierFields, ClassifierModel
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlbefNLVRConfig(ClassifierFields, AlbefConfig):
    """Fields of a judge of two images.

    ``num_hidden_layers`` counts every layer where ``med`` gives it; in the file of
    ``med_config_path``, those that look at images count once, as in ALBEF's other models.
    """

    num_classes: int = 2
    copied_tower_teaches: bool = False
    """Let the momentum copy of the text tower teach, as in the paper; v1.0.2 lets the tower
    itself look at what the copy of the vision tower sees."""

    def text(self, **defaults: Any) -> BertConfig:
        """The text tower, with the layers that look at images doubled."""
        if "num_hidden_layers" not in self.med:
            single = super().text(**defaults)
            return replace(
                single, num_hidden_layers=2 * single.num_hidden_layers - single.fusion_layer
            )
        layers = super().text(**defaults).num_hidden_layers
        lower = layers // 3  # as many as look at each of the two images
        return super().text(**{"fusion_layer": lower + (layers - lower) % 2, **defaults})


@registry.register_model("albef_nlvr")
class AlbefNLVR(ClassifierModel):
    """Says whether a sentence is true of two images, ``image0`` and ``image1``."""

    Config = AlbefNLVRConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["albef_nlvr"]
    IMAGES = ("image0", "image1")
    RAMP_EPOCHS = 2
    PRETRAINED_MAY_BE_IGNORED = (
        *ClassifierModel.PRETRAINED_MAY_BE_IGNORED,
        r"^text_encoder(_m)?\.cls\.",
        r"^ta_head\.",  # of text assignment, which prepares a model for two images
    )
    config: AlbefNLVRConfig

    @classmethod
    def build(cls, config: AlbefNLVRConfig) -> AlbefNLVR:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, AlternatingBertModel(text), tokenizer=tokenizer, config=config)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        if pretrained:
            text = self.text_encoder.config
            state = without_bert_prefix(state)
            state = with_doubled_layers(state, first=text.fusion_layer, num=text.num_hidden_layers)
        return super().convert(state, pretrained=pretrained)

    def _teacher(self) -> BertModel:
        return super()._teacher() if self.config.copied_tower_teaches else self.text_encoder
