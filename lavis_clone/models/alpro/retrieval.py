"""ALPRO for finding videos by text: a common space, and a head that judges pairs.

Li et al., https://arxiv.org/abs/2112.09583.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.alpro.config import AlproConfig
from lavis_clone.models.alpro.model import AlproModel
from lavis_clone.models.encoders.bert_joint import JointBertModel
from lavis_clone.models.heads.batch_contrast import BatchContrast
from lavis_clone.models.heads.contrastive import Comparison, TemperatureFields
from lavis_clone.models.heads.features import FeatureExtraction
from lavis_clone.models.heads.matching import Matching, MatchTraining
from lavis_clone.models.outputs import EncoderOutput, IntermediateOutput, ModelOutput
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlproRetrievalConfig(TemperatureFields, AlproConfig):
    """Fields of ALPRO for retrieval."""

    max_txt_len: int = 35


class AlproPairs(AlproModel, FeatureExtraction, BatchContrast, MatchTraining):
    """Compares and judges videos and texts.

    ``embed_images`` takes videos ``(B, 3, T, H, W)``.
    """

    WITH_PARTS = True
    LEAST_LENGTH = 0
    config: AlproRetrievalConfig

    def pair_output(self, step: Comparison, matching: Matching) -> ModelOutput:
        """The losses and what led to them."""
        return ModelOutput(
            loss=step.loss + matching.loss,
            loss_vtc=step.loss,
            loss_vtm=matching.loss,
            sims=step.sims,
            intermediate_output=IntermediateOutput(
                video_embeds=step.tokens,
                text_embeds=step.states,
                encoder_output=EncoderOutput(matching.pairs),
                encoder_output_neg=EncoderOutput(matching.wrong),
                vtm_logits=matching.logits,
                vtm_labels=matching.labels,
            ),
        )


@registry.register_model("alpro_retrieval")
class AlproRetrieval(AlproPairs):
    """Finds videos by text and texts by video."""

    Config = AlproRetrievalConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["alpro_retrieval"]

    @classmethod
    def build(cls, config: AlproRetrievalConfig) -> AlproRetrieval:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, JointBertModel(text), tokenizer=tokenizer, config=config)

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:  # noqa: ARG002  # every model is told how far training is
        """Take the contrastive and the matching loss.

        Args:
            samples: ``video`` ``(B, 3, T, H, W)``, ``text_input`` B texts.

        Raises:
            ValueError: not as many texts as videos.
        """
        step = self.contrast(samples)
        return self.pair_output(step, self.match(step))
