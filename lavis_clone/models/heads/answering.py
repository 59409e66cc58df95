"""Answers questions about images: a text tower reads question and image, a decoder the answer.

Shapes: B images, Q questions, A answers of all questions together, N image tokens, E image width, T
text tokens, D text width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lavis_clone.common.progress import Progress
from lavis_clone.common.reading import read
from lavis_clone.models.encoders.bert import BertConfig, BertModel, Context
from lavis_clone.models.generation.loop import generate
from lavis_clone.models.generation.options import GenerationOptions
from lavis_clone.models.generation.rank import rank
from lavis_clone.models.heads.language import IGNORED, LanguageModel
from lavis_clone.models.heads.reader import Reader
from lavis_clone.models.outputs import (
    AnswerOutput,
    EncoderOutput,
    IntermediateOutput,
    LanguageModelOutput,
    ModelOutput,
)
from lavis_clone.models.tokenizers import TokenBatch, Tokenizer
from lavis_clone.models.vision_text import VisionTextModel

SHORT_LIST = 64
"""Lists of fewer answers are not kept as ids, but turned into ids whenever they are asked for."""


@dataclass(frozen=True, kw_only=True)
class AnswerFields:
    """What the block of a model that answers questions may hold."""

    med_decoder: dict[str, Any] = field(default_factory=dict)
    """Fields of BertConfig for the decoder, over those of the text tower."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over the vocabulary, in training."""
    rank_label_smoothing: float = 0.1
    """The same when answers are ranked, as in v1.0.2; with 0, what counts is how likely each is."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # mixed into a VisionTextConfig
        for name in ("label_smoothing", "rank_label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 1)")
        self.decoder(self.text())  # type: ignore[attr-defined]  # mixed into a VisionTextConfig

    def decoder(self, text: BertConfig, **defaults: Any) -> BertConfig:
        """The decoder, which looks at what the text tower has made of question and image.

        Args:
            text: The text tower.
            defaults: What the family's decoders have otherwise than their text towers.

        Raises:
            ValueError: ``med_decoder`` asks for sizes that do not fit.
        """
        sizes = {name: value for name, value in asdict(text).items() if value is not None}
        sizes |= {"encoder_width": text.hidden_size, **defaults, **self.med_decoder}
        config = read(BertConfig, sizes, where="med_decoder")
        if config.encoder_width != text.hidden_size:
            raise ValueError(
                f"med_decoder.encoder_width ({config.encoder_width}) must be the width of the text "
                f"tower ({text.hidden_size})"
            )
        if config.vocab_size < text.vocab_size:
            raise ValueError(
                f"med_decoder.vocab_size ({config.vocab_size}) is smaller than med.vocab_size "
                f"({text.vocab_size})"
            )
        return config


@dataclass
class Asked:
    """Questions, and what the text tower has made of them."""

    images: Tensor
    """``(B, 3, H, W)``; one image, or one for each question; or ``(B, 3, T, H, W)`` videos."""
    text: TokenBatch
    """Q questions"""
    tokens: Tensor
    """``(B, N, E)``"""
    states: Tensor
    """``(Q, T, D)`` of the questions looking at their images"""
    token_mask: Tensor | None = None
    """``(B, N)`` bool, True where a token counts; None for everywhere."""


@dataclass
class Given:
    """The answers that a data set gives, question by question."""

    text: TokenBatch
    """A answers; the first token of each is the one that the decoder starts with."""
    labels: Tensor
    """``(A, T)``; -100 on padding"""
    weight: Tensor
    """``(A,)`` how much each counts"""
    question: Tensor
    """``(A,)`` which question each belongs to"""


class AnswerModel(VisionTextModel):
    """Learns answers to questions, writes them, and chooses among given ones."""

    START: ClassVar[str] = "[CLS]"
    """First token of every answer."""
    METHODS: ClassVar[tuple[str, ...]] = ("rank", "generate")
    PRETRAINED_MAY_BE_IGNORED: ClassVar[tuple[str, ...]] = (
        r"^((vision_proj|text_proj)(_m)?|itm_head)\.",
        r"^(temp|image_queue|text_queue|idx_queue|queue_ptr|ptr_queue)$",
    )
    PRETRAINED_MAY_STAY = (r"^text_decoder(_m)?\..*\.crossattention\.self\.(key|value)\.weight$",)
    config: Any

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: BertModel,
        text_decoder: LanguageModel,
        *,
        tokenizer: Tokenizer,
        config: Any,
    ) -> None:
        super().__init__(image_encoder, tokenizer=tokenizer, config=config)
        self.text_encoder, self.text_decoder = text_encoder, text_decoder
        self.start_id = tokenizer.id(self.START)
        self._list: tuple[tuple[str, ...], TokenBatch] | None = None

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """From a start, leave out how the decoder looks at images if questions are less wide."""
        state = super().convert(state, pretrained=pretrained)
        if not pretrained:
            return state
        own = {name: value.shape for name, value in self.state_dict().items()}
        looks = (".crossattention.self.key.weight", ".crossattention.self.value.weight")
        return {
            name: value
            for name, value in state.items()
            if not (name.startswith("text_decoder") and name.endswith(looks))
            or value.shape == own.get(name, value.shape)
        }

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:  # noqa: ARG002  # every model is told how far training is
        """Take the language-modelling loss of the answers, the mean over the questions.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` the questions, ``answer`` the
                answers of all questions one after another, ``n_answers`` ``(Q,)`` how many each
                question has, ``weight`` ``(A,)``.

        Raises:
            ValueError: numbers of images, questions, answers and weights that do not fit.
        """
        asked = self.forward_encoder(samples)
        given = self.given(samples, count=len(asked.states))
        decoded = self.forward_decoder(asked.states, asked.text, given)
        return self.answer_loss(asked, given, decoded)

    def forward_encoder(self, samples: Mapping[str, Any], *, prompt: str = "") -> Asked:
        """Let the questions ``samples["text_input"]`` look at ``samples["image"]``.

        Args:
            prompt: Put before every question, or around it where it holds ``{}``.

        Raises:
            ValueError: several images, and not as many as questions.
        """
        images = self.seen(samples)
        if "text_input" not in samples:
            raise ValueError(f"{type(self).__name__} needs samples['text_input']")
        questions = samples["text_input"]
        questions = [questions] if isinstance(questions, str) else list(questions)
        if prompt:
            around = prompt if "{}" in prompt else prompt + "{}"
            questions = [around.replace("{}", question) for question in questions]
        if len(images) not in (1, len(questions)) or not questions:
            raise ValueError(f"{len(images)} images but {len(questions)} questions")
        tokens, text = self.image_tokens(images), self.tokenize(questions)
        mask = self.token_mask(samples, tokens)
        states = self.fuse(self.text_encoder, text, self.text_encoder.see(tokens, mask))
        return Asked(images.to(tokens.device), text, tokens, states, mask)

    def given(self, samples: Mapping[str, Any], *, count: int) -> Given:
        """The answers to ``count`` questions that a batch gives.

        Raises:
            ValueError: numbers of questions, answers and weights that do not fit.
        """
        if missing := [key for key in ("answer", "weight", "n_answers") if key not in samples]:
            raise ValueError(f"training needs samples[{missing[0]!r}]")
        answers = list(samples["answer"])
        weight = torch.as_tensor(samples["weight"], dtype=torch.float32, device=self.device)
        num_answers = torch.as_tensor(samples["n_answers"], device=self.device)
        fits = num_answers.shape == (count,) and bool((num_answers >= 0).all())
        if not fits or int(num_answers.sum()) != len(answers) or not answers:
            raise ValueError(
                f"n_answers must say how many of the {len(answers)} answers belong to each of the "
                f"{count} questions, got {num_answers.tolist()}"
            )
        if weight.shape != (len(answers),):
            raise ValueError(f"{len(answers)} answers but weights of shape {tuple(weight.shape)}")
        text = self.tokenize_answers(answers)
        question = torch.arange(count, device=self.device).repeat_interleave(num_answers)
        return Given(text, text.input_ids.masked_fill(~text.mask, IGNORED), weight, question)

    def forward_decoder(
        self, states: Tensor, text: TokenBatch, given: Given, *, decoder: nn.Module | None = None
    ) -> LanguageModelOutput:
        """Score the answers: logits ``(A, T, V)`` and losses ``(A,)``.

        Args:
            states: ``(Q, T, D)`` of the questions.
            text: The questions.
            decoder: In the place of the model's own one.
        """
        decoder = decoder or self.text_decoder
        assert isinstance(decoder, LanguageModel)
        output: LanguageModelOutput = decoder(
            given.text.input_ids,
            mask=given.text.mask,
            labels=given.labels,
            context=decoder.bert.see(states, text.mask).select(given.question),
            label_smoothing=self.config.label_smoothing,
            reduction="sum_per_row",
        )
        return output

    def answer_loss(self, asked: Asked, given: Given, decoded: LanguageModelOutput) -> ModelOutput:
        """The weighted losses of a batch, and what led to them."""
        assert decoded.loss is not None
        return ModelOutput(
            loss=(given.weight * decoded.loss).sum() / len(asked.states),
            intermediate_output=IntermediateOutput(
                image_embeds=asked.tokens,
                encoder_output=EncoderOutput(asked.states),
                decoder_output=decoded,
                decoder_labels=given.labels,
            ),
        )

    def predict_answers(self, samples: Mapping[str, Any], *args: Any, **options: Any) -> list[str]:
        """Answer questions; ``predict_answers_with_confidence`` documents the arguments."""
        return self.predict_answers_with_confidence(samples, *args, **options).text

    @torch.no_grad()
    def predict_answers_with_confidence(  # noqa: PLR0913  # v1.0.2's signature
        self,
        samples: Mapping[str, Any],
        num_beams: int = 3,
        inference_method: Literal["rank", "generate"] = "rank",
        max_len: int = 10,
        min_len: int = 1,
        num_ans_candidates: int = 128,
        answer_list: Sequence[str] | None = None,
        *,
        prompt: str = "",
        **options: Any,
    ) -> AnswerOutput:
        """Answer questions, and say how sure each answer is.

        Args:
            samples: ``image`` ``(B, 3, H, W)`` and ``text_input``, a question for each image or
                several ones about a single image; one question may stand without a list.
            num_beams: For written answers; 1 always takes the best token.
            inference_method: ``rank`` chooses from ``answer_list``, ``generate`` writes.
            max_len: Tokens of a written answer at most, the start token counted.
            min_len: Tokens at least, counted in the same way.
            num_ans_candidates: Answers of the list that are compared in full, those whose first
                word is likeliest.
            answer_list: What to choose from; not used to write.
            prompt: Put before every question, or around it where it holds ``{}``.
            options: Further fields of ``GenerationOptions``, to write.

        Raises:
            ValueError: a method that the model does not have, no answers to choose from, an option
                out of its range, pictures of another size or with NaN pixels.
        """
        if inference_method not in self.METHODS:
            raise ValueError(
                f"{type(self).__name__} has inference_method {' and '.join(self.METHODS)}, "
                f"not {inference_method!r}"
            )
        if inference_method == "rank":
            if options:
                raise TypeError(f"ranking answers has no option {', '.join(options)}")
            if isinstance(answer_list, str) or not answer_list:
                raise ValueError("inference_method 'rank' needs answer_list, a list of answers")
            asked = self.forward_encoder(samples, prompt=prompt)
            return self._choose(asked, answer_list, num_ans_candidates)
        settings = GenerationOptions(
            num_beams=num_beams, max_length=max_len, min_length=min_len, **options
        )
        return self._write(self.forward_encoder(samples, prompt=prompt), settings)

    def _choose(self, asked: Asked, answers: Sequence[str], num_candidates: int) -> AnswerOutput:
        candidates = self._known_list(answers)
        found = rank(
            Reader(self.text_decoder, self._start(asked), self._context(asked, asked.text.mask)),
            candidates.input_ids,
            candidates.mask.sum(dim=1),
            num_candidates=num_candidates,
            label_smoothing=self.config.rank_label_smoothing,
        )
        text = [answers[place] for place in found.best.tolist()]
        return AnswerOutput(text, found.confidence, found.log_prob)

    def _write(self, asked: Asked, options: GenerationOptions) -> AnswerOutput:
        mask = asked.text.mask if self.config.mask_question_padding else None
        context = self._context(asked, mask)
        written = generate(
            self.text_decoder.writer(context, max_length=options.max_length),
            self._start(asked),
            options=options,
            eos_id=self.tokenizer.sep_id,
            pad_id=self.tokenizer.pad_id,
        )
        return AnswerOutput(
            text=self.tokenizer.decode_all(written.tokens),
            confidence=(written.log_prob / written.num_tokens).exp(),
            log_prob=written.log_prob,
            token_ids=written.tokens,
        )

    def _context(self, asked: Asked, mask: Tensor | None) -> Context:
        return self.text_decoder.bert.see(asked.states, mask)

    def _start(self, asked: Asked) -> Tensor:
        """``(Q, 1)``"""
        return asked.text.input_ids.new_full((len(asked.states), 1), self.start_id)

    def _known_list(self, answers: Sequence[str]) -> TokenBatch:
        """The list as ids; a long one is remembered, because a task asks for the same again."""
        if len(answers) < SHORT_LIST:
            return self.tokenize_answers(answers)
        content = tuple(answers)
        known = self._list
        if known is None or known[0] != content or known[1].mask.device != self.device:
            known = self._list = content, self.tokenize_answers(answers)
        return known[1]

    def tokenize_answers(self, answers: Sequence[str]) -> TokenBatch:
        """Answers as ids, cut only where the decoder's positions end."""
        longest = self.text_decoder.bert.config.max_position_embeddings
        text = self.tokenize(answers, max_length=longest)
        text.input_ids[:, 0] = self.start_id
        return text
