"""What models return, one set for all families. A new field gets a name here before it is used.

Shapes: B images, N image tokens, T text tokens, D width, V vocabulary, R generated texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


class Output:
    """Gives a dataclass the reading half of a mapping: ``out["loss"]`` is ``out.loss``.

    Fields that are None are absent: ``keys()`` leaves them out and ``out["x"]`` raises KeyError.
    """

    def keys(self) -> Iterator[str]:
        return (f.name for f in fields(self) if getattr(self, f.name) is not None)  # type: ignore[arg-type]  # subclasses are dataclasses

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in set(self.keys())

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def items(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.keys())

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.keys() else default


@dataclass
class LanguageModelOutput(Output):
    """What a text decoder says about a text that it was shown whole."""

    logits: Tensor
    """``(B, T, V)``; the scores at position t are for the token at t + 1."""
    loss: Tensor | None = None
    """Cross entropy; scalar, or ``(B,)`` sums when asked for unreduced."""


@dataclass
class EncoderOutput(Output):
    """What a text encoder made of a text."""

    last_hidden_state: Tensor
    """``(R, T, D)``"""


@dataclass
class Similarities(Output):
    """How alike images and texts are in the contrastive space, divided by the temperature.

    Q is the length of the queue of earlier samples. Columns are this batch, then the queue.
    """

    sim_i2t: Tensor
    """``(B, B + Q)``, or ``(B, B)`` where the queue has no part in it."""
    sim_t2i: Tensor
    sim_i2t_m: Tensor | None = None
    """``(B, B + Q)``, by the momentum copies."""
    sim_t2i_m: Tensor | None = None
    sim_i2t_targets: Tensor | None = None
    """``(B, B + Q)`` what each row of probabilities is trained towards."""
    sim_t2i_targets: Tensor | None = None


@dataclass
class IntermediateOutput(Output):
    """What a training step went through, for inspection. ``_m``: by the momentum copies."""

    image_embeds: Tensor | None = None
    """``(B, N, D)`` image tokens; with two images per sample ``(2, B, N, D)``."""
    image_embeds_m: Tensor | None = None
    text_embeds: Tensor | None = None
    """``(B, T, D)`` of the text alone"""
    text_embeds_m: Tensor | None = None
    encoder_output: EncoderOutput | None = None
    """Texts looking at their images."""
    encoder_output_m: EncoderOutput | None = None
    encoder_output_neg: EncoderOutput | None = None
    """``(2 B, T, D)``: texts with a wrong image, then images with a wrong text."""
    itm_logits: Tensor | None = None
    """``(3 B, 2)`` of the B pairs and the 2 B wrong ones."""
    itm_labels: Tensor | None = None
    """``(3 B,)``: 1 for a pair that belongs together."""
    video_embeds: Tensor | None = None
    """``(B, N, D)`` video tokens."""
    vtm_logits: Tensor | None = None
    """As ``itm_logits``, of videos."""
    vtm_labels: Tensor | None = None
    decoder_output: LanguageModelOutput | None = None
    decoder_labels: Tensor | None = None
    """``(B, T)`` token ids; -100 where no loss is taken."""
    image_embeds_proj: Tensor | None = None
    """``(B, F)`` of length 1, of CLIP, whose other embeddings are ``(B, F)``, too."""
    text_embeds_proj: Tensor | None = None


@dataclass
class ModelOutput(Output):
    """The result of a training step."""

    loss: Tensor
    """Scalar to differentiate: the sum of the ``loss_*`` fields."""
    loss_itc: Tensor | None = None
    """Image-text contrast."""
    loss_itm: Tensor | None = None
    """Image-text matching."""
    loss_lm: Tensor | None = None
    """Language modelling."""
    loss_mlm: Tensor | None = None
    """Masked language modelling."""
    logit_scale_exp: Tensor | None = None
    """What CLIP's cosines are multiplied by."""
    loss_vtc: Tensor | None = None
    """Video-text contrast."""
    loss_vtm: Tensor | None = None
    """Video-text matching."""
    loss_video: Tensor | None = None
    """How far each next frame is from what was expected, times the weight of that."""
    sims: Similarities | None = None
    logits: Tensor | None = None
    """``(B, C)`` of C classes."""
    logits_m: Tensor | None = None
    intermediate_output: IntermediateOutput | None = None


