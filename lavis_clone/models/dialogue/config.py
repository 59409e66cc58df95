"""What the ``model:`` block of a model that takes part in dialogues may hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lavis_clone.common.blocks import ModelFields


@dataclass(frozen=True, kw_only=True)
class GPTSizes:
    """Fields of transformers' GPT2Config, with its names; the defaults are GPT-2's."""

    n_positions: int = 1024
    """Frames and tokens at most, together."""
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    """None for 4 times ``n_embd``."""
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in ("n_positions", "n_embd", "n_layer", "n_head"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class GPTDialogueConfig(ModelFields):
    """Fields of ``gpt_dialogue``."""

    pretrained: str | None = None
    """A GPT-2 to start from: a file as of ``finetuned``, a folder that holds
    ``model.safetensors``, or a name on the hub, such as ``gpt2``."""
    tokenizer: str = "gpt2"
    """A folder, or a name on the hub: see ``common.dialogue``. Not in LAVIS."""
    len_tokenizer: int | None = None
    """Words in the model's table; None for as many as the tokenizer has."""
    len_video_ft: int = 4224
    """Width of a frame's features: twice 2,048 of I3D, and 128 of VGGish."""
    gpt: GPTSizes = field(default_factory=GPTSizes)
    """Any other size of GPT-2. Not in LAVIS."""
    video_loss_weight: float = 0.0
    """Weight of a second objective, to foretell the features of the next frame (video-audio
    sequence modelling in https://arxiv.org/abs/2002.00163); 0 learns replies alone. Not in
    LAVIS."""

    def __post_init__(self) -> None:
        if self.len_video_ft < 1:
            raise ValueError(f"len_video_ft ({self.len_video_ft}) must be at least 1")
        if self.video_loss_weight < 0:
            raise ValueError(f"video_loss_weight ({self.video_loss_weight}) must be at least 0")

    def picture_size(self) -> None:
        """It takes features, not pictures."""

    def to_block(self) -> dict[str, Any]:
        """The block that builds the same model, with every size written out and no weights."""
        left_out = self.weight_keys()
        return {key: value for key, value in asdict(self).items() if key not in left_out}
