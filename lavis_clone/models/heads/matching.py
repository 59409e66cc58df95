"""Does this text describe this image? A text looks at the image and [CLS] says yes or no.

Shapes: B samples, A of all processes, K texts, N image tokens, E image width, T text tokens, D text
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.common.progress import Progress
from lavis_clone.models.encoders.bert import Context
from lavis_clone.models.heads.contrastive import (
    Comparison,
    Contrast,
    ContrastiveModel,
    QueueContrast,
)
from lavis_clone.models.heads.language import IGNORED
from lavis_clone.models.outputs import (
    EncoderOutput,
    IntermediateOutput,
    ModelOutput,
    TextEmbeddings,
)
from lavis_clone.models.tokenizers import TokenBatch, Tokenizer

TOKENS_AT_ONCE = 2048
"""Text tokens that look at an image in one call; enough to keep a CPU's matrix units busy."""


class MatchingModel(ContrastiveModel):
    """Compares an image and a text, and also judges them together."""

    def __init__(self, *towers: Any, tokenizer: Tokenizer, config: Any) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        self.itm_head = nn.Linear(self.bert.config.hidden_size, 2)

    def match_pairs(self, tokens: Tensor, texts: TextEmbeddings) -> Tensor:
        """Judge one image against K texts: ``(K,)`` logits of "they match"."""
        return self.match_logits(tokens, texts)[:, 1]

    @torch.no_grad()
    def match_logits(self, tokens: Tensor, texts: TextEmbeddings) -> Tensor:
        """Judge one image against K texts: ``(K, 2)`` logits of "no" and "yes".

        The image's keys and values are computed once, and no padding is.

        Args:
            tokens: ``(N, E)``
            texts: From ``embed_texts``.
        """
        context = self.bert.see(tokens[None]).contiguous()
        logits = tokens.new_empty(len(texts), 2, dtype=torch.float32)
        joined = context.num_joined
        for rows, length in batches_by_length(texts.mask.sum(dim=1), joined=joined):
            text = TokenBatch(texts.input_ids[rows, :length], texts.mask[rows, :length])
            states = None if texts.states is None else texts.states[rows, :length]
            fused = self.fuse(self.bert, text, context, states=states, summary=True)
            logits[rows] = self.itm_head(fused[:, 0]).float()
        return logits


