"""What the ``model:`` block of CLIP may hold."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import open_clip

from lavis_clone.common.blocks import ModelFields
from lavis_clone.common.names import suggest
from lavis_clone.common.reading import ConfigError
from lavis_clone.models.clip import published

TOWER_KEYS = {
    "vision_cfg": [f.name for f in fields(open_clip.CLIPVisionCfg)],
    "text_cfg": [f.name for f in fields(open_clip.CLIPTextCfg)],
}
"""What open_clip's two towers can be told."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig(ModelFields):
    """Fields of CLIP. What ``model_type`` names gives the sizes, and the others change them."""

    model_type: str | None = None
    """A name that open_clip knows (``models/clip/published.py`` says which there are), or any
    other if ``embed_dim``, ``vision_cfg`` and ``text_cfg`` are given."""
    pretrained: str | None = None
    """Weights as ``finetuned`` names them, or the tag of published ones, e.g. ``openai``; None for
    the tag in ``model_type``, if there is one."""
    embed_dim: int | None = None
    """F, the width of the common space."""
    vision_cfg: dict[str, Any] = field(default_factory=dict)
    """Fields of ``open_clip.CLIPVisionCfg``: ``layers``, ``width``, ``patch_size``, ..."""
    text_cfg: dict[str, Any] = field(default_factory=dict)
    """Fields of ``open_clip.CLIPTextCfg``: ``context_length``, ``layers``, ``width``, ..."""
    quick_gelu: bool | None = None
    """The activation of OpenAI's models; None for what ``model_type`` and weights are known to
    have."""
    init_logit_scale: float | None = None
    """Logarithm of what cosines are multiplied by at first; None for log(1 / 0.07)."""
    init_logit_bias: float | None = None
    """What is added to the logits at first; None for no such weight. SigLIP has -10."""
    custom_text: bool | None = None
    """Keep the text tower's weights under ``text.``, as open_clip does for some models."""
    image_size: int | None = None
    """Pixels on each side, in place of ``vision_cfg``'s."""
    vocabulary: str | None = None
    """An own WordPiece vocabulary; None for CLIP's, or what ``text_cfg`` names."""
    templates: list[str] = field(default_factory=list)
    """Texts that name a class, which goes where ``{}`` is; none for the 80 of ImageNet."""
    loss: Literal["softmax", "sigmoid"] | None = None
    """CLIP's or SigLIP's; None for SigLIP's if there is a logit bias."""
    gather: bool = True
    """Compare with the samples of all processes."""
    local_loss: bool = False
    """With ``gather``: each process computes the logits of its own samples alone, not of all."""
    chunk_size: int | None = None
    """Samples that are encoded at a time in training; a batch of any size then needs memory for the
    activations of so many."""
    grad_checkpointing: bool = False
    """Recompute the activations of each layer in the backward pass."""
    max_logit_scale: float = 100.0
    """What cosines are multiplied by at most, in training."""

    def __post_init__(self) -> None:
        tag = self._tag()
        if tag and self.pretrained is None:
            object.__setattr__(self, "pretrained", tag)
        sizes = self.architecture()
        problems = [
            f"{name}.{key}: unknown key{suggest(str(key), known)}"
            for name, known in TOWER_KEYS.items()
            for key in sizes[name]
            if key not in known
        ]
        for name in ("embed_dim", "image_size", "chunk_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name} ({value}) must be at least 1")
        if self.max_logit_scale <= 0:
            problems.append(f"max_logit_scale ({self.max_logit_scale}) must be more than 0")
        problems += [
            f"templates: must hold {{}} where the class goes, got {template!r}"
            for template in self.templates
            if "{}" not in template
        ]
        if problems:
            raise ConfigError.of(problems)

    def known(self) -> published.Published | None:
        """What ``model_type`` names, if anything: with the weights that ``pretrained`` names."""
        if self.model_type is None:
            return None
        tagged = self.pretrained and published.find(f"{self.model_type}:{self.pretrained}")
        return tagged or published.find(self.model_type)

    def architecture(self) -> dict[str, Any]:
        """Arguments of open_clip's model classes, with ``custom_text``.

        Raises:
            ValueError: neither the name nor the fields say what to build.
        """
        found = self.known()
        given: dict[str, Any] = {"vision_cfg": {}, "text_cfg": {}, "custom_text": False}
        if found is not None:
            given |= copy.deepcopy(dict(found.model)) | {"custom_text": found.custom_text}
        elif self.embed_dim is None:
            raise ValueError(self._unknown())
        if self.pretrained and self.pretrained.startswith(published.OPENAI):
            given["quick_gelu"] = True
        for name in (*published.SCALARS, "custom_text"):
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        given["vision_cfg"] |= self.vision_cfg
        given["text_cfg"] |= self.text_cfg
        if self.image_size is not None:
            given["vision_cfg"]["image_size"] = self.image_size
        given["custom_text"] |= bool(given["text_cfg"].get("hf_model_name"))
        return given

    def picture_size(self) -> int | None:
        """Pixels on each side of the pictures that the model takes; None when they differ."""
        vision = self.architecture()["vision_cfg"]
        size = vision.get("image_size", open_clip.CLIPVisionCfg.image_size)
        if isinstance(size, list | tuple):
            return int(size[0]) if len(set(size)) == 1 else None
        return int(size)

    def to_block(self) -> dict[str, Any]:
        """The block that builds the same model, with every size written out and no weights."""
        left_out = {"image_size", "custom_text", *published.SCALARS, *self.weight_keys()}
        own = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in left_out and getattr(self, f.name) not in (None, [])
        }
        sizes = {k: v for k, v in self.architecture().items() if v is not None}
        return own | copy.deepcopy(sizes)

    def _tag(self) -> str | None:
        """The name of the weights that ``model_type`` asks for."""
        name = self.model_type or ""
        if name.startswith((published.HUB, published.FOLDER)):
            return name
        return name.partition(":")[2] or None

    def _unknown(self) -> str:
        if self.model_type is None:
            return "model_type or embed_dim, vision_cfg and text_cfg: required, but not given"
        return (
            f"model_type {self.model_type!r} is no name that open_clip knows"
            f"{published.hint(self.model_type)}; give embed_dim, vision_cfg and text_cfg for a "
            "model of your own"
        )
