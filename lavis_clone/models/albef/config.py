"""What sets ALBEF apart from its relatives: its text tower looks at images in the upper half only.

Li et al., https://arxiv.org/abs/2107.07651.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lavis_clone.models.config import VisionTextConfig
from lavis_clone.models.encoders.bert import BertConfig


@dataclass(frozen=True, kw_only=True)
class AlbefConfig(VisionTextConfig):
    """Fields that all ALBEF models share."""

    def text(self, **defaults: Any) -> BertConfig:
        """The text tower; unless it says otherwise, its upper half looks at images."""
        layers = super().text(**defaults).num_hidden_layers
        return super().text(**{"fusion_layer": layers // 2, **defaults})
