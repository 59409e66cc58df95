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

Mode = Literal["image", "text", "multimodal"]
MODES: tuple[Mode, ...] = get_args(Mode)


class FeatureModel(ContrastiveModel):
    """Turns images, texts, and texts that look at images into vectors.

    ``temp`` is the temperature that the model was trained with: divide cosines by it for logits.
    """

    WITH_PARTS: ClassVar[bool] = False
    """Whether ``multimodal`` gives the features of image and text alone, too."""
    temp: Tensor

    def __init__(self, *towers: Any, tokenizer: Tokenizer, config: Any) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        self.temp = nn.Parameter(torch.tensor(0.07))

    @torch.no_grad()
    def extract_features(
        self, samples: Mapping[str, Any], mode: Mode | Sequence[Mode] = "multimodal"
    ) -> FeatureOutput:
        """Encode what ``mode`` says.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` B texts, or the one that is needed.
            mode: ``image``, ``text``, ``multimodal``, or several of them.

        Raises:
            ValueError: no such mode, or ``samples`` lacks what it needs.
        """
        modes = {mode} if isinstance(mode, str) else set(mode)
        if not modes or not modes <= set(MODES):
            raise ValueError(f"mode must be one or more of {', '.join(MODES)}, got {mode!r}")
        both = "multimodal" in modes
        needed = {"image": "image" in modes or both, "text_input": "text" in modes or both}
        if missing := [key for key, wanted in needed.items() if wanted and key not in samples]:
            raise ValueError(f"mode {mode!r} needs samples[{missing[0]!r}]")
        output = FeatureOutput()
        context = None
        if needed["image"]:
            tokens = output.image_embeds = self.image_tokens(samples["image"])
            context = self.bert.see(tokens) if both else None
            if not both or self.WITH_PARTS or "image" in modes:
                output.image_embeds_proj = unit(self.vision_proj(tokens))
        if not needed["text_input"]:
            return output
        text = self.tokenize(samples["text_input"])
        states = None
        if "text" in modes or self.WITH_PARTS:
            states = output.text_embeds = self.read(self.bert, text)
            output.text_embeds_proj = unit(self.text_proj(states))
        if context is not None:
            output.multimodal_embeds = self.fuse(self.bert, text, context, states=states)
        return output


def unit(x: Tensor) -> Tensor:
    """``(..., F)`` of length 1"""
    return F.normalize(x, dim=-1)
