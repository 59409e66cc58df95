"""ALBEF for questions about images, answered from a list.

Li et al., https://arxiv.org/abs/2107.07651. Shapes: A answers, T text tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.albef.config import AlbefConfig
from lavis_clone.models.encoders.bert import BertConfig, BertModel
from lavis_clone.models.foreign import with_answer_decoder
from lavis_clone.models.heads.answering import AnswerFields, AnswerModel, Asked, Given
from lavis_clone.models.heads.language import IGNORED, LanguageModel
from lavis_clone.models.heads.momentum import MomentumCopies, MomentumFields
from lavis_clone.models.outputs import EncoderOutput, LanguageModelOutput, ModelOutput
from lavis_clone.models.tokenizers import Tokenizer
from lavis_clone.models.videos import look
from lavis_clone.models.zoo import MODEL_TYPES

RAMP_EPOCHS = 1
"""How long the momentum copies' weight in the targets rises."""


@dataclass(frozen=True, kw_only=True)
class AlbefVQAConfig(AnswerFields, MomentumFields, AlbefConfig):
    """Fields of ALBEF for questions."""

    max_txt_len: int = 25

    def decoder(self, text: BertConfig, **defaults: Any) -> BertConfig:
        """The decoder: half as deep as the text tower, and each of its layers looks."""
        layers = max(1, text.num_hidden_layers // 2)
        return super().decoder(text, num_hidden_layers=layers, fusion_layer=0, **defaults)


@registry.register_model("albef_vqa")
class AlbefVQA(MomentumCopies, AnswerModel):
    """Chooses answers to questions about images; in training, momentum copies may teach it."""

    Config = AlbefVQAConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["albef_vqa"]
    MAY_STAY = (r"^(visual_encoder|text_encoder|text_decoder)_m\.",)
    POSITION_EMBEDDINGS = ("visual_encoder.pos_embed", "visual_encoder_m.pos_embed")
    METHODS = ("rank",)
    config: AlbefVQAConfig

    def __init__(self, *towers: Any, tokenizer: Tokenizer, config: AlbefVQAConfig) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        parts = ("visual_encoder", "text_encoder", "text_decoder")
        self.make_momentum_copies(*(parts if config.use_distill else ()))

    @classmethod
    def build(cls, config: AlbefVQAConfig) -> AlbefVQA:
        encoder, text, tokenizer = cls.towers(config)
        decoder = LanguageModel(config.decoder(text))
        return cls(encoder, BertModel(text), decoder, tokenizer=tokenizer, config=config)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """From a start, make a decoder of the text tower's last layers; keep copies if wanted."""
        if pretrained:
            decoder = self.text_decoder.bert.config.num_hidden_layers
            first = self.text_encoder.config.num_hidden_layers - decoder
            state = with_answer_decoder(state, first=first)
        if not self.config.use_distill:
            state = {k: v for k, v in state.items() if not k.partition(".")[0].endswith("_m")}
        return super().convert(state, pretrained=pretrained)

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:
        """Take the loss of the answers; the momentum copies' opinion is part of the targets.

        Args:
            samples: As for every ``AnswerModel``; where ``progress`` is not given, ``epoch``,
                ``iters`` and ``num_iters_per_epoch`` tell how far training is.
        """
        if not self.config.use_distill:
            return super().forward(samples, progress)
        asked = self.forward_encoder(samples)
        given = self.given(samples, count=len(asked.states))
        decoded = self.forward_decoder(asked.states, asked.text, given)
        self.follow()
        with torch.no_grad():
            tokens, states, logits = self._copies_opinion(asked, given)
        alpha = self.distillation(samples, progress, epochs=RAMP_EPOCHS)
        assert decoded.loss is not None
        soft = soft_losses(decoded.logits, logits, given.labels)
        decoded.loss = (1 - alpha) * decoded.loss + alpha * soft
        output = self.answer_loss(asked, given, decoded)
        assert output.intermediate_output is not None
        output.intermediate_output.image_embeds_m = tokens
        output.intermediate_output.encoder_output_m = EncoderOutput(states)
        return output

    def predict_answers(
        self,
        samples: Mapping[str, Any],
        answer_list: Sequence[str] | None = None,
        num_ans_candidates: int = 128,
        **options: Any,
    ) -> list[str]:
        """Answer questions, with v1.0.2's order of the arguments.

        ``predict_answers_with_confidence`` documents them.
        """
        return super().predict_answers(
            samples, answer_list=answer_list, num_ans_candidates=num_ans_candidates, **options
        )

    def _copies_opinion(self, asked: Asked, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """The copies' image tokens, question states and logits ``(A, T, V)``."""
        encoder = cast("BertModel", self.get_submodule("text_encoder_m"))
        tokens = look(self.get_submodule("visual_encoder_m"), asked.images)
        states = self.fuse(encoder, asked.text, encoder.see(tokens, asked.token_mask))
        decoder = self.get_submodule("text_decoder_m")
        decoded: LanguageModelOutput = self.forward_decoder(
            states, asked.text, given, decoder=decoder
        )
        return tokens, states, decoded.logits


def soft_losses(logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each next token against what a teacher expects, summed for each answer.

    Args:
        logits: ``(A, T, V)``
        teacher: ``(A, T, V)`` logits
        labels: ``(A, T)``; -100 where no loss is taken.

    Returns:
        ``(A,)``
    """
    counted = labels[:, 1:] != IGNORED
    soft = teacher[:, :-1][counted].float().softmax(dim=1)  # (n, V)
    losses = -(logits[:, :-1][counted].float().log_softmax(dim=1) * soft).sum(dim=1)
    per_answer = losses.new_zeros(len(labels))
    return per_answer.index_add(0, counted.nonzero()[:, 0], losses)
