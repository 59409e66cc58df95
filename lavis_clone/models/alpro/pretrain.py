"""ALPRO's pre-training: contrast, matching and masked language modelling.

Li et al., https://arxiv.org/abs/2112.09583; without the prompts for entities of section 3.3. LAVIS
has no such model. Shapes: B samples, M masked tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.alpro.retrieval import AlproPairs, AlproRetrievalConfig
from lavis_clone.models.encoders.bert_joint import JointBertModel
from lavis_clone.models.heads.contrastive import Comparison
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.heads.masking import MaskingFields, hide_tokens
from lavis_clone.models.heads.matching import Matching
from lavis_clone.models.outputs import ModelOutput
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlproPretrainConfig(MaskingFields, AlproRetrievalConfig):
    """Fields of ALPRO for pre-training."""

    max_txt_len: int = 30


@registry.register_model("alpro_pretrain")
class AlproPretrain(AlproPairs):
    """Learns from video-text pairs what the other ALPRO models start from."""

    Config = AlproPretrainConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["alpro_pretrain"]
    config: AlproPretrainConfig
    text_encoder: LanguageModel

    @classmethod
    def build(cls, config: AlproPretrainConfig) -> AlproPretrain:
        encoder, text, tokenizer = cls.towers(config)
        model = LanguageModel(text, JointBertModel(text))
        return cls(encoder, model, tokenizer=tokenizer, config=config)

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:  # noqa: ARG002  # every model is told how far training is
        """Take the contrastive, the matching and the masked-language-modelling loss.

        Args:
            samples: ``video`` ``(B, 3, T, H, W)``, ``text_input`` B texts.

        Raises:
            ValueError: not as many texts as videos.
        """
        step = self.contrast(samples)
        matching = self.match(step)
        output = self.pair_output(step, matching)
        output.loss_mlm = self._guess(step, matching)
        output.loss = output.loss + output.loss_mlm
        return output

    def _guess(self, step: Comparison, matching: Matching) -> Tensor:
        """The loss of guessing masked tokens of texts that are read with their videos."""
        masked, chosen = hide_tokens(step.text, self.tokenizer, share=self.config.mlm_mask_prob)
        states = self.fuse(self.bert, masked, matching.context)[:, : chosen.shape[1]]
        logits = self.text_encoder.cls.predictions(states[chosen]).float()  # (M, V)
        total = F.cross_entropy(logits, step.text.input_ids[chosen], reduction="sum")
        return total / max(1, len(logits))
