"""ALBEF's pre-training: contrast, matching and masked language modelling.

Li et al., https://arxiv.org/abs/2107.07651. Shapes: B samples, M masked tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.albef.config import AlbefConfig
from lavis_clone.models.heads.contrastive import Contrast, QueueFields, soft_cross_entropy
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.heads.masking import MaskingFields, hide_tokens
from lavis_clone.models.heads.matching import PairTraining
from lavis_clone.models.outputs import ModelOutput
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class AlbefPretrainConfig(QueueFields, MaskingFields, AlbefConfig):
    """Fields of ALBEF for pre-training."""

    queue_size: int = 65536
    max_txt_len: int = 30


@registry.register_model("albef_pretrain")
class AlbefPretrain(PairTraining):
    """Learns from image-text pairs what all other ALBEF models start from."""

    Config = AlbefPretrainConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["albef_pretrain"]
    config: AlbefPretrainConfig
    text_encoder: LanguageModel

    @classmethod
    def build(cls, config: AlbefPretrainConfig) -> AlbefPretrain:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, LanguageModel(text), tokenizer=tokenizer, config=config)

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:
        """Take the contrastive, the matching and the masked-language-modelling loss.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` B texts.
        """
        step = self.contrast(samples, progress)
        matching = self.match(step)
        output = self.pair_output(step, matching)
        output.loss_mlm = self._guess(step, matching.context)
        output.loss = output.loss + output.loss_mlm
        return output

    def _guess(self, step: Contrast, context: Any) -> Tensor:
        """The loss of guessing masked tokens; the copy's guesses are part of the targets."""
        share = self.config.mlm_mask_prob
        masked, chosen = hide_tokens(step.text, self.tokenizer, share=share)
        if not chosen.any():
            return step.tokens.new_zeros(())
        targets = step.text.input_ids[chosen]  # (M,)
        head = self.text_encoder.cls.predictions
        logits = head(self.fuse(self.bert, masked, context)[chosen]).float()  # (M, V)
        loss = F.cross_entropy(logits, targets)
        if not step.alpha:
            return loss
        with torch.no_grad():
            teacher: Any = self.get_submodule("text_encoder_m")
            seen = teacher.bert.see(step.tokens_m)
            states = self.fuse(teacher.bert, masked, seen)[chosen]
            soft = teacher.cls.predictions(states).float().softmax(dim=1)
        return (1 - step.alpha) * loss + step.alpha * soft_cross_entropy(logits, soft)
