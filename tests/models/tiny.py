"""Models that build in a moment, and what to feed them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
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


def video_block(arch: str, **changes: Any) -> Callable[[Path], dict[str, Any]]:
    """The ``model:`` block of a model that watches videos, given a vocabulary."""
    sizes = vision_block(embed_dim=12, num_heads=3, num_frames=2, drop_path_rate=0.0)

    def given(vocabulary: Path) -> dict[str, Any]:
        own = {"arch": arch, "timesformer": sizes, "med": text_block(), "max_txt_len": 12}
        return own | {"vocabulary": str(vocabulary)} | changes

    return given


def clip_block(arch: str, **changes: Any) -> Callable[[Path], dict[str, Any]]:
    """The ``model:`` block of a CLIP, given a vocabulary."""
    vision = {"image_size": IMAGE_SIZE, "patch_size": 8, "width": 12, "layers": 2, "head_width": 4}
    text = {"context_length": 12, "width": 12, "heads": 3, "layers": 2}

    def given(vocabulary: Path) -> dict[str, Any]:
        own = {"arch": arch, "embed_dim": 6, "vision_cfg": vision, "text_cfg": text}
        own["init_logit_scale"] = 0.0  # so that a step of training is a small one
        return own | {"vocabulary": str(vocabulary)} | changes

    return given


def stated(name: str, model_type: str) -> tuple[str, str]:
    """What the file of a model's type says: LAVIS has two names for CLIP, and for one type."""
    if name not in ("clip", "clip_feature_extractor"):
        return name, model_type
    return "clip", "ViT-B-32" if model_type == "base" else model_type


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


DIALOGUES = (
    "is the man alone in the room ? yes , he is alone",
    "what does he do ? he takes a red cup from the table and drinks",
    "does he speak ? no , he does not speak at all",
    "a man drinks in the kitchen . the man is happy",
)


def write_gpt2_words(folder: Path) -> Path:
    """A byte-level BPE of GPT-2's kind as ``vocab.json`` and ``merges.txt``, in a few words."""
    path = folder / "gpt2_words"
    if path.is_dir():  # what is learned is not repeatable
        return path
    path.mkdir()
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(
        DIALOGUES, vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False
    )
    learner.save_model(str(path))
    return path


def gpt_block(**changes: Any) -> dict[str, Any]:
    """Fields of GPTSizes."""
    return {"n_positions": 64, "n_embd": 12, "n_layer": 2, "n_head": 3} | changes


def dialogue_block(folder: Path, **changes: Any) -> dict[str, Any]:
    """The ``model:`` block of a model for dialogues, whose words are written into ``folder``."""
    return {
        "arch": "gpt_dialogue",
        "tokenizer": str(write_gpt2_words(folder)),
        "len_video_ft": 5,
        "gpt": gpt_block(),
    } | changes


def videos(count: int, *, frames: int = 2, size: int = IMAGE_SIZE, seed: int = 0) -> Tensor:
    """``(count, 3, frames, size, size)`` of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, frames, size, size, generator=generator)
