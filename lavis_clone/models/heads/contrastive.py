"""Images and texts in one space, where what belongs together lies together.

Shapes: B samples, A of all processes, N image tokens, E image width, T text tokens, D text width, F
width of the common space, Q length of the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.common import dist
from lavis_clone.common.progress import Progress
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.heads.momentum import MomentumCopies, MomentumFields
from lavis_clone.models.outputs import ImageEmbeddings, Similarities, TextEmbeddings
from lavis_clone.models.tokenizers import TokenBatch, Tokenizer
from lavis_clone.models.videos import look, mean_of_frames
from lavis_clone.models.vision_text import VisionTextModel
from lavis_clone.models.weights import LoadReport

MATCH_LENGTH = 35
"""Tokens of a text to compare, at least; v1.0.2's number for all models."""
TEMPERATURES = (0.001, 0.5)
NOBODY = -100
"""Image id of an empty place in the queue."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveFields:
    """What the block of a model with a common space may hold."""

    embed_dim: int = 256
    """F"""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # mixed into a VisionTextConfig
        if self.embed_dim < 1:
            raise ValueError(f"embed_dim ({self.embed_dim}) must be at least 1")


class ContrastiveModel(VisionTextModel):
    """A vision tower and a text tower, each with a projection into the common space."""

    SUMMARY = True
    LEAST_LENGTH: ClassVar[int] = MATCH_LENGTH
    """Tokens that a text to compare may have, whatever ``max_txt_len`` says."""
    config: Any

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: BertModel | LanguageModel,
        *,
        tokenizer: Tokenizer,
        config: Any,
    ) -> None:
        super().__init__(image_encoder, tokenizer=tokenizer, config=config)
        self.text_encoder = text_encoder
        width: int = image_encoder.embed_dim  # type: ignore[assignment]  # set by both kinds of tower
        self.vision_proj = nn.Linear(width, config.embed_dim)
        self.text_proj = nn.Linear(self.bert.config.hidden_size, config.embed_dim)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> ImageEmbeddings:
        """Encode images ``(B, 3, H, W)``, to compare them and to look at them."""
        tokens = self.image_tokens(images)
        return ImageEmbeddings(self.image_summary(images, tokens), tokens)

    @torch.no_grad()
    def embed_videos(self, videos: Tensor, num_frames: Tensor | None = None) -> ImageEmbeddings:
        """Encode videos ``(B, 3, T, H, W)`` in the same way.

        Args:
            num_frames: ``(B,)`` after how many frames a video only repeats the last one, which
                models that look at one frame at a time then leave out.
        """
        tokens = self.image_tokens(videos)
        mask = self.token_mask({"video": videos, "num_frames": num_frames}, tokens)
        counts = None if mask is None else mask.sum(dim=1)
        return ImageEmbeddings(self.image_summary(videos, tokens, mask), tokens, counts)

    def image_summary(self, images: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, F)`` of length 1, from the tokens ``(B, N, E)`` of images or videos.

        Args:
            mask: ``(B, N)`` bool, True where a token counts.
        """
        return summary(self.vision_proj, tokens, num_frames=self.num_looks(images), mask=mask)

    @torch.no_grad()
    def embed_texts(self, texts: str | Sequence[str]) -> TextEmbeddings:
        """Encode texts; all are padded to one length, so that batches can be put together."""
        longest = self.bert.config.max_position_embeddings
        limit = min(max(self.LEAST_LENGTH, self.config.max_txt_len), longest)
        text = self.tokenize(texts, max_length=limit, padded=True)
        short = text.shortened()
        states = self.read(self.bert, short)
        kept = F.pad(states, (0, 0, 0, limit - states.shape[1])) if self.goes_on else None
        return TextEmbeddings(summary(self.text_proj, states), text.input_ids, text.mask, kept)

    def _text(self, texts: Sequence[str]) -> TokenBatch:
        """In training no longer than needed; else as long as v1.0.2 has it, for all to see."""
        return self.tokenize(texts, padded=not self.training)

    @property
    def goes_on(self) -> bool:
        """Whether a text that looks at an image begins with what it is alone."""
        return self.bert.resumes


