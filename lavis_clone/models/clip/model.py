"""CLIP: pictures and texts in one space, by two towers that never look at each other.

Radford et al., https://arxiv.org/abs/2103.00020, and its successors as open_clip has them.
Shapes: B samples, R texts, T text tokens, C classes, F width of the common space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.base import BaseModel
from lavis_clone.models.clip import published
from lavis_clone.models.clip.config import ClipConfig
from lavis_clone.models.clip.loss import Contrast
from lavis_clone.models.clip.tokens import ClipTokenizer, build_tokenizer, own_tokenizer
from lavis_clone.models.clip.towers import (
    DECODER,
    CausalReader,
    adopt,
    build_towers,
    first_of,
    set_checkpointing,
    to_own,
)
from lavis_clone.models.clip.zero_shot import IMAGENET_TEMPLATES, Template, class_weights
from lavis_clone.models.encoders.vit import check_images
from lavis_clone.models.heads.chunks import encode_in_chunks
from lavis_clone.models.outputs import (
    ClassOutput,
    FeatureOutput,
    ImageEmbeddings,
    IntermediateOutput,
    ModelOutput,
    TextEmbeddings,
)
from lavis_clone.models.tokenizers import TokenBatch
from lavis_clone.models.zoo import MODEL_TYPES


@registry.register_model("clip_feature_extractor")
@registry.register_model("clip")
class ClipModel(BaseModel):
    """Compares pictures with texts; sorts pictures into classes that are given by their names."""

    Config = ClipConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["clip"]
    POSITION_EMBEDDINGS = ("visual.trunk.pos_embed",)
    MAY_BE_IGNORED = (
        r"^(input_resolution|context_length|vocab_size)$",  # in OpenAI's archives
        r"(^|\.)(attn_mask|position_ids)$",
        rf"^{DECODER}\.",
    )
    MAY_STAY = (r"^logit_bias$",)
    FEATURE_MODES = ("image", "text")
    config: ClipConfig
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None
    visual: nn.Module

    def __init__(self, towers: nn.Module, *, tokenizer: ClipTokenizer, config: ClipConfig) -> None:
        super().__init__()
        adopt(self, towers)
        self.tokenizer, self.config = tokenizer, config
        self.image_size = config.picture_size()
        self.reader = None if hasattr(self, "text") else CausalReader(towers)
        if config.grad_checkpointing:
            set_checkpointing(self)
        sigmoid = self.logit_bias is not None if config.loss is None else config.loss == "sigmoid"
        self.contrast = Contrast(config.gather, config.local_loss, sigmoid)
        self._classes: tuple[tuple[str, ...], tuple[Template, ...]] | None = None
        self._weights: tuple[Any, Tensor] | None = None

    @classmethod
    def build(cls, config: ClipConfig) -> ClipModel:
        architecture = config.architecture()
        text = architecture["text_cfg"]
        if config.vocabulary is None:
            tokenizer = build_tokenizer(text)
        else:
            tokenizer, architecture["text_cfg"] = own_tokenizer(config.vocabulary, text)
        return cls(build_towers(architecture), tokenizer=tokenizer, config=config)

    @classmethod
    def other_type(cls, name: str) -> dict[str, Any] | None:
        """The blocks for any model that open_clip knows by name, see ``published``.

        An architecture without a tag has the weights that open_clip lists first.

        Raises:
            FileError, ConfigError: the files of a hub's model cannot be had, or used.
        """
        tag = None if ":" in name else published.first_tag(name)
        chosen = f"{name}:{tag}" if tag else name
        found = published.find(chosen)
        if found is None:
            return None
        block = {"arch": "clip", "model_type": chosen}
        return {"model": block, "preprocess": published.preprocess(found)}

    # --- weights ----------------------------------------------------------------------------

    def locate(self, location: str | Path) -> str | Path:
        return published.weights_file(str(location), self.config.model_type)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        return super().convert(to_own(state, self), pretrained=pretrained)

    def to_block(self) -> dict[str, Any]:
        return {"arch": registry.models.name_of(type(self))} | self.config.to_block()

    # --- features ---------------------------------------------------------------------------

    @property
    def temp(self) -> Tensor:
        """What cosines are divided by to become logits."""
        return 1 / self.logit_scale.detach().exp()

    def tokenize(self, texts: str | Sequence[str]) -> TokenBatch:
        """R texts as ``(R, T)`` on the model's device; long ones are cut, their end token kept."""
        return self.tokenizer(texts).to(self.device)

    def encode_image(self, image: Tensor) -> Tensor:
        """Pictures ``(B, 3, H, W)`` to ``(B, F)``, not of length 1.

        Raises:
            ValueError: pictures of another size than the model's, or with NaN pixels.
        """
        image = image.to(self.device)
        check_images(image, size=self.image_size)
        return self._see(image)

    def encode_text(self, text: Tensor | str | Sequence[str]) -> Tensor:
        """Texts, or ids ``(R, T)`` of them, to ``(R, F)``, not of length 1."""
        return self._read(text.to(self.device) if isinstance(text, Tensor) else self._ids(text))

    @torch.no_grad()
    def extract_features(
        self, samples: Mapping[str, Any], mode: str | Sequence[str] | None = None
    ) -> FeatureOutput:
        """Features of the pictures and texts in ``samples``.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` R texts, or one of them.
            mode: ``image``, ``text`` or both; None for what there is.

        Raises:
            ValueError: no such mode, or ``samples`` lacks what it needs.
        """
        keys = {"image": "image", "text": "text_input"}
        given = [name for name in self.FEATURE_MODES if samples.get(keys[name]) is not None]
        modes = given if mode is None else [mode] if isinstance(mode, str) else list(mode)
        known = self.FEATURE_MODES
        if not modes or not set(modes) <= set(known):
            raise ValueError(f"mode must be one or more of {', '.join(known)}, got {mode!r}")
        if missing := [keys[name] for name in modes if name not in given]:
            raise ValueError(f"mode {mode!r} needs samples[{missing[0]!r}]")
        output = FeatureOutput()
        if "image" in modes:
            output.image_embeds = self.encode_image(samples["image"])
            output.image_embeds_proj = unit(output.image_embeds)
        if "text" in modes:
            output.text_embeds = self.encode_text(samples["text_input"])
            output.text_embeds_proj = unit(output.text_embeds)
        return output

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> ImageEmbeddings:
        """Encode pictures ``(B, 3, H, W)``, to compare them; each has a single token."""
        features = self.encode_image(images)
        return ImageEmbeddings(unit(features), features[:, None])

    @torch.no_grad()
    def embed_texts(self, texts: str | Sequence[str]) -> TextEmbeddings:
        """Encode R texts, to compare them."""
        batch = self.tokenizer(texts)
        features = unit(self._read(self._shortened(batch)))
        return TextEmbeddings(features, batch.input_ids.to(self.device), batch.mask.to(self.device))

    # --- training ---------------------------------------------------------------------------

    def forward(
        self,
        samples: Mapping[str, Any],
        progress: Progress | None = None,  # noqa: ARG002
    ) -> ModelOutput:
        """The contrastive loss of a batch.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, ``text_input`` B texts.

        Raises:
            ValueError: not as many texts as images.
        """
        images, ids = samples["image"].to(self.device), self._ids(samples["text_input"])
        if len(images) != len(ids):
            raise ValueError(f"{len(images)} images but {len(ids)} texts")
        check_images(images, size=self.image_size)
        if self.training:
            with torch.no_grad():
                self.logit_scale.clamp_(max=math.log(self.config.max_logit_scale))
        size = self.config.chunk_size
        image = encode_in_chunks(self._see, images, size=size, module=self)
        text = encode_in_chunks(self._read, ids, size=size, module=self)
        inner = IntermediateOutput(image_embeds=image, text_embeds=text)
        with torch.autocast(self.device.type, enabled=False):
            scale = self.logit_scale.float().exp()
            inner.image_embeds_proj, inner.text_embeds_proj = unit(image), unit(text)
            loss = self.contrast(
                inner.image_embeds_proj, inner.text_embeds_proj, scale=scale, bias=self.logit_bias
            )
        return ModelOutput(loss, loss_itc=loss, logit_scale_exp=scale, intermediate_output=inner)

    # --- classes by their names -------------------------------------------------------------

    def set_classes(
        self, names: Sequence[str], templates: Sequence[Template] | None = None
    ) -> None:
        """Say what ``predict`` shall sort pictures into.

        Args:
            templates: None for those of the config, or else ImageNet's.
        """
        chosen = templates or self.config.templates or IMAGENET_TEMPLATES
        self._classes = tuple(names), tuple(chosen)

    @torch.no_grad()
    def zero_shot_classifier(
        self, classnames: Sequence[str], templates: Sequence[Template]
    ) -> Tensor:
        """``(F, C)``: what to multiply pictures' features by.

        Args:
            templates: Texts with ``{}`` where the class goes, or functions of its name.
        """
        return class_weights(lambda texts: unit(self.encode_text(texts)), classnames, templates)

    @torch.no_grad()
    def predict(self, samples: Mapping[str, Any]) -> ClassOutput:
        """Sort pictures into the classes of ``set_classes``.

        Args:
            samples: ``image`` ``(B, 3, H, W)``, and ``label`` ``(B,)`` if it is known.

        Raises:
            ValueError: there are no classes yet.
        """
        image = unit(self.encode_image(samples["image"]))
        with torch.autocast(self.device.type, enabled=False):
            logits = image @ self._class_weights() / self.temp
        label = samples.get("label")
        targets = None if label is None else torch.as_tensor(label).to(self.device)
        return ClassOutput(logits, logits.softmax(dim=1).amax(dim=1), targets)

    @torch.no_grad()
    def zero_shot_predict(
        self,
        image_path: Any,
        categories: Sequence[str],
        templates: Sequence[Template] | None = None,
    ) -> dict[str, float]:
        """How likely a picture shows each of some things, the likeliest first.

        Args:
            image_path: A path, an open picture, or one that is processed: ``(3, H, W)``.
            templates: As for ``set_classes``.
        """
        picture = image_path
        if not isinstance(picture, Tensor):
            picture = self._processor()(picture)
        chosen = templates or self.config.templates or IMAGENET_TEMPLATES
        image = unit(self.encode_image(picture[None]))
        logits = image @ self.zero_shot_classifier(categories, chosen) / self.temp
        found = dict(zip(categories, logits.softmax(dim=1)[0].tolist(), strict=True))
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def _class_weights(self) -> Tensor:
        """``(F, C)``, computed anew when the classes or the weights have changed."""
        if self._classes is None:
            raise ValueError("the model has no classes yet; name them with set_classes")
        versions = tuple((id(p), p._version, p.device) for p in self.parameters())
        key = (self._classes, versions)
        if self._weights is None or self._weights[0] != key:
            with torch.autocast(self.device.type, enabled=False):
                self._weights = key, self.zero_shot_classifier(*self._classes)
        return self._weights[1]

    def _processor(self) -> Any:
        """The processor that makes pictures as the model takes them."""
        found = self.config.known()
        blocks = None if found is None else published.preprocess(found)["vis_processor"]
        options = {"name": "clip_image_eval"} if blocks is None else dict(blocks["eval"])
        if self.image_size is not None:
            options["image_size"] = self.image_size
        return registry.get_processor_class(options.pop("name")).from_config(options)

    # --- towers -----------------------------------------------------------------------------

    def _see(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W) -> (B, F)``"""
        return first_of(self.visual(images.to(self.logit_scale.dtype)))

    def _read(self, ids: Tensor) -> Tensor:
        """``(R, T) -> (R, F)``"""
        if self.reader is not None:
            return self.reader(self, ids)
        return first_of(self.get_submodule("text")(ids))

    def _ids(self, texts: str | Sequence[str]) -> Tensor:
        """Texts as ids on the model's device, without padding where that has no effect."""
        return self._shortened(self.tokenizer(texts))

    def _shortened(self, batch: TokenBatch) -> Tensor:
        may = self.tokenizer.may_shorten and self.reader is not None and self.reader.may_shorten
        return (batch.shortened() if may else batch).input_ids.to(self.device)


CLIP = ClipModel
"""LAVIS's name for it."""


def unit(features: Tensor) -> Tensor:
    """``(..., F)`` float32 of length 1"""
    return F.normalize(features.float(), dim=-1)
