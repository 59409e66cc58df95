"""What sets ALPRO apart from its relatives: it sees videos, and reads them together with texts.

Li et al., https://arxiv.org/abs/2112.09583.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lavis_clone.common.reading import read
from lavis_clone.models.config import TextConfig
from lavis_clone.models.encoders.bert import BertConfig
from lavis_clone.models.encoders.timesformer import TimesformerConfig

SHORTHANDS = {"n_frms": "num_frames", "image_size": "img_size"}
"""LAVIS's names of sizes."""


@dataclass(frozen=True, kw_only=True)
class AlproConfig(TextConfig):
    """Fields that all ALPRO models share."""

    tower = "timesformer"
    timesformer: dict[str, Any] = field(default_factory=dict)
    """Fields of TimesformerConfig. LAVIS's names are read, too, and give way to those: ``n_frms``,
    ``image_size``, and ``use_grad_ckpt`` with ``ckpt_layer``, of how many last blocks the
    activations are recomputed in the backward pass."""

    def __post_init__(self) -> None:
        super().__post_init__()
        width, text = self.vision().embed_dim, self.text()
        if text.hidden_size != width:
            raise ValueError(
                f"med.hidden_size ({text.hidden_size}) must be timesformer.embed_dim ({width}): "
                "text and video are read as one sequence"
            )
        if text.add_cross_attention:
            raise ValueError("med.add_cross_attention: ALPRO's text tower has no cross-attention")

    def vision(self) -> TimesformerConfig:
        """The video tower that all these fields describe."""
        given = dict(self.timesformer)
        known: dict[str, Any] = {
            own: given.pop(name) for name, own in SHORTHANDS.items() if name in given
        }
        recomputes = given.pop("use_grad_ckpt", False)
        num_blocks = given.pop("ckpt_layer", TimesformerConfig.depth)
        if recomputes:
            known["checkpoint_blocks"] = num_blocks
        return read(TimesformerConfig, known | given, where="timesformer")

    def text(self, **defaults: Any) -> BertConfig:
        """The text tower; unless it says otherwise, its upper half reads text and video."""
        own = {"add_cross_attention": False, "add_type_embeddings": True, **defaults}
        layers = super().text(**own).num_hidden_layers
        text = super().text(**{"fusion_layer": layers // 2, **own})
        return replace(text, encoder_width=self.vision().embed_dim)  # of no use in this family
