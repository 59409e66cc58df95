"""Models that build in a moment, and what to feed them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavis_clone.models.blip.caption import BlipCaption

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    *("a", "of", "picture", "red", "blue", "green", "cat", "dog", "bird", "house", "and", "on"),
    *("the", "sits", "runs", ".", ",", "'", "s", "##s", "##ing", "##fully"),
)
IMAGE_SIZE = 16


def write_vocabulary(folder: Path) -> Path:
    """A vocabulary of the words above and of single letters."""
    letters = [part for letter in LETTERS for part in (letter, f"##{letter}")]
    path = folder / "vocab.txt"
    tokens = dict.fromkeys([*SPECIAL, *WORDS, *letters])
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return path


def vision_block(**changes: Any) -> dict[str, Any]:
    """Fields of VisionConfig: 4 patches and [CLS]."""
    sizes = {"img_size": IMAGE_SIZE, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2}
    return sizes | changes


def text_block(**changes: Any) -> dict[str, Any]:
    """Fields of BertConfig, but for the number of words."""
    sizes = {
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 16,
        "max_position_embeddings": 32,
    }
    return sizes | changes


def block(arch: str, **changes: Any) -> Callable[[Path], dict[str, Any]]:
    """The ``model:`` block of any model, given a vocabulary."""

    def given(vocabulary: Path) -> dict[str, Any]:
        own = {"arch": arch, "vit": vision_block(), "med": text_block(), "max_txt_len": 12}
        return own | {"vocabulary": str(vocabulary)} | changes

    return given


def caption_block(vocabulary: Path, **changes: Any) -> dict[str, Any]:
    """The ``model:`` block of a captioner."""
    return {
        "arch": "blip_caption",
        "vit": vision_block(),
        "med": text_block(),
        "vocabulary": str(vocabulary),
        "max_txt_len": 12,
        "prompt": "a picture of ",
    } | changes


def caption_model(vocabulary: Path, *, seed: int = 0, **changes: Any) -> BlipCaption:
    """A captioner in eval mode whose weights are large enough to have opinions."""
    torch.manual_seed(seed)
    model = BlipCaption.from_config(caption_block(vocabulary, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def images(count: int, *, size: int = IMAGE_SIZE, seed: int = 0) -> Tensor:
    """``(count, 3, size, size)`` of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator)
