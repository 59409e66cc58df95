"""ALPRO models of toy size, and what they watch and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lavis_clone.common.registry import registry
from tests.models import tiny

TEXTS = ["a red cat", "the dog runs on and on", "blue birds", "a house", "green", "the cat sits"]
QUESTIONS = ["the red cat runs", "a dog sits on the blue house"]


def model_of(name: str, vocabulary: Path, *, seed: int = 0, **changes: Any) -> Any:
    """In evaluation mode, with weights that are large enough to have opinions."""
    torch.manual_seed(seed)
    block = tiny.video_block(name)(vocabulary) | changes
    model = registry.get_model_class(name).from_config(block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def sizes(**changes: Any) -> dict[str, Any]:
    """A ``timesformer:`` block."""
    return tiny.vision_block(embed_dim=12, num_heads=3, num_frames=2, drop_path_rate=0.0) | changes


def samples(count: int, *, frames: int = 2, size: int = tiny.IMAGE_SIZE) -> dict[str, Any]:
    return {"video": tiny.videos(count, frames=frames, size=size), "text_input": TEXTS[:count]}