def batches_by_length(lengths: Tensor, *, joined: int = 0) -> Iterator[tuple[Tensor, int]]:
    """Rows of about equal length, ``TOKENS_AT_ONCE`` at a time: indices, and the longest's length.

    Args:
        lengths: ``(K,)`` tokens of each text.
        joined: Tokens that each text has besides its own.
    """
    order = lengths.argsort(descending=True)
    start = 0
    while start < len(order):
        length = int(lengths[order[start]])
        end = start + max(1, TOKENS_AT_ONCE // (length + joined))
        yield order[start:end], length
        start = end


@dataclass
class Matching:
    """A matching step."""

    loss: Tensor
    logits: Tensor
    """``(3 B, 2)``: the pairs, texts with a wrong image, images with a wrong text."""
    labels: Tensor
    """``(3 B,)``"""
    pairs: Tensor
    """``(B, T, D)`` texts that look at their images"""
    wrong: Tensor
    """``(2 B, T, D)``"""
    context: Context
    """What the text tower sees of the B images."""


@dataclass
class Candidates:
    """Where wrong partners are drawn from."""

    i2t: Tensor
    """``(B, A)`` how alike each image and all texts are"""
    t2i: Tensor
    belongs: Tensor
    """``(B, A)`` bool, True where a partner would be right"""
    tokens: Tensor
    """``(A, N, E)``"""
    text: TokenBatch
    """A texts"""
    states: Tensor
    """``(A, T, D)`` of the texts alone"""


class MatchTraining(MatchingModel):
    """Learns to match, by hard negatives: wrong partners that seem right."""

    NEGATIVE_FLOOR: ClassVar[float] = 0.0
    """Added to the probability of every wrong partner."""

    def match(self, step: Comparison) -> Matching:
        """Judge the pairs of a batch, and each image and each text with a wrong partner.

        A sample that all partners belong to has no wrong one, and is left out of the loss.
        """
        among = self.candidates(step)
        wrong_text, has_text = hard_negatives(among.i2t, among.belongs, self.NEGATIVE_FLOOR)
        wrong_image, has_image = hard_negatives(among.t2i, among.belongs, self.NEGATIVE_FLOOR)
        bert, count = self.bert, len(step.tokens)
        context = bert.see(step.tokens)
        if among.tokens is step.tokens:
            elsewhere = context.select(wrong_image)
        else:
            elsewhere = bert.see(among.tokens[wrong_image])
        both = torch.stack([step.states, among.states[wrong_text]], dim=1).flatten(0, 1)
        texts = step.text.interleaved(among.text.select(wrong_text))  # two about each image
        here = self.fuse(bert, texts, context, states=both).unflatten(0, (count, 2))
        there = self.fuse(bert, step.text, elsewhere, states=step.states)
        pairs, wrong = here[:, 0], torch.cat([there, here[:, 1]])
        logits = self.itm_head(torch.cat([pairs[:, 0], wrong[:, 0]]))
        labels = torch.ones(3 * count, dtype=torch.long, device=logits.device)
        labels[count:] = 0
        counted = labels.clone()
        counted[count:][~torch.cat([has_image, has_text])] = IGNORED
        loss = F.cross_entropy(logits.float(), counted, ignore_index=IGNORED)
        return Matching(loss, logits, labels, pairs, wrong, context)

    def candidates(self, step: Comparison) -> Candidates:
        """This batch, as the contrastive step has compared it."""
        count = len(step.tokens)
        belongs = torch.eye(count, dtype=torch.bool, device=step.tokens.device)
        if step.ids is not None:
            belongs = step.ids[:, None] == step.ids[None]
        i2t, t2i = step.sims.sim_i2t[:, :count], step.sims.sim_t2i[:, :count]
        return Candidates(i2t, t2i, belongs, step.tokens, step.text, step.states)


class PairTraining(QueueContrast, MatchTraining):
    """Learns the common space, with a queue and momentum copies, and to match."""

    def pair_output(self, step: Contrast, matching: Matching) -> ModelOutput:
        """The losses and what led to them."""
        return ModelOutput(
            loss=step.loss + matching.loss,
            loss_itc=step.loss,
            loss_itm=matching.loss,
            sims=step.sims,
            intermediate_output=IntermediateOutput(
                image_embeds=step.tokens,
                image_embeds_m=step.tokens_m,
                text_embeds=step.states,
                text_embeds_m=step.states_m,
                encoder_output=EncoderOutput(matching.pairs),
                encoder_output_neg=EncoderOutput(matching.wrong),
                itm_logits=matching.logits,
                itm_labels=matching.labels,
            ),
        )

    def forward(self, samples: Mapping[str, Any], progress: Progress | None = None) -> ModelOutput:
        """Take the contrastive and the matching loss.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` B texts, and ``image_id`` ``(B,)``
                where several texts may belong to one image.
        """
        step = self.contrast(samples, progress)
        return self.pair_output(step, self.match(step))


@torch.no_grad()
def hard_negatives(sims: Tensor, belongs: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Draw a wrong partner for each row, by the softmax of its similarities.

    Args:
        sims: ``(B, A)``
        belongs: ``(B, A)`` bool, True where a partner would be right.
        floor: Added to all probabilities.

    Returns:
        ``(B,)`` indices, and ``(B,)`` bool: whether there is a wrong partner at all.
    """
    exists = ~belongs.all(dim=1)
    barred = belongs & exists[:, None]
    logits = sims.float()
    if not floor:  # or all that is left could round to 0
        logits = logits.masked_fill(barred, -torch.inf)
    weights = (logits.softmax(dim=1) + floor).masked_fill(barred, 0.0)
    return torch.multinomial(weights, 1)[:, 0], exists
