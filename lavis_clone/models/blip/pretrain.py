"""BLIP's pre-training: contrast, matching and language modelling.

Li et al., https://arxiv.org/abs/2201.12086. Shapes: B samples, T text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import DECODE, BlipConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.contrastive import QueueFields
from lavis_clone.models.heads.language import IGNORED, LanguageModel
from lavis_clone.models.heads.matching import PairTraining
from lavis_clone.models.outputs import ModelOutput
from lavis_clone.models.tokenizers import Tokenizer
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipPretrainConfig(QueueFields, BlipConfig):
    """Fields of BLIP for pre-training."""

    tie_enc_dec_weights: bool = True
    """The decoder shares all of the encoder's weights but self-attention."""
    max_txt_len: int = 30
    label_smoothing: float = 0.1


@registry.register_model("blip_pretrain")
class BlipPretrain(PairTraining):
    """Learns from image-text pairs what all other BLIP models start from."""

    Config = BlipPretrainConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_pretrain"]
    NEGATIVE_FLOOR = 1e-4
    config: BlipPretrainConfig

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: BertModel,
        text_decoder: LanguageModel,
        *,
        tokenizer: Tokenizer,
        config: BlipPretrainConfig,
    ) -> None:
        super().__init__(image_encoder, text_encoder, tokenizer=tokenizer, config=config)
        self.text_decoder = text_decoder
        self.bos_id = tokenizer.id(DECODE)
        if config.tie_enc_dec_weights:
            share_all_but_self_attention(text_encoder, text_decoder)

    @classmethod
    def build(cls, config: BlipPretrainConfig) -> BlipPretrain:
        encoder, text, tokenizer = cls.towers(config)
        texts = BertModel(text), LanguageModel(text)
        return cls(encoder, *texts, tokenizer=tokenizer, config=config)

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:
        """Take the contrastive, the matching and the language-modelling loss.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` B texts.
        """
        step = self.contrast(samples, progress)
        matching = self.match(step)
        output = self.pair_output(step, matching)
        tied = self.config.tie_enc_dec_weights  # then the decoder sees what the encoder sees
        context = matching.context if tied else self.text_decoder.bert.see(step.tokens)
        input_ids = step.text.input_ids.clone()
        input_ids[:, 0] = self.bos_id
        labels = input_ids.masked_fill(~step.text.mask, IGNORED)
        decoded = self.text_decoder(
            input_ids,
            mask=step.text.mask,
            labels=labels,
            context=context,
            label_smoothing=self.config.label_smoothing,
        )
        assert decoded.loss is not None
        assert output.intermediate_output is not None
        output.loss, output.loss_lm = output.loss + decoded.loss, decoded.loss
        output.intermediate_output.decoder_output = decoded
        output.intermediate_output.decoder_labels = labels
        return output


def share_all_but_self_attention(encoder: BertModel, decoder: LanguageModel) -> None:
    """Let the decoder use the encoder's weights, but for those of self-attention."""
    decoder.bert.embeddings = encoder.embeddings
    decoder.cls.predictions.decoder.weight = encoder.embeddings.word_embeddings.weight
    for own, theirs in zip(decoder.bert.encoder.layers(), encoder.encoder.layers(), strict=True):
        own.crossattention = theirs.crossattention
        own.intermediate = theirs.intermediate
        own.output = theirs.output
