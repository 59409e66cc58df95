"""CLIPs of every make that open_clip has, in small."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from torch import nn

from lavis_clone.models.clip.model import ClipModel

TEXTS = ["a red cat", "two blue birds on a house", "", "the dog 🐶 runs, and runs!"]
VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
CLASSIC = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True}
RESNET = CLASSIC | {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}}
CUSTOM = CLASSIC | {"custom_text": True, "quick_gelu": False}
SIGLIP = {
    "embed_dim": 24,
    "init_logit_bias": -10.0,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "test_vit",
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": TEXT
    | {
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
COCA = {
    "embed_dim": 24,
    "custom_text": True,
    "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
    "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
}
MAKES: dict[str, dict[str, Any]] = {
    "classic": CLASSIC,
    "gelu": CLASSIC | {"quick_gelu": False},
    "resnet": RESNET,
    "custom": CUSTOM,
    "siglip": SIGLIP,
    "coca": COCA,
}


def build(block: dict[str, Any], *, seed: int = 0, **changes: Any) -> Any:
    """A model in eval mode whose weights are large enough to tell inputs apart."""
    torch.manual_seed(seed)
    model = ClipModel.from_config({"arch": "clip"} | block | changes)
    stir(model)
    return model.eval()


def stir(model: nn.Module) -> None:
    """Move all weights, so that none is what its initialisation made it."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def reference(block: dict[str, Any], model: ClipModel) -> Any:
    """The same model as open_clip itself has it."""
    given = {key: value for key, value in block.items() if key != "custom_text"}
    if "embed_cls" in block["text_cfg"]:
        decoder = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 1}
        twin: Any = open_clip.CoCa(**given, multimodal_cfg=decoder)
    else:
        kind = open_clip.CustomTextCLIP if block.get("custom_text") else open_clip.CLIP
        twin = kind(**given)
        if "timm_model_name" in block["vision_cfg"]:
            twin.visual.set_input_size(block["vision_cfg"]["image_size"])
    found = twin.load_state_dict(model.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert all(key.startswith("text_decoder.") for key in found.missing_keys)
    return twin.eval()


def images(count: int, *, size: int = 32, seed: int = 0) -> torch.Tensor:
    """``(count, 3, size, size)`` of noise."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
