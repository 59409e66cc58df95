"""BLIP as a captioner: a vision tower and a text decoder that looks at its tokens.

Li et al., https://arxiv.org/abs/2201.12086.
Shapes: B images, N image tokens, E image width, T text tokens, R texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import DECODE, BlipConfig
from lavis_clone.models.encoders.bert import Context
from lavis_clone.models.generation.loop import generate
from lavis_clone.models.generation.options import GenerationOptions, Written
from lavis_clone.models.heads.language import IGNORED, LanguageModel
from lavis_clone.models.outputs import (
    GenerationOutput,
    IntermediateOutput,
    LanguageModelOutput,
    ModelOutput,
)
from lavis_clone.models.tokenizers import Tokenizer
from lavis_clone.models.vision_text import VisionTextModel
from lavis_clone.models.zoo import MODEL_TYPES

NUCLEUS_REPETITION_PENALTY = 1.1  # what v1.0.2 samples with, whatever it is asked for


@dataclass(frozen=True, kw_only=True)
class BlipCaptionConfig(BlipConfig):
    """Fields of a captioner."""

    prompt: str = ""
    """Every caption starts with it; it is taken off again."""
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing ({self.label_smoothing}) must lie in [0, 1)")


@registry.register_model("blip_caption")
class BlipCaption(VisionTextModel):
    """Writes captions.

    >>> from lavis_clone import load_model_and_preprocess
    >>> model, vis, _ = load_model_and_preprocess("blip_caption", "tiny_emoji", is_eval=True)
    """

    Config = BlipCaptionConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_caption"]
    config: BlipCaptionConfig
    PRETRAINED_MAY_BE_IGNORED = (
        r"^(text_encoder|visual_encoder_m|text_encoder_m|text_decoder_m)\.",
        r"^(vision_proj|text_proj|itm_head)(_m)?\.",
        r"^(temp|image_queue|text_queue|idx_queue|queue_ptr|ptr_queue)$",
    )

    def __init__(
        self,
        image_encoder: nn.Module,
        text_decoder: LanguageModel,
        *,
        tokenizer: Tokenizer,
        config: BlipCaptionConfig,
    ) -> None:
        super().__init__(image_encoder, tokenizer=tokenizer, config=config)
        self.text_decoder = text_decoder
        self.prompt = config.prompt
        self.bos_id = tokenizer.id(DECODE)
        prompt = tokenizer([self.prompt]).input_ids[0]
        self.prompt_length = len(prompt) - 1  # without [SEP]
        if tokenizer.id("[UNK]") in prompt.tolist():  # it could not be taken off again
            raise ValueError(f"the vocabulary has no words for the prompt {self.prompt!r}")

    @classmethod
    def build(cls, config: BlipCaptionConfig) -> BlipCaption:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, LanguageModel(text), tokenizer=tokenizer, config=config)

    def forward_encoder(self, samples: Mapping[str, Any]) -> Tensor:
        """``samples["image"]`` ``(B, 3, H, W)`` -> image tokens ``(B, N, E)``; or ``video``."""
        return self.image_tokens(self.seen(samples))

    def forward_decoder(
        self, samples: Mapping[str, Any], image_embeds: Tensor
    ) -> tuple[LanguageModelOutput, Tensor]:
        """Score the captions ``samples["text_input"]``, which start with the prompt.

        Returns:
            What the decoder says, and the labels ``(B, T)``: prompt and padding count nothing.

        Raises:
            ValueError: not as many captions as images, or captions without anything to learn.
        """
        text = self.tokenize(samples["text_input"])
        input_ids, mask = text.input_ids, text.mask
        if len(input_ids) != len(image_embeds):
            raise ValueError(f"{len(image_embeds)} images but {len(input_ids)} texts")
        if not text.mask[:, self.prompt_length :].any():  # the loss would be 0 / 0
            raise ValueError(f"no caption goes on after the prompt {self.prompt!r}")
        input_ids[:, 0] = self.bos_id
        labels = input_ids.masked_fill(~mask, IGNORED)
        labels[:, : self.prompt_length] = IGNORED
        output = self.text_decoder(
            input_ids,
            mask=mask,
            labels=labels,
            context=self._context(samples, image_embeds),
            label_smoothing=self.config.label_smoothing,
        )
        return output, labels

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:  # noqa: ARG002  # every model is told how far training is
        """Take the language-modelling loss of captions.

        Args:
            samples: ``image`` ``(B, 3, H, W)`` and ``text_input``, B captions with the prompt.
        """
        image_embeds = self.forward_encoder(samples)
        decoder_output, labels = self.forward_decoder(samples, image_embeds)
        assert decoder_output.loss is not None
        return ModelOutput(
            loss=decoder_output.loss,
            loss_lm=decoder_output.loss,
            intermediate_output=IntermediateOutput(
                image_embeds=image_embeds, decoder_output=decoder_output, decoder_labels=labels
            ),
        )

    def generate(self, samples: Mapping[str, Any], *args: Any, **options: Any) -> list[str]:
        """Caption pictures; ``generate_with_confidence`` documents the arguments.

        Returns:
            ``B * num_captions`` captions without the prompt.
        """
        return self.generate_with_confidence(samples, *args, **options).text

    @torch.no_grad()
    def generate_with_confidence(  # noqa: PLR0913  # v1.0.2's signature
        self,
        samples: Mapping[str, Any],
        use_nucleus_sampling: bool = False,
        num_beams: int = 3,
        max_length: int = 30,
        min_length: int = 10,
        top_p: float = 0.9,
        repetition_penalty: float | None = None,
        num_captions: int = 1,
        *,
        distinct: bool = False,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> GenerationOutput:
        """Caption pictures, and say how sure each caption is.

        Args:
            samples: ``image`` ``(B, 3, H, W)``.
            use_nucleus_sampling: Draw tokens instead of searching.
            num_beams: For search; 1 is greedy.
            max_length: Tokens at most, the prompt and [DEC] counted.
            min_length: Tokens at least, counted in the same way.
            top_p: For sampling.
            repetition_penalty: None for v1.0.2's: 1 in search, 1.1 in sampling.
            num_captions: Captions per picture.
            distinct: Give the best ``num_captions`` beams; v1.0.2 repeats the best one.
            generator: Source of the draws.
            options: Further fields of ``GenerationOptions``.

        Raises:
            ValueError: an option out of its range, pictures of another size or with NaN pixels.
        """
        if repetition_penalty is None:
            repetition_penalty = NUCLEUS_REPETITION_PENALTY if use_nucleus_sampling else 1.0
        repeats = 1 if use_nucleus_sampling or distinct else num_captions
        settings = GenerationOptions(
            sample=use_nucleus_sampling,
            num_beams=num_beams,
            max_length=max_length,
            min_length=min_length,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            num_return=num_captions // max(repeats, 1),
            **options,
        )
        written = self._write(samples, settings, generator)
        if repeats > 1:
            rows = torch.arange(len(written.tokens), device=self.device).repeat_interleave(repeats)
            written = Written(*(t[rows] for t in vars(written).values()))
        return self._as_output(written)

    def _context(self, samples: Mapping[str, Any], image_embeds: Tensor) -> Context:
        return self.text_decoder.bert.see(image_embeds, self.token_mask(samples, image_embeds))

    def _write(
        self,
        samples: Mapping[str, Any],
        options: GenerationOptions,
        generator: torch.Generator | None,
    ) -> Written:
        image_embeds = self.forward_encoder(samples)
        prompt = self.tokenizer([self.prompt]).input_ids[:, :-1].to(self.device)  # (1, P)
        prompt[:, 0] = self.bos_id
        writer = self.text_decoder.writer(
            self._context(samples, image_embeds), max_length=options.max_length
        )
        return generate(
            writer,
            prompt.expand(len(image_embeds), -1).contiguous(),
            options=options,
            eos_id=self.tokenizer.sep_id,
            pad_id=self.tokenizer.pad_id,
            generator=generator,
        )

    def _as_output(self, written: Written) -> GenerationOutput:
        texts = self.tokenizer.decode_all(written.tokens)
        return GenerationOutput(
            text=[text[len(self.prompt) :] for text in texts],
            confidence=(written.log_prob / written.num_tokens).exp(),
            log_prob=written.log_prob,
            token_ids=written.tokens,
        )