@dataclass
class FeatureOutput(Output):
    """Features of images and texts. F is the width of the contrastive space.

    CLIP gives one vector of each, in place of tokens: ``(B, F)``.
    """

    image_embeds: Tensor | None = None
    """``(B, N, D)``; [CLS] stands first where the tower has one."""
    image_embeds_proj: Tensor | None = None
    """``(B, N, F)`` of length 1; compare the first token with a text's."""
    text_embeds: Tensor | None = None
    """``(B, T, D)``"""
    text_embeds_proj: Tensor | None = None
    """``(B, T, F)`` of length 1"""
    multimodal_embeds: Tensor | None = None
    """``(B, T, D)`` of the text looking at its image."""


@dataclass
class ImageEmbeddings(Output):
    """Images, ready to be compared and to be looked at."""

    projected: Tensor
    """``(B, F)`` of length 1"""
    tokens: Tensor
    """``(B, N, E)``"""
    num_tokens: Tensor | None = None
    """``(B,)`` how many tokens count: those behind them are of a short video's repeated frames.
    None for all."""


@dataclass
class TextEmbeddings(Output):
    """Texts, ready to be compared and to look at images."""

    projected: Tensor
    """``(R, F)`` of length 1"""
    input_ids: Tensor
    """``(R, T)``"""
    mask: Tensor
    """``(R, T)`` bool, True on real tokens."""
    states: Tensor | None = None
    """``(R, T, D)`` of the text alone, where a model goes on from it."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def select(self, rows: Tensor) -> TextEmbeddings:
        """The texts with these indices."""
        states = None if self.states is None else self.states[rows]
        return TextEmbeddings(self.projected[rows], self.input_ids[rows], self.mask[rows], states)

    @staticmethod
    def cat(parts: Sequence[TextEmbeddings]) -> TextEmbeddings:
        """Put batches of equal T one after another."""
        states = [part.states for part in parts if part.states is not None]
        return TextEmbeddings(
            torch.cat([part.projected for part in parts]),
            torch.cat([part.input_ids for part in parts]),
            torch.cat([part.mask for part in parts]),
            torch.cat(states) if states else None,
        )


@dataclass
class MatchOutput(Output):
    """Whether K texts describe their images."""

    logits: Tensor
    """``(K, 2)``: no, yes"""
    confidence: Tensor
    """``(K,)`` probability of a match."""


@dataclass
class ClassOutput(Output):
    """Classes of B samples out of C."""

    predictions: Tensor
    """``(B, C)`` logits"""
    confidence: Tensor
    """``(B,)`` probability of the likeliest class."""
    targets: Tensor | None = None
    """``(B,)`` the classes that the data set gives, if it does."""


@dataclass
class AnswerOutput(Output):
    """An answer to each of B questions."""

    text: list[str]
    confidence: Tensor
    """``(B,)``: written answers, the geometric mean of their tokens' probabilities; ranked ones,
    their share among the candidates that were compared."""
    log_prob: Tensor | None = None
    """``(B,)``"""
    token_ids: Tensor | None = None
    """``(B, T)`` of written answers."""


@dataclass
class GenerationOutput(Output):
    """Texts that a model wrote, each with how sure it was."""

    text: list[str]
    """R texts; several of one image stand next to each other, best first."""
    confidence: Tensor
    """``(R,)`` geometric mean of the probabilities of the written tokens, in (0, 1]."""
    log_prob: Tensor
    """``(R,)`` log-probability of the whole text under the model, its end included."""
    token_ids: Tensor
    """``(R, T)`` prompt and text; padded after the end."""


@dataclass
class ReplyScores(Output):
    """How likely the given replies of B dialogues are."""

    log_prob: Tensor
    """``(B,)`` sum over the tokens of each reply, its end included; 0 without a reply."""
    num_tokens: Tensor
    """``(B,)`` int64, 0 without a reply."""
