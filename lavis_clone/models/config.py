"""What the ``model:`` block of a model with a vision tower and a BERT may hold."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from lavis_clone.common.blocks import ModelFields
from lavis_clone.common.files import config_file, resolve
from lavis_clone.common.reading import read
from lavis_clone.models.encoders.bert import BertConfig
from lavis_clone.models.encoders.vit import SIZES, TransformerConfig, VisionConfig, ViTType
from lavis_clone.models.tokenizers import Tokenizer

PLACES = (
    "med_config_path",
    "text_weights",
    "text_weights_vocabulary",
    "vocabulary",
)
"""Further fields that say where weights and sizes come from."""


@dataclass(frozen=True, kw_only=True)
class TextConfig(ModelFields):
    """Fields that all models with a BERT share.

    ``med`` gives any size; LAVIS's ``med_config_path`` is a shorthand for it.
    """

    extra_tokens: ClassVar[tuple[str, ...]] = ()
    """Special tokens that the family adds behind the vocabulary."""
    tower: ClassVar[str]
    """The field with the sizes of the vision tower."""
    shorthands: ClassVar[tuple[str, ...]] = ()
    """Further fields that describe it."""

    med_config_path: str | None = None
    """JSON file with fields of BertConfig."""
    med: dict[str, Any] = field(default_factory=dict)
    """Fields of BertConfig, over the file's."""
    text_weights: str | None = None
    """A published BERT that the text towers start from, e.g. bert-base-uncased's safetensors file;
    what it lacks, such as cross-attention, is drawn."""
    text_weights_vocabulary: str | None = None
    """The vocabulary of ``text_weights``; None for bert-base-uncased's."""
    vocabulary: str | None = None
    """An own WordPiece vocabulary; None for bert-base-uncased."""
    max_txt_len: int = 40
    """Longer texts are cut to this many tokens, the end token kept."""

    def __post_init__(self) -> None:
        if self.max_txt_len < 2:
            raise ValueError(f"max_txt_len ({self.max_txt_len}) must be at least 2")
        positions = self.text().max_position_embeddings
        if self.max_txt_len > positions:
            raise ValueError(
                f"max_txt_len ({self.max_txt_len}) must be at most "
                f"med.max_position_embeddings ({positions})"
            )

    def vision(self) -> TransformerConfig:
        """The sizes of the vision tower."""
        raise NotImplementedError(f"{type(self).__name__} has no vision()")

    def picture_size(self) -> int | None:
        """Pixels on each side of what the model takes; None for any."""
        return self.vision().fixed_size

    def text(self, **defaults: Any) -> BertConfig:
        """The text tower that all these fields describe.

        Args:
            defaults: Fields of BertConfig for what neither ``med`` nor its file says.
        """
        given: dict[str, Any] = {}
        if self.med_config_path is not None:
            given = json.loads(config_file(self.med_config_path).read_text(encoding="utf-8"))
        return read(BertConfig, {**defaults, **given, **self.med}, where="med")

    def tokenizer(self) -> Tokenizer:
        """The vocabulary, with the family's special tokens behind it."""
        path = None if self.vocabulary is None else resolve(self.vocabulary)
        return Tokenizer(path, extra=self.extra_tokens)

    def to_block(self, *, vision: TransformerConfig, text: BertConfig) -> dict[str, Any]:
        """The block that builds the same model, with every size written out and no weights."""
        left_out = {*self.weight_keys(), *PLACES, *self.shorthands}
        block = {k: v for k, v in asdict(self).items() if k not in left_out}
        sizes = {k: v for k, v in asdict(vision).items() if k != "weights" and v is not None}
        words = {k: v for k, v in asdict(text).items() if v is not None}
        block |= {self.tower: sizes, "med": words}
        return block | ({"vocabulary": self.vocabulary} if self.vocabulary else {})


@dataclass(frozen=True, kw_only=True)
class VisionTextConfig(TextConfig):
    """Fields that all BLIP and ALBEF models share.

    ``vit`` and ``med`` give any size; LAVIS's ``vit_*``, ``image_size`` and ``med_config_path``
    are shorthands for them.
    """

    tower = "vit"
    shorthands = (
        "vit_type",
        "vit_grad_ckpt",
        "vit_ckpt_layer",
        "vit_drop_path_rate",
        "vit_layer_norm_epsilon",
        "image_size",
    )
    vit_type: ViTType = "base"
    vit_grad_ckpt: bool | Literal["offload"] = False
    """Recompute activations of the last ``vit_ckpt_layer`` blocks in the backward pass; with
    ``offload`` from what waits in the CPU's memory, which needs fairscale. Text towers have
    ``med: {checkpoint_layers: 12}``. Both words are not in LAVIS."""
    vit_ckpt_layer: int = 0
    vit_drop_path_rate: float | None = None
    """None for the size's own: 0 (base), 0.1 (large)."""
    vit_layer_norm_epsilon: float = 1e-6
    image_size: int | None = None
    """Pixels on each side; None for 384, or what ``vit`` says."""
    vit: dict[str, Any] = field(default_factory=dict)
    """Fields of VisionConfig, over the shorthands."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vision()

    def vision(self) -> VisionConfig:
        """The vision tower that all these fields describe."""
        given: dict[str, Any] = {
            "img_size": 384,
            "layer_norm_eps": self.vit_layer_norm_epsilon,
            "checkpoint_blocks": self.vit_ckpt_layer if self.vit_grad_ckpt else 0,
            "checkpoint_offload": self.vit_grad_ckpt == "offload",
            **SIZES[self.vit_type],
        }
        if self.vit_drop_path_rate is not None:
            given["drop_path_rate"] = self.vit_drop_path_rate
        given |= self.vit
        if self.image_size is not None:
            given["img_size"] = self.image_size
        return read(VisionConfig, given, where="vit")
