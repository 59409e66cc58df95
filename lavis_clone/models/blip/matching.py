"""BLIP as a judge of image-text pairs.

Li et al., https://arxiv.org/abs/2201.12086. Shapes: B images and as many texts, F width of the
common space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import BlipConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.contrastive import ContrastiveFields, summary
from lavis_clone.models.heads.matching import MatchingModel
from lavis_clone.models.outputs import MatchOutput
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipITMConfig(ContrastiveFields, BlipConfig):
    """Fields of BLIP for image-text matching."""

    max_txt_len: int = 35


@registry.register_model("blip_image_text_matching")
class BlipITM(MatchingModel):
    """Says whether a text describes an image."""

    Config = BlipITMConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_image_text_matching"]
    MAY_BE_IGNORED = (
        r"embeddings\.position_ids$",
        r"^(visual_encoder_m|text_encoder_m|text_decoder(_m)?)\.",
        r"^(vision_proj|text_proj)_m\.",
        r"^(temp|image_queue|text_queue|idx_queue|queue_ptr|ptr_queue)$",
    )
    config: BlipITMConfig

    @classmethod
    def build(cls, config: BlipITMConfig) -> BlipITM:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, BertModel(text), tokenizer=tokenizer, config=config)

    def forward(
        self, samples: Mapping[str, Any], match_head: Literal["itm", "itc"] = "itm"
    ) -> Tensor:
        """Judge each pair, or compare every image with every text.

        Args:
            samples: ``image`` ``(B, 3, H, W)`` or ``video`` ``(B, 3, T, H, W)``, ``text_input`` B
                texts.

        Returns:
            ``itm``: ``(B, 2)`` logits, the second of "they match". ``itc``: ``(B, B)`` cosines of
            images (rows) and texts.
        """
        images = self.seen(samples)
        tokens = self.image_tokens(images)
        mask = self.token_mask(samples, tokens)
        text = self.tokenize(samples["text_input"])
        if match_head == "itc":
            states = self.read(self.bert, text)
            return self.image_summary(images, tokens, mask) @ summary(self.text_proj, states).t()
        if match_head != "itm":
            raise ValueError(f"match_head must be itm or itc, got {match_head!r}")
        if len(tokens) != len(text.input_ids):
            raise ValueError(f"{len(tokens)} images but {len(text.input_ids)} texts")
        return self.itm_head(self.fuse(self.bert, text, self.bert.see(tokens, mask))[:, 0])

    @torch.no_grad()
    def match(self, samples: Mapping[str, Any]) -> MatchOutput:
        """Judge each pair, and say how sure that is."""
        logits = self(samples)
        return MatchOutput(logits, logits.softmax(dim=1)[:, 1])
