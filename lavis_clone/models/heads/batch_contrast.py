"""A common space that is learned from the batches of all processes, without a queue.

Shapes: B samples, A of all processes, F width of the common space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.common import dist
from lavis_clone.models.heads.contrastive import (
    TEMPERATURES,
    Comparison,
    ContrastiveModel,
    summary,
)
from lavis_clone.models.outputs import Similarities


class BatchContrast(ContrastiveModel):
    """Compares each sample with those of all processes; gradients go to where they come from.

    Li et al., https://arxiv.org/abs/2112.09583, section 3.2.
    """

    def __init__(self, *towers: Any, tokenizer: Any, config: Any) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        self.temp = nn.Parameter(torch.tensor(config.temp))

    def contrast(self, samples: Mapping[str, Any]) -> Comparison:
        """Take the loss of telling which text belongs to which image, among all of a step.

        Args:
            samples: Under the name in ``IMAGE`` what is looked at, ``text_input`` B texts.

        Raises:
            ValueError: not as many texts as images.
        """
        if missing := [key for key in (self.IMAGE, "text_input") if key not in samples]:
            raise ValueError(f"{type(self).__name__} needs samples[{missing[0]!r}]")
        images, text = samples[self.IMAGE], self._text(samples["text_input"])
        if len(images) != len(text.input_ids):
            raise ValueError(f"{len(images)} {self.IMAGE}s but {len(text.input_ids)} texts")
        with torch.no_grad():
            self.temp.clamp_(*TEMPERATURES)
        tokens, states = self.image_tokens(images), self.read(self.bert, text)
        image, words = self.image_summary(images, tokens), summary(self.text_proj, states)
        i2t = image @ own_first(words).t() / self.temp  # (B, A)
        t2i = words @ own_first(image).t() / self.temp
        right = torch.arange(len(image), device=image.device)
        loss = (F.cross_entropy(i2t.float(), right) + F.cross_entropy(t2i.float(), right)) / 2
        sims = Similarities(i2t, t2i)
        return Comparison(loss, sims, text, tokens, states, image, words, ids=None)


def own_first(x: Tensor) -> Tensor:
    """Every process's ``(B, F)``, this one's first: ``(A, F)``."""
    return dist.gather(x).roll(-dist.rank() * len(x), dims=0)