def summary(
    projection: nn.Module, states: Tensor, *, num_frames: int = 1, mask: Tensor | None = None
) -> Tensor:
    """Project the first token, which stands for all: ``(B, N, E) -> (B, F)`` of length 1.

    Args:
        num_frames: Of each video: the mean of its frames' projections is taken.
        mask: ``(B, N)`` bool, True where a token counts.
    """
    if num_frames == 1:
        return F.normalize(projection(states[:, 0]).float(), dim=-1)
    firsts = slice(None, None, states.shape[1] // num_frames)
    projected = projection(states[:, firsts]).float()  # (B, T, F)
    mask = None if mask is None else mask[:, firsts]
    return F.normalize(mean_of_frames(projected, num_frames, mask)[:, 0], dim=-1)


@dataclass(frozen=True, kw_only=True)
class TemperatureFields(ContrastiveFields):
    """What the block of a model that learns a common space may hold."""

    temp: float = 0.07
    """The temperature to begin with; it is learned, within 0.001 and 0.5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not TEMPERATURES[0] <= self.temp <= TEMPERATURES[1]:
            raise ValueError(f"temp ({self.temp}) must lie in {list(TEMPERATURES)}")


@dataclass(frozen=True, kw_only=True)
class QueueFields(TemperatureFields, MomentumFields):
    """What the block of a model that compares with earlier samples may hold."""

    queue_size: int = 57600
    """Q"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queue_size < 1:
            raise ValueError(f"queue_size ({self.queue_size}) must be at least 1")


@dataclass
class Comparison:
    """A contrastive step: what went in, what came out, and what matching can go on with."""

    loss: Tensor
    sims: Similarities
    text: TokenBatch
    tokens: Tensor
    """``(B, N, E)``"""
    states: Tensor
    """``(B, T, D)`` of the texts alone"""
    image_features: Tensor
    """``(B, F)``"""
    text_features: Tensor
    ids: Tensor | None
    """``(B,)`` image ids, where several texts may belong to one image."""


@dataclass
class Contrast(Comparison):
    """A contrastive step with momentum copies."""

    tokens_m: Tensor
    states_m: Tensor
    alpha: float
    """The momentum copies' weight in the targets."""


class QueueContrast(MomentumCopies, ContrastiveModel):
    """Learns the common space from this batch and a queue of earlier samples' momentum features.

    Li et al., https://arxiv.org/abs/2107.07651, section 3.2.
    """

    WITH_IDS: ClassVar[bool] = False
    """Whether samples with one ``image_id`` belong together."""
    MAY_STAY = (
        r"^(visual_encoder|text_encoder|vision_proj|text_proj)_m\.",
        r"^\w+_queue$|^queue_ptr$",
    )
    POSITION_EMBEDDINGS = ("visual_encoder.pos_embed", "visual_encoder_m.pos_embed")
    image_queue: Tensor
    text_queue: Tensor
    idx_queue: Tensor
    queue_ptr: Tensor

    def __init__(self, *towers: Any, tokenizer: Tokenizer, config: Any) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        self.make_momentum_copies("visual_encoder", "text_encoder", "vision_proj", "text_proj")
        self.temp = nn.Parameter(torch.tensor(config.temp))
        for name in ("image_queue", "text_queue"):
            start = F.normalize(torch.randn(config.embed_dim, config.queue_size), dim=0)
            self.register_buffer(name, start)
        if self.WITH_IDS:
            self.register_buffer("idx_queue", torch.full((1, config.queue_size), NOBODY))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @property
    def needs_copies(self) -> bool:
        return True

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """A queue of another length is left out: it fills up again."""
        state = super().convert(state, pretrained=pretrained)
        own = {name: value.shape for name, value in self.named_buffers(recurse=False)}
        return {k: v for k, v in state.items() if k not in own or v.shape == own[k]}

    def after_load(self, report: LoadReport) -> None:
        super().after_load(report)
        self.queue_ptr.zero_()

    def contrast(
        self, samples: Mapping[str, Any], progress: Progress | None, *, epochs: float = 2
    ) -> Contrast:
        """Compare the images and texts of a batch with each other and with the queue.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` B texts, ``image_id`` ``(B,)``
                if ``WITH_IDS``.
            epochs: How long the momentum copies' weight in the targets rises.

        Raises:
            ValueError: not as many texts as images.
        """
        images, text = self.seen(samples).to(self.device), self._text(samples["text_input"])
        if len(images) != len(text.input_ids):
            raise ValueError(f"{len(images)} images but {len(text.input_ids)} texts")
        with torch.no_grad():
            self.temp.clamp_(*TEMPERATURES)
        tokens, states = self.image_tokens(images), self.read(self.bert, text)
        image, words = self.image_summary(images, tokens), summary(self.text_proj, states)
        ids = torch.as_tensor(samples["image_id"]).to(self.device) if self.WITH_IDS else None
        alpha = self.distillation(samples, progress, epochs=epochs)
        with torch.no_grad():
            self.follow()
            tokens_m, states_m = self._momentum_states(images, text, tokens)
            looks = self.num_looks(images)
            image_m, words_m = (
                summary(self.get_submodule("vision_proj_m"), tokens_m, num_frames=looks),
                summary(self.get_submodule("text_proj_m"), states_m),
            )
            images_all = torch.cat([image_m.t(), self.image_queue], dim=1)  # (F, B + Q)
            words_all = torch.cat([words_m.t(), self.text_queue], dim=1)
            positive = self._positives(ids, len(images))
            i2t_m, t2i_m = image_m @ words_all / self.temp, words_m @ images_all / self.temp
            targets = [alpha * s.softmax(1) + (1 - alpha) * positive for s in (i2t_m, t2i_m)]
        i2t, t2i = image @ words_all / self.temp, words @ images_all / self.temp  # (B, B + Q)
        loss = (soft_cross_entropy(i2t, targets[0]) + soft_cross_entropy(t2i, targets[1])) / 2
        self._push(image_m, words_m, ids)
        sims = Similarities(i2t, t2i, i2t_m, t2i_m, targets[0], targets[1])
        return Contrast(
            loss, sims, text, tokens, states, image, words, ids, tokens_m, states_m, alpha
        )

    def _momentum_states(
        self, images: Tensor, text: TokenBatch, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the copies of the towers say; a frozen vision tower's says what the tower said."""
        encoder: Any = self.get_submodule("text_encoder_m")
        bert = encoder.bert if isinstance(encoder, LanguageModel) else encoder
        states = self.read(bert, text)
        if any(p.requires_grad for p in self.visual_encoder.parameters()):
            tokens = look(self.get_submodule("visual_encoder_m"), images)
        return tokens, states

    def _positives(self, ids: Tensor | None, count: int) -> Tensor:
        """``(B, B + Q)`` what belongs to each sample, as probabilities."""
        if ids is None:
            columns = count + self.image_queue.shape[1]
            return torch.eye(count, columns, device=self.image_queue.device)
        everybody = torch.cat([ids, self.idx_queue[0]])
        same = (ids[:, None] == everybody[None]).float()
        return same / same.sum(dim=1, keepdim=True)

    @torch.no_grad()
    def _push(self, images: Tensor, texts: Tensor, ids: Tensor | None) -> None:
        """Put all processes' momentum features into the queue, over the oldest ones."""
        images, texts = dist.gather(images), dist.gather(texts)
        size, start = self.image_queue.shape[1], int(self.queue_ptr)
        count = len(images)
        kept = slice(max(count - size, 0), count)  # of more than the queue holds, the last
        places = torch.arange(start, start + count, device=images.device)[kept] % size
        self.image_queue[:, places] = images[kept].t().to(self.image_queue.dtype)
        self.text_queue[:, places] = texts[kept].t().to(self.text_queue.dtype)
        if ids is not None:
            self.idx_queue[0, places] = dist.gather(ids)[kept]
        self.queue_ptr[0] = (start + count) % size


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross entropy of rows of logits against rows of probabilities, ``(B, C)`` each."""
    return -(logits.log_softmax(dim=1) * targets).sum(dim=1).mean()
