"""Features of images and texts, under the names that LAVIS gives them.

Shapes: see ``FeatureOutput``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.models.heads.contrastive import ContrastiveModel
from lavis_clone.models.outputs import FeatureOutput
from lavis_clone.models.tokenizers import Tokenizer
from lavis_clone.models.videos import mean_of_frames
from lavis_clone.models.vision_text import VisionTextModel

Mode = Literal["image", "text", "multimodal"]
MODES: tuple[Mode, ...] = get_args(Mode)


class FeatureExtraction(VisionTextModel):
    """Turns images, texts, and texts that look at images into vectors.

    A model without a common space gives none of it: ``..._proj`` are None.
    """

    WITH_PARTS: ClassVar[bool] = False
    """Whether ``multimodal`` gives the features of image and text alone, too."""
    FEATURE_MODES: ClassVar[tuple[str, ...]] = MODES
    """What ``extract_features`` can be asked for."""

    @torch.no_grad()
    def extract_features(
        self, samples: Mapping[str, Any], mode: Mode | Sequence[Mode] = "multimodal"
    ) -> FeatureOutput:
        """Encode what ``mode`` says.

        Args:
            samples: ``image`` ``(B, 3, H, W)`` or ``video`` ``(B, 3, T, H, W)``, ``text_input`` B
                texts, or the one that is needed. Where a model looks at one frame at a time,
                ``image_embeds`` holds the tokens of all frames, ``image_embeds_proj`` their mean.
            mode: ``image``, ``text``, ``multimodal``, or several of them.

        Raises:
            ValueError: no such mode, or ``samples`` lacks what it needs.
        """
        modes = {mode} if isinstance(mode, str) else set(mode)
        if not modes or not modes <= set(MODES):
            raise ValueError(f"mode must be one or more of {', '.join(MODES)}, got {mode!r}")
        both = "multimodal" in modes
        shown = self.IMAGE if self.IMAGE in samples or "video" not in samples else "video"
        needed = {shown: "image" in modes or both, "text_input": "text" in modes or both}
        if missing := [key for key, wanted in needed.items() if wanted and key not in samples]:
            raise ValueError(f"mode {mode!r} needs samples[{missing[0]!r}]")
        output = FeatureOutput()
        context = None
        if needed[shown]:
            tokens = output.image_embeds = self.image_tokens(samples[shown])
            mask = self.token_mask(samples, tokens)
            context = self.bert.see(tokens, mask) if both else None
            if not both or self.WITH_PARTS or "image" in modes:
                looks = self.num_looks(samples[shown])
                output.image_embeds_proj = self._projected("vision_proj", tokens, looks, mask)
        if not needed["text_input"]:
            return output
        text = self.tokenize(samples["text_input"])
        states = None
        if "text" in modes or self.WITH_PARTS:
            states = output.text_embeds = self.read(self.bert, text)
            output.text_embeds_proj = self._projected("text_proj", states)
        if context is not None:
            fused = self.fuse(self.bert, text, context, states=states)
            output.multimodal_embeds = fused[:, : text.input_ids.shape[1]]
        return output

    def _projected(
        self, name: str, states: Tensor, num_frames: int = 1, mask: Tensor | None = None
    ) -> Tensor | None:
        """``(B, N, F)`` of length 1, or None where there is no such projection."""
        if not hasattr(self, name):
            return None
        return unit(mean_of_frames(getattr(self, name)(states), num_frames, mask))


class FeatureModel(FeatureExtraction, ContrastiveModel):
    """Does nothing else.

    ``temp`` is the temperature that the model was trained with: divide cosines by it for logits.
    """

    temp: Tensor

    def __init__(self, *towers: Any, tokenizer: Tokenizer, config: Any) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        self.temp = nn.Parameter(torch.tensor(0.07))


def unit(x: Tensor) -> Tensor:
    """``(..., F)`` of length 1"""
    return F.normalize(x, dim=-1)
