"""ALPRO for questions about videos; the frequent answers are classes.

Li et al., https://arxiv.org/abs/2112.09583. Shapes: B samples, C classes, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.alpro.config import AlproConfig
from lavis_clone.models.alpro.model import AlproModel
from lavis_clone.models.encoders.bert_joint import JointBertModel
from lavis_clone.models.heads.classification import ClassFields, Classifier, Reading
from lavis_clone.models.heads.features import FeatureExtraction
from lavis_clone.models.outputs import EncoderOutput, IntermediateOutput
from lavis_clone.models.tokenizers import TokenBatch
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlproQAConfig(ClassFields, AlproConfig):
    """Fields of ALPRO for questions."""

    hidden_size: int | None = None
    """Width of what is classified; None for the text tower's, and nothing else will do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        width = self.text().hidden_size
        if self.hidden_size not in (None, width):
            raise ValueError(f"hidden_size ({self.hidden_size}) must be med.hidden_size ({width})")


@registry.register_model("alpro_qa")
class AlproQA(AlproModel, FeatureExtraction, Classifier):
    """Chooses answers to questions about videos.

    Samples hold ``video`` ``(B, 3, T, H, W)``, ``text_input`` B questions and ``answers`` ``(B,)``
    numbers of classes. The number C stands for an answer that is none of them: it is never right,
    and nothing is learned from it.
    """

    Config = AlproQAConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["alpro_qa"]
    PRETRAINED_MAY_STAY = (r"^classifier\.",)
    WITH_PARTS = True
    IMAGES = ("video",)
    LABEL = "answers"
    HEAD = "classifier"
    HEAD_WIDTHS = 2
    config: AlproQAConfig

    @classmethod
    def build(cls, config: AlproQAConfig) -> AlproQA:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, JointBertModel(text), tokenizer=tokenizer, config=config)

    @property
    def last_label(self) -> int:
        return self.config.num_classes

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the answers that are classes."""
        unknown = self.config.num_classes
        total = F.cross_entropy(logits, labels, ignore_index=unknown, reduction="sum")
        return total / (labels != unknown).sum().clamp(min=1)

    def _text(self, texts: Sequence[str]) -> TokenBatch:
        """In training no longer than needed; else as long as v1.0.2 has it, for all to see."""
        return self.tokenize(texts, padded=not self.training)

    def _inner(self, reading: Reading) -> IntermediateOutput:
        return IntermediateOutput(
            video_embeds=reading.tokens,
            text_embeds=reading.text_states,
            encoder_output=EncoderOutput(reading.states),
        )
