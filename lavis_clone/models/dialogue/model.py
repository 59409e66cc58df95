"""GPT-2 that looks at the features of a video and answers questions about it.

Frames become tokens through one linear layer and stand before the text; every frame and token has a
type: video, caption, or who speaks. Li et al., https://arxiv.org/abs/2002.00163, and Radford et
al., "Language Models are Unsupervised Multitask Learners", 2019.
Shapes: B dialogues, V frames, F width of their features, T tokens, L = V + T, D width, N tokens
that are learned, R replies.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from lavis_clone.common.dialogue import (
    ANSWERER,
    BOS,
    EOS,
    EXTRA_TOKENS,
    IGNORED_LABEL,
    PAD,
    TOKENIZER_NAME,
    DialogueTokenizer,
    gpt2_file,
    load_tokenizer,
)
from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.base import BaseModel
from lavis_clone.models.dialogue.config import GPTDialogueConfig
from lavis_clone.models.dialogue.writer import ReplyWriter
from lavis_clone.models.generation.loop import generate
from lavis_clone.models.generation.options import GenerationOptions
from lavis_clone.models.outputs import GenerationOutput, ModelOutput, ReplyScores
from lavis_clone.models.weights import LoadReport
from lavis_clone.models.zoo import MODEL_TYPES

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "model.safetensors"
WORDS = "transformer.wte.weight"
POSITIONS = "transformer.wpe.weight"
HEAD = "lm_head.weight"


@dataclass
class Told:
    """Dialogues as the transformer reads them; padding stands at the ends."""

    embeds: Tensor
    """``(B, L, D)``"""
    types: Tensor
    """``(B, L)``"""
    mask: Tensor
    """``(B, L)`` bool"""
    labels: Tensor
    """``(B, L)``; negative where no loss is taken"""
    frames: Tensor
    """``(B, V, F)``; V may be 0"""
    num_frames: Tensor
    """``(B,)``"""


@registry.register_model("gpt_dialogue")
class GPTDialogue(BaseModel):
    """Answers the last question of a dialogue about a video.

    Batches are those of the data set ``avsd_dialogue``: ``input_ids`` ``(B, T)``, ``video_fts``
    ``(B, V, F)`` (absent for a dialogue about nothing), ``token_type_ids`` and ``attn_mask``
    ``(B, V + T)``, ``labels`` ``(B, T)``, negative on all but the answer. Padding may stand
    anywhere and changes nothing.

    >>> from lavis_clone import load_model_and_preprocess
    >>> model, vis, text = load_model_and_preprocess("gpt_dialogue", "base")  # doctest: +SKIP
    """

    Config = GPTDialogueConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["gpt_dialogue"]
    POSITION_EMBEDDINGS = ()
    FILES = ("tokenizer",)
    MAY_BE_IGNORED = (r"\.attn\.(masked_)?bias$", r"^video_ff_out\.")
    PRETRAINED_MAY_STAY = (r"^video_ff(_out)?\.",)
    config: GPTDialogueConfig

    def __init__(
        self, transformer: GPT2Model, *, tokenizer: DialogueTokenizer, config: GPTDialogueConfig
    ) -> None:
        super().__init__()
        self.transformer, self.tokenizer, self.config = transformer, tokenizer, config
        width, num_words = transformer.config.n_embd, transformer.config.vocab_size
        self.lm_head = nn.Linear(width, num_words, bias=False)
        self.lm_head.weight = transformer.wte.weight  # tied
        self.video_ff = nn.Linear(config.len_video_ft, width)
        self.video_ff_out = (
            nn.Linear(width, config.len_video_ft) if config.video_loss_weight else None
        )
        for layer in filter(None, (self.video_ff, self.video_ff_out)):
            nn.init.normal_(layer.weight, std=config.gpt.initializer_range)
            nn.init.zeros_(layer.bias)

    @classmethod
    def build(cls, config: GPTDialogueConfig) -> GPTDialogue:
        tokenizer = load_tokenizer(config.tokenizer)
        num_words = config.len_tokenizer or len(tokenizer)
        if num_words < len(tokenizer):
            raise ValueError(
                f"len_tokenizer ({num_words}) is smaller than the tokenizer {config.tokenizer!r}, "
                f"which has {len(tokenizer)} words with those of dialogues"
            )
        sizes = GPT2Config(
            vocab_size=num_words,
            bos_token_id=tokenizer.id(BOS),
            eos_token_id=tokenizer.id(EOS),
            pad_token_id=tokenizer.id(PAD),
            **vars(config.gpt),
        )
        return cls(GPT2Model(sizes), tokenizer=tokenizer, config=config)

    # --- training ---------------------------------------------------------------------------

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:  # noqa: ARG002  # every model is told how far training is
        """Take the language-modelling loss of the answers, the mean over all their tokens.

        Raises:
            ValueError: a batch that does not fit, or without an answer to learn.
        """
        told = self.tell(samples)
        states = self.states(told)
        _, losses = self._losses(states, told.labels)
        if not len(losses):
            raise ValueError("no dialogue of the batch has an answer to learn")
        loss_lm = losses.mean()
        loss_video = self._video_loss(states, told)
        loss = loss_lm if loss_video is None else loss_lm + loss_video
        return ModelOutput(loss=loss, loss_lm=loss_lm, loss_video=loss_video)

    @torch.no_grad()
    def score_replies(self, samples: Mapping[str, Any]) -> ReplyScores:
        """How likely the answers in ``samples["labels"]`` are."""
        told = self.tell(samples)
        rows, losses = self._losses(self.states(told), told.labels)
        count = len(told.mask)
        return ReplyScores(
            log_prob=losses.new_zeros(count).index_add(0, rows, -losses),
            num_tokens=rows.bincount(minlength=count),
        )

    def tell(self, samples: Mapping[str, Any], *, with_answer: bool = True) -> Told:
        """Put frames and tokens behind each other, without the padding between them.

        Args:
            with_answer: False leaves out what ``labels`` marks as the answer.

        Raises:
            ValueError: shapes that do not fit each other or the model, or a dialogue of nothing.
        """
        if "input_ids" not in samples:
            raise ValueError(
                "GPTDialogue needs samples['input_ids'], made by the text processor gpt_dialogue"
            )
        input_ids = samples["input_ids"].to(self.device)
        labels = samples.get("labels")
        labels = torch.full_like(input_ids, IGNORED_LABEL) if labels is None else labels
        labels = labels.to(self.device)
        frames = self._frames(samples, len(input_ids))
        self._check_words(input_ids)
        _check_shapes(input_ids, frames, {**samples, "labels": labels})
        num_columns = frames.shape[1] + input_ids.shape[1]
        mask = samples.get("attn_mask")
        mask = labels.new_ones(len(labels), num_columns) if mask is None else mask
        mask = mask.to(self.device).bool()
        if not with_answer:
            is_answer = (labels >= 0).cumsum(dim=1) > 0
            mask = mask & ~F.pad(is_answer, (frames.shape[1], 0))
        self._check_lengths(mask)
        words = self.transformer.get_input_embeddings()(input_ids)
        embeds = torch.cat([self.video_ff(frames).to(words.dtype), words], dim=1)
        labels = F.pad(labels, (frames.shape[1], 0), value=IGNORED_LABEL)
        types = samples["token_type_ids"].to(self.device)
        seen = mask[:, : frames.shape[1]]
        (frames,), _ = _compact([frames], seen)
        (embeds, types, labels), mask = _compact([embeds, types, labels], mask)
        labels = labels.masked_fill(~mask, IGNORED_LABEL)
        return Told(embeds, types, mask, labels, frames, seen.sum(dim=1))

    def states(self, told: Told) -> Tensor:
        """``(B, L, D)``"""
        return self.transformer(
            attention_mask=told.mask, token_type_ids=told.types, inputs_embeds=told.embeds
        ).last_hidden_state

    def _losses(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Which dialogue each learned token belongs to ``(N,)``, and its loss ``(N,)``."""
        rows, places = (labels[:, 1:] >= 0).nonzero(as_tuple=True)
        logits = self.lm_head(states[rows, places])  # of the token before
        losses = F.cross_entropy(logits.float(), labels[rows, places + 1], reduction="none")
        return rows, losses

    def _video_loss(self, states: Tensor, told: Told) -> Tensor | None:
        """Mean squared error of each next frame's features, times its weight."""
        if self.video_ff_out is None or told.frames.shape[1] < 2:
            return None
        expected = self.video_ff_out(states[:, : told.frames.shape[1] - 1])  # (B, V - 1, F)
        place = torch.arange(1, told.frames.shape[1], device=states.device)
        known = place[None] < told.num_frames[:, None]  # (B, V - 1)
        if not known.any():
            return None
        error = (expected.float() - told.frames[:, 1:].float()).square().mean(dim=2)
        return self.config.video_loss_weight * error[known].mean()

    def _frames(self, samples: Mapping[str, Any], count: int) -> Tensor:
        """``(B, V, F)``; without a video V is 0."""
        frames = samples.get("video_fts")
        if frames is None:
            return torch.zeros(count, 0, self.config.len_video_ft, device=self.device)
        if frames.shape[-1] != self.config.len_video_ft:
            raise ValueError(
                f"video_fts has {frames.shape[-1]} features per frame, but the model takes "
                f"{self.config.len_video_ft} (model.len_video_ft; the processor gpt_video_ft "
                "chooses them by visual_ft and audio_ft)"
            )
        return frames.to(self.device, self.video_ff.weight.dtype)

    def _check_words(self, input_ids: Tensor) -> None:
        known = self.transformer.config.vocab_size
        largest = int(input_ids.max()) if input_ids.numel() else 0
        if largest >= known:
            raise ValueError(
                f"input_ids holds the token {largest}, but the model has {known} words: the text "
                "processor's tokenizer must be the model's"
            )

    def _check_lengths(self, mask: Tensor, *, num_written: int = 0) -> None:
        longest = int(mask.sum(dim=1).max()) + num_written
        limit = self.config.gpt.n_positions
        if longest > limit:
            raise ValueError(
                f"a dialogue has {longest} frames and tokens, but the model takes {limit} "
                "(model.gpt.n_positions); max_frames and max_length of the processors bound them"
            )
        if not mask.any(dim=1).all():
            raise ValueError("a dialogue of the batch has neither frames nor tokens to answer to")

    # --- replies ----------------------------------------------------------------------------

    def generate(self, samples: Mapping[str, Any], *args: Any, **options: Any) -> list[str]:
        """Answer; ``generate_replies`` documents the arguments."""
        return self.generate_replies(samples, *args, **options).text

    @torch.no_grad()
    def generate_replies(
        self,
        samples: Mapping[str, Any],
        use_nucleus_sampling: bool = False,
        num_beams: int = 3,
        max_length: int = 20,
        min_length: int = 1,
        *,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> GenerationOutput:
        """Write the answer of the last turn, and say how sure each answer is.

        Args:
            samples: A batch; what ``labels`` marks as the answer is not read.
            use_nucleus_sampling: Draw tokens instead of searching.
            num_beams: For search; 1 is greedy.
            max_length: Tokens of an answer at most, its end counted.
            min_length: Tokens before the end at least.
            generator: Source of the draws.
            options: Further fields of ``GenerationOptions``, such as ``top_p``,
                ``length_penalty``, ``repetition_penalty`` or ``num_return``.

        Raises:
            ValueError: an option out of its range, or a batch that does not fit.
        """
        settings = GenerationOptions(
            sample=use_nucleus_sampling,
            num_beams=num_beams,
            max_length=max_length + 1,  # with the token that stands for the start
            min_length=min_length + 1,
            **options,
        )
        told = self.tell(samples, with_answer=False)
        self._check_lengths(told.mask, num_written=max_length - 1)  # the last one is not read
        answerer = self.tokenizer.id(ANSWERER)
        writer = ReplyWriter(self.transformer, self.lm_head, type_id=answerer)
        writer.read(told.embeds, told.types, told.mask)
        written = generate(
            writer,
            told.types.new_full((len(told.mask), 1), answerer),
            options=settings,
            eos_id=self.tokenizer.id(EOS),
            pad_id=self.tokenizer.id(PAD),
            generator=generator,
        )
        return GenerationOutput(
            text=[self.tokenizer.decode(ids) for ids in written.tokens.tolist()],
            confidence=(written.log_prob / written.num_tokens).exp(),
            log_prob=written.log_prob,
            token_ids=written.tokens,
        )

    # --- weights ----------------------------------------------------------------------------

    def load_from_pretrained(self, location: str | Path) -> LoadReport:
        """Start from a GPT-2: a file, a folder with ``model.safetensors``, or a hub's name.

        Raises:
            FileError: it is in none of these places; says what to place where.
            WeightError: naming what is missing, left over or of another shape.
        """
        is_file = Path(str(location)).suffix in (".safetensors", ".bin", ".pt", ".pth")
        return super().load_from_pretrained(
            location if is_file else gpt2_file(str(location), WEIGHTS_NAME)
        )

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """Of a plain GPT-2, give the names their prefix, and let the dialogue's words follow."""
        if not pretrained:
            return state
        if "wte.weight" in state:
            state = {f"transformer.{name}": value for name, value in state.items()}
        state = dict(state)
        own = self.state_dict()
        num_plain = len(self.tokenizer) - len(EXTRA_TOKENS)
        for name in (WORDS, HEAD):
            if name in state and len(state[name]) == num_plain:
                state[name] = torch.cat([state[name], own[name][num_plain:].to(state[name])])
        if POSITIONS in state:
            state[POSITIONS] = state[POSITIONS][: len(own[POSITIONS])]
        return state

    def to_block(self) -> dict[str, Any]:
        return self.config.to_block() | {"arch": registry.models.name_of(type(self))}

    def save_files(self, folder: Path, block: dict[str, Any]) -> None:
        self.tokenizer.save(folder / TOKENIZER_NAME)
        block["tokenizer"] = TOKENIZER_NAME


def _check_shapes(input_ids: Tensor, frames: Tensor, samples: Mapping[str, Any]) -> None:
    """Refuse parts of a batch that do not fit each other."""
    batch, length = input_ids.shape
    joined = (batch, frames.shape[1] + length)
    expected = {"labels": (batch, length), "token_type_ids": joined, "attn_mask": joined}
    if "token_type_ids" not in samples:
        raise ValueError("GPTDialogue needs samples['token_type_ids']")
    if len(frames) != batch:
        raise ValueError(f"{len(frames)} videos but {batch} dialogues")
    for name, shape in expected.items():
        found = samples.get(name)
        if found is not None and tuple(found.shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(found.shape)}")


def _compact(tensors: list[Tensor], mask: Tensor) -> tuple[list[Tensor], Tensor]:
    """Move padding to the ends, and take off what is padding in all rows.

    Args:
        tensors: ``(B, L, ...)`` each
        mask: ``(B, L)`` bool

    Returns:
        The tensors and the mask, ``(B, l, ...)``.
    """
    order = (~mask).int().argsort(dim=1, stable=True)
    order = order[:, : int(mask.sum(dim=1).max()) if mask.numel() else 0]
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    return [tensor[rows, order] for tensor in tensors], mask[rows, order]
