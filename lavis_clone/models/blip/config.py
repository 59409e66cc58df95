"""What sets BLIP apart from its relatives: two special tokens.

Li et al., https://arxiv.org/abs/2201.12086.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lavis_clone.models.config import VisionTextConfig

DECODE, ENCODE = "[DEC]", "[ENC]"
"""First token of what BLIP writes, and of what it reads together with an image."""


@dataclass(frozen=True, kw_only=True)
class BlipConfig(VisionTextConfig):
    """Fields that all BLIP models share."""

    extra_tokens: ClassVar[tuple[str, ...]] = (DECODE, ENCODE)
