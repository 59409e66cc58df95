"""What BLIP and ALBEF have in common: a vision tower, and a BERT that looks at what it sees.

Shapes: B images, N image tokens, E image width, R texts, T text tokens, D text width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from lavis_clone.common.files import resolve
from lavis_clone.common.registry import registry
from lavis_clone.models.base import BaseModel
from lavis_clone.models.config import TextConfig
from lavis_clone.models.encoders.bert import BertConfig, BertModel, Context
from lavis_clone.models.encoders.vit import build_vision_encoder, check_images
from lavis_clone.models.foreign import bert_to_own
from lavis_clone.models.tokenizers import TokenBatch, Tokenizer
from lavis_clone.models.videos import as_images, by_video, frame_mask
from lavis_clone.models.weights import WeightError, load_weights, read_checkpoint

logger = logging.getLogger(__name__)

ENCODE = "[ENC]"


class VisionTextModel(BaseModel):
    """Base of the models that read images, and texts alone or looking at images."""

    SUMMARY = False
    """Whether the first image token must stand for the whole image."""
    IMAGE: ClassVar[str] = "image"
    """Where a batch holds what is looked at."""
    config: TextConfig

    def __init__(
        self, image_encoder: nn.Module, *, tokenizer: Tokenizer, config: TextConfig
    ) -> None:
        super().__init__()
        self.visual_encoder = image_encoder
        self.tokenizer = tokenizer
        self.config = config
        self.image_size = config.picture_size()
        self.encode_id = tokenizer.id(ENCODE) if ENCODE in config.extra_tokens else None

    @classmethod
    def towers(cls, config: TextConfig) -> tuple[nn.Module, BertConfig, Tokenizer]:
        """The vision tower, the sizes of a text tower that fits it, and the vocabulary.

        Raises:
            ValueError: ``med`` asks for sizes that do not fit.
        """
        tokenizer = config.tokenizer()
        encoder = cls.build_vision(config.vision())
        width: int = encoder.embed_dim  # type: ignore[assignment]  # set by both kinds of tower
        text = config.text(vocab_size=len(tokenizer), encoder_width=width)
        if text.encoder_width != width:
            raise ValueError(
                f"med.encoder_width ({text.encoder_width}) must be the width of the vision tower "
                f"({width})"
            )
        if text.vocab_size < len(tokenizer):
            raise ValueError(
                f"med.vocab_size ({text.vocab_size}) is smaller than the vocabulary "
                f"({len(tokenizer)})"
            )
        return encoder, text, tokenizer

    @classmethod
    def build_vision(cls, config: Any) -> nn.Module:
        """The vision tower, with the width of its tokens as ``embed_dim``."""
        return build_vision_encoder(config, summary=cls.SUMMARY)

    def start(self) -> None:
        """Let the text towers begin with ``text_weights``.

        Raises:
            WeightError: it is no BERT, or one of another width.
        """
        if self.config.text_weights is None:
            return
        state = read_checkpoint(self.config.text_weights)
        vocabulary = self.config.text_weights_vocabulary
        tokens = Tokenizer(None if vocabulary is None else resolve(vocabulary)).tokens
        for name in ("text_encoder", "text_decoder"):
            tower: Any = getattr(self, name, None)
            if tower is None:
                continue
            bert = getattr(tower, "bert", tower)
            try:
                found = bert_to_own(state, bert, tokens=tokens, own=self.tokenizer.tokens)
            except ValueError as error:
                raise WeightError(f"text_weights: {self.config.text_weights} {error}") from error
            report = load_weights(bert, found, may_stay_at_init=[r"crossattention"])
            logger.info("%s starts from %s: %s", name, self.config.text_weights, report)
        self.after_start()

    def after_start(self) -> None:
        """Set what depends on the weights that the towers start from."""

    def to_block(self) -> dict[str, Any]:
        block = self.config.to_block(vision=self.config.vision(), text=self.bert.config)
        return block | {"arch": registry.models.name_of(type(self))}

    @property
    def bert(self) -> BertModel:
        """The text tower, without a head; the encoder where there is a decoder, too."""
        text: Any = self.text_encoder if hasattr(self, "text_encoder") else self.text_decoder
        bert: BertModel = getattr(text, "bert", text)
        return bert

    def seen(self, samples: Mapping[str, Any]) -> Tensor:
        """What a batch holds to be looked at: images or, in their place, videos.

        Raises:
            ValueError: there is neither.
        """
        for key in (self.IMAGE, "video"):
            if key in samples:
                images: Tensor = samples[key]
                return images
        raise ValueError(f"{type(self).__name__} needs samples[{self.IMAGE!r}]")

    def image_tokens(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` -> tokens ``(B, N, E)``; of videos ``(B, 3, T, H, W)`` all frames'.

        Raises:
            ValueError: images of another size than the model's, or with NaN pixels.
        """
        frames = as_images(images.to(self.device))
        check_images(frames, size=self.image_size)
        tokens = self.visual_encoder(frames.to(next(self.visual_encoder.parameters()).dtype))
        return by_video(tokens, images)

    def num_looks(self, images: Tensor) -> int:
        """How often the vision tower looks at each of ``images``: once, but at each frame."""
        return images.shape[2] if images.ndim == 5 and self.IMAGE == "image" else 1

    def token_mask(self, samples: Mapping[str, Any], tokens: Tensor) -> Tensor | None:
        """Which tokens ``(B, N)`` of a batch count; None for all. See ``frame_mask``."""
        by_frame = self.IMAGE == "image" and "image" not in samples
        return frame_mask(samples, tokens) if by_frame else None

    def tokenize(
        self, texts: str | Sequence[str], *, max_length: int | None = None, padded: bool = False
    ) -> TokenBatch:
        """Texts as ids on the model's device, cut to ``max_length``, or the config's limit.

        Args:
            padded: To the limit, not just to the longest text.
        """
        limit = self.config.max_txt_len if max_length is None else max_length
        text = self.tokenizer(texts, max_length=limit, pad_to=limit if padded else None)
        return replace(
            text, input_ids=text.input_ids.to(self.device), mask=text.mask.to(self.device)
        )

    def read(self, bert: BertModel, text: TokenBatch) -> Tensor:
        """Texts alone: ``(R, T, D)``."""
        return bert(text.input_ids, mask=text.mask, num_layers=bert.num_text_layers)

    def fuse(
        self,
        bert: BertModel,
        text: TokenBatch,
        context: Context,
        *,
        states: Tensor | None = None,
        summary: bool = False,
    ) -> Tensor:
        """Texts that look at images.

        Args:
            text: R texts, each G consecutive ones about one image.
            context: ``bert.see`` of the image tokens.
            states: What ``read`` has made of the texts, if it is known: ALBEF goes on from there,
                where BLIP starts again, with [ENC].
            summary: Give the first token's state alone, at less work.

        Returns:
            ``(R, T, D)``, or ``(R, 1, D)``; ALPRO's, image tokens behind them, ``(R, T + N, D)``.
        """
        if bert.resumes:
            states = self.read(bert, text) if states is None else states
            first = bert.num_text_layers
            return bert.resume(
                states, first=first, mask=text.mask, context=context, summary=summary
            )
        input_ids = text.input_ids
        if self.encode_id is not None:
            input_ids = input_ids.clone()
            input_ids[:, 0] = self.encode_id
        return bert(input_ids, mask=text.mask, context=context, summary=summary)
