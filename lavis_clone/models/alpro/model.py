"""What all ALPRO models do with videos and with the public files.

Li et al., https://arxiv.org/abs/2112.09583. Shapes: B videos, T frames of H x W pixels, N video
tokens, E width.
"""

from __future__ import annotations

from torch import Tensor, nn

from lavis_clone.models.alpro.config import AlproConfig
from lavis_clone.models.encoders.timesformer import (
    TimesformerConfig,
    build_video_encoder,
    check_videos,
    fit_positions,
)
from lavis_clone.models.foreign import without_bert_prefix
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.vision_text import VisionTextModel

ANY_OTHER_HEAD = (
    r"^(?!(visual_encoder|text_encoder|vision_proj|text_proj|itm_head|classifier)\.|temp$)"
)
"""Regex of what no model here has a place for, such as the prompter's parts of pre-training."""


class AlproModel(VisionTextModel):
    """Base of the models that watch videos."""

    IMAGE = "video"
    POSITION_EMBEDDINGS = ()
    MAY_BE_IGNORED = (r"embeddings\.position_ids$", r"^text_encoder\.cls\.", ANY_OTHER_HEAD)
    PRETRAINED_MAY_BE_IGNORED = (
        r"^(vision_proj|text_proj|itm_head|classifier)\.",
        r"^temp$",
    )
    config: AlproConfig

    @classmethod
    def build_vision(cls, config: TimesformerConfig) -> nn.Module:
        return build_video_encoder(config)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """Fit places in space and time to this model's; take a pre-training text tower apart."""
        if not isinstance(self.text_encoder, LanguageModel):
            state = without_bert_prefix(state)
        state = fit_positions(state, self, "visual_encoder.model.")
        return super().convert(state, pretrained=pretrained)

    def image_tokens(self, images: Tensor) -> Tensor:
        """``(B, 3, T, H, W)`` -> tokens ``(B, N, E)``, whatever T is.

        Args:
            images: Videos; ``(B, 3, H, W)`` are pictures, videos of one frame.

        Raises:
            ValueError: frames of another size than the model's, or with NaN pixels.
        """
        videos = images[:, :, None] if images.ndim == 4 else images
        videos = videos.to(self.device)
        assert self.image_size is not None
        check_videos(videos, size=self.image_size)
        dtype = next(self.visual_encoder.parameters()).dtype
        tokens: Tensor = self.visual_encoder(videos.to(dtype))
        return tokens
