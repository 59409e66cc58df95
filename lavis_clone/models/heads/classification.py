"""Sorts images with a text into classes: the text looks at them, and its first token is judged.

Shapes: B samples, I images of each, C classes, N image tokens, E image width, T text tokens, D text
width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavis_clone.common.progress import Progress
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.contrastive import soft_cross_entropy
from lavis_clone.models.heads.momentum import MomentumCopies, MomentumFields
from lavis_clone.models.outputs import ClassOutput, EncoderOutput, IntermediateOutput, ModelOutput
from lavis_clone.models.tokenizers import TokenBatch, Tokenizer
from lavis_clone.models.videos import look
from lavis_clone.models.vision_text import VisionTextModel


@dataclass(frozen=True, kw_only=True)
class ClassFields:
    """What the block of a classifier may hold."""

    num_classes: int
    """C"""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # mixed into a TextConfig
        if self.num_classes < 2:
            raise ValueError(f"num_classes ({self.num_classes}) must be at least 2")


@dataclass(frozen=True, kw_only=True)
class ClassifierFields(ClassFields, MomentumFields):
    """What the block of a classifier with momentum copies may hold."""


@dataclass
class Reading:
    """What the model made of a batch."""

    images: Tensor
    """``(I B, 3, H, W)``: the first images of all samples, then the second ones."""
    text: TokenBatch
    tokens: Tensor
    """``(I B, N, E)``"""
    states: Tensor
    """``(B, T, D)`` of the texts looking at their images"""
    logits: Tensor
    """``(B, C)`` float32"""
    text_states: Tensor | None = None
    """``(B, T, D)`` of the texts alone, where a text that looks goes on from them"""
    token_mask: Tensor | None = None
    """``(B, N)`` bool, True where a token of a video counts; None for everywhere."""


class Classifier(VisionTextModel):
    """Sorts samples into classes."""

    IMAGES: ClassVar[tuple[str, ...]] = ("image",)
    """Where a batch holds the images of its samples."""
    LABEL: ClassVar[str] = "label"
    """Where it holds their classes."""
    HEAD: ClassVar[str] = "cls_head"
    """Name of the layers that judge."""
    HEAD_WIDTHS: ClassVar[int] = 1
    """Width of the first of them, in widths of the text tower."""
    config: Any

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: BertModel,
        *,
        tokenizer: Tokenizer,
        config: Any,
    ) -> None:
        super().__init__(image_encoder, tokenizer=tokenizer, config=config)
        self.text_encoder = text_encoder
        width = text_encoder.config.hidden_size
        inner = self.HEAD_WIDTHS * width
        head = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, config.num_classes)
        )
        self.add_module(self.HEAD, head)

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """From a start, leave out a head for other classes."""
        state = super().convert(state, pretrained=pretrained)
        if not pretrained:
            return state
        own = {name: value.shape for name, value in self.state_dict().items()}
        return {
            name: value
            for name, value in state.items()
            if not name.startswith(self.HEAD) or value.shape == own.get(name)
        }

    def forward(
        self,
        samples: Mapping[str, Any],
        progress: Progress | None = None,  # noqa: ARG002  # every model is told how far training is
        is_train: bool = True,
    ) -> ModelOutput | ClassOutput:
        """Take the loss of the classes that the data set gives.

        Args:
            samples: The images ``(B, 3, H, W)`` under the names in ``IMAGES``, ``text_input`` B
                texts, and under the name in ``LABEL`` ``(B,)`` classes.
            is_train: If false, do what ``predict`` does.

        Raises:
            ValueError: images and texts are not of one number, or a label is absent or no class.
        """
        if not is_train:
            return self.predict(samples)
        return self._learn(samples)[0]

    @torch.no_grad()
    def predict(self, samples: Mapping[str, Any]) -> ClassOutput:
        """Sort samples into classes.

        Args:
            samples: As for ``forward``; without labels, ``targets`` is None.

        Raises:
            ValueError: images and texts are not of one number, or a label is no class.
        """
        images = self._images(samples)
        targets = self._labels(samples, count=len(images) // len(self.IMAGES))
        logits = self._read(samples, images, self.tokenize(samples["text_input"])).logits
        return ClassOutput(logits, logits.softmax(dim=1).amax(dim=1), targets)

    def _learn(self, samples: Mapping[str, Any]) -> tuple[ModelOutput, Reading]:
        images = self._images(samples)
        labels = self._labels(samples, count=len(images) // len(self.IMAGES))
        if labels is None:
            raise ValueError(f"training needs samples[{self.LABEL!r}], the class of each sample")
        reading = self._read(samples, images, self._text(samples["text_input"]))
        loss = self._loss(reading.logits, labels)
        inner = self._inner(reading)
        return ModelOutput(loss, logits=reading.logits, intermediate_output=inner), reading

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def _inner(self, reading: Reading) -> IntermediateOutput:
        return IntermediateOutput(
            image_embeds=self._by_sample(reading.tokens),
            encoder_output=EncoderOutput(reading.states),
        )

    def _text(self, texts: Sequence[str]) -> TokenBatch:
        """The texts to learn from."""
        return self.tokenize(texts)

    def _images(self, samples: Mapping[str, Any]) -> Tensor:
        """``(I B, 3, H, W)``, or ``(B, 3, T, H, W)`` of videos."""
        is_video = self.IMAGES == ("image",) and "image" not in samples and "video" in samples
        names = ("video",) if is_video else self.IMAGES
        if missing := [key for key in (*names, "text_input") if key not in samples]:
            raise ValueError(f"{type(self).__name__} needs samples[{missing[0]!r}]")
        shapes = {name: tuple(samples[name].shape) for name in names}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"the images of a batch must have one shape, got {shapes}")
        return torch.cat([samples[name].to(self.device) for name in names])

    def _labels(self, samples: Mapping[str, Any], *, count: int) -> Tensor | None:
        """``(B,)`` the classes that the data set gives, or None."""
        if samples.get(self.LABEL) is None:
            return None
        labels, last = torch.as_tensor(samples[self.LABEL]), self.last_label
        if labels.shape != (count,) or labels.is_floating_point():
            raise ValueError(
                f"{self.LABEL} must be a class number for each of the {count} samples, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        labels = labels.long()
        wrong = labels[(labels < 0) | (labels > last)]
        if len(wrong):
            raise ValueError(f"{self.LABEL} {int(wrong[0])} is not in 0 to {last}")
        return labels.to(self.device)

    @property
    def last_label(self) -> int:
        """The highest class number that a data set may give."""
        return self.config.num_classes - 1

    def _read(self, samples: Mapping[str, Any], images: Tensor, text: TokenBatch) -> Reading:
        """Let the texts look at their images, and judge what they saw."""
        count = len(images) // len(self.IMAGES)
        if count != len(text.input_ids):
            raise ValueError(f"{count} images but {len(text.input_ids)} texts")
        tokens, bert = self.image_tokens(images), self.text_encoder
        alone = self.read(bert, text) if bert.resumes else None
        mask = self.token_mask(samples, tokens)
        states = self.fuse(bert, text, bert.see(tokens, mask), states=alone)
        logits = self.get_submodule(self.HEAD)(states[:, 0]).float()
        return Reading(images, text, tokens, states, logits, alone, mask)

    def _by_sample(self, tokens: Tensor) -> Tensor:
        """``(I B, N, E)`` -> ``(B, N, E)``, or with two images ``(2, B, N, E)``"""
        return tokens if len(self.IMAGES) == 1 else tokens.unflatten(0, (len(self.IMAGES), -1))


class ClassifierModel(MomentumCopies, Classifier):
    """In training, momentum copies may teach it.

    Li et al., https://arxiv.org/abs/2107.07651, section 3.3.
    """

    RAMP_EPOCHS: ClassVar[float] = 1
    """How long the momentum copies' weight in the targets rises."""
    MAY_STAY = (r"^(visual_encoder|text_encoder|cls_head)_m\.",)
    PRETRAINED_MAY_STAY: ClassVar[tuple[str, ...]] = (r"^cls_head\.",)
    PRETRAINED_MAY_BE_IGNORED: ClassVar[tuple[str, ...]] = (
        r"^((vision_proj|text_proj)(_m)?|itm_head)\.",
        r"^(temp|image_queue|text_queue|idx_queue|queue_ptr|ptr_queue)$",
        r"^text_decoder(_m)?\.",
    )
    POSITION_EMBEDDINGS = ("visual_encoder.pos_embed", "visual_encoder_m.pos_embed")

    def __init__(self, *towers: Any, tokenizer: Tokenizer, config: Any) -> None:
        super().__init__(*towers, tokenizer=tokenizer, config=config)
        parts = ("visual_encoder", "text_encoder", "cls_head")
        self.make_momentum_copies(*(parts if config.use_distill else ()))

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:
        """Leave out momentum copies, if none are kept; from a start, a head for other classes."""
        state = super().convert(state, pretrained=pretrained)
        if self.config.use_distill:
            return state
        return {k: v for k, v in state.items() if not k.partition(".")[0].endswith("_m")}

    def forward(
        self, samples: Mapping[str, Any], progress: Progress | None = None, is_train: bool = True
    ) -> ModelOutput | ClassOutput:
        """Take the loss; the copies' opinion is part of the targets. See ``Classifier``."""
        if not is_train:
            return self.predict(samples)
        output, reading = self._learn(samples)
        if self.config.use_distill:
            alpha = self.distillation(samples, progress, epochs=self.RAMP_EPOCHS)
            self._learn_from_copies(output, reading, alpha)
        return output

    def _learn_from_copies(self, output: ModelOutput, reading: Reading, alpha: float) -> None:
        """Let the copies follow, and make their opinion a part of the targets."""
        inner = output.intermediate_output
        assert inner is not None
        self.follow()
        with torch.no_grad():
            tokens = look(self.get_submodule("visual_encoder_m"), reading.images)
            teacher = self._teacher()
            states = self.fuse(teacher, reading.text, teacher.see(tokens, reading.token_mask))
            output.logits_m = self.get_submodule("cls_head_m")(states[:, 0]).float()
        soft = soft_cross_entropy(reading.logits, output.logits_m.softmax(dim=1))
        output.loss = (1 - alpha) * output.loss + alpha * soft
        inner.image_embeds_m = self._by_sample(tokens)
        inner.encoder_output_m = EncoderOutput(states)

    def _teacher(self) -> BertModel:
        """The text tower that looks at what the copy of the vision tower sees."""
        return cast("BertModel", self.get_submodule("text_encoder_m"))
