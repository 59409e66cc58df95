"""What every model has: a config, a device, and weights that are loaded and saved exactly."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from lavis_clone.common.files import atomic_path, config_file, resolve, write_atomic
from lavis_clone.common.reading import ConfigError, first_line, read
from lavis_clone.models.foreign import resize_position_embeddings
from lavis_clone.models.weights import LoadReport, load_weights, read_checkpoint, unshared

logger = logging.getLogger(__name__)

M = TypeVar("M", bound="BaseModel")

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.yaml"
VOCABULARY_NAME = "vocab.txt"


class BaseModel(nn.Module):
    """A model of the zoo. Subclasses set the class attributes and ``build``."""

    Config: ClassVar[type]
    """Dataclass of what the ``model:`` block may hold."""
    PRETRAINED_MODEL_CONFIG_DICT: ClassVar[Mapping[str, str]] = {}
    """Model type -> YAML file."""
    POSITION_EMBEDDINGS: ClassVar[tuple[str, ...]] = ("visual_encoder.pos_embed",)
    """Entries of a checkpoint that are resized to the model's image size."""
    MAY_BE_IGNORED: ClassVar[tuple[str, ...]] = (r"embeddings\.position_ids$",)
    """Entries of fine-tuned checkpoints that carry nothing for this model."""
    PRETRAINED_MAY_BE_IGNORED: ClassVar[tuple[str, ...]] = ()
    """Further ones in ``pretrained`` files, e.g. the heads of other objectives."""
    MAY_STAY: ClassVar[tuple[str, ...]] = ()
    """What a model needs for training alone, and a checkpoint need not hold."""
    PRETRAINED_MAY_STAY: ClassVar[tuple[str, ...]] = ()
    """Further weights that ``pretrained`` files do not hold, e.g. a new head."""

    FILES: ClassVar[tuple[str, ...]] = ("vocabulary",)
    """Fields of the block that name files which are kept beside the weights."""

    config: Any

    @classmethod
    def build(cls: type[M], config: Any) -> M:
        """Make the model with fresh weights from a checked config."""
        raise NotImplementedError(f"{cls.__name__} has no build()")

    @classmethod
    def from_config(cls: type[M], block: Mapping[str, Any]) -> M:
        """Build from a ``model:`` block, and load the weights that it names.

        ``finetuned`` is loaded unless ``load_finetuned`` is false, else ``pretrained`` unless
        ``load_pretrained`` is false; with neither, the weights are fresh.

        Raises:
            ConfigError: listing everything that is wrong with the block.
        """
        config: Any = read(cls.Config, block, where="model")
        model = cls.build(config)
        model.start()
        if config.load_finetuned and config.finetuned:
            model.load_checkpoint(config.finetuned)
        elif config.load_pretrained and config.pretrained:
            model.load_from_pretrained(config.pretrained)
        return model

    @classmethod
    def other_type(cls, name: str) -> dict[str, Any] | None:  # noqa: ARG003  # subclasses use it
        """The ``model:`` and ``preprocess:`` blocks of a type that has no YAML file, if it is one.

        CLIP has as many as open_clip knows names.
        """
        return None

    def load_checkpoint(self, location: str | Path) -> LoadReport:
        """Load weights of this very model; position embeddings are fitted to the image size.

        Args:
            location: A path, URL, ``hf://org/name/file`` or ``asset://file``.

        Raises:
            WeightError: naming what is missing, left over or of another shape.
        """
        return self._load(location, self.MAY_BE_IGNORED, self.MAY_STAY)

    def load_from_pretrained(self, location: str | Path) -> LoadReport:
        """Start from a pre-trained model of the family: its other heads are left out.

        Raises:
            WeightError: naming what is missing, left over or of another shape.
        """
        ignored = (*self.MAY_BE_IGNORED, *self.PRETRAINED_MAY_BE_IGNORED)
        may_stay = (*self.MAY_STAY, *self.PRETRAINED_MAY_STAY)
        return self._load(location, ignored, may_stay, pretrained=True)

    def start(self) -> None:
        """Put what the config names into fresh weights, before a checkpoint is loaded."""

    def locate(self, location: str | Path) -> str | Path:
        """Where weights lie that may have a name of the family's own, e.g. a tag of open_clip."""
        return location

    def convert(self, state: dict[str, Tensor], *, pretrained: bool) -> dict[str, Tensor]:  # noqa: ARG002  # subclasses use it
        """Turn a checkpoint of another size, or of a relative, into one of this model.

        Args:
            pretrained: Whether it is a pre-trained model to start from.
        """
        return resize_position_embeddings(state, self, self.POSITION_EMBEDDINGS)

    def after_load(self, report: LoadReport) -> None:
        """Set what depends on the weights, when a checkpoint has been loaded."""

    def _load(
        self,
        location: str | Path,
        may_be_ignored: tuple[str, ...],
        may_stay: tuple[str, ...],
        *,
        pretrained: bool = False,
    ) -> LoadReport:
        found = read_checkpoint(self.locate(location))
        state = self.convert(found, pretrained=pretrained)
        report = load_weights(self, state, may_be_ignored=may_be_ignored, may_stay_at_init=may_stay)
        self.after_load(report)
        logger.info("%s: %s", location, report)
        return report

    def to_block(self) -> dict[str, Any]:
        """The ``model:`` block that builds this model again, without weights."""
        raise NotImplementedError(f"{type(self).__name__} has no to_block()")

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        preprocess: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        training_state: bool = True,
    ) -> Path:
        """Write weights (safetensors), config (YAML) and an own vocabulary into ``folder``.

        Args:
            preprocess: The ``preprocess:`` block to keep with it, so that
                ``load_model_and_preprocess`` finds the processors.
            dtype: Store floating-point weights in this type, e.g. ``torch.float16`` for half the
                size; None for their own. Loading turns them back into the model's.
            training_state: Keep what only training needs: momentum copies and queues. Without it,
                training goes on with copies that equal the weights, and with a new queue.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        block = self.to_block()
        self.save_files(folder, block)
        with atomic_path(folder / WEIGHTS_NAME) as path:
            left_out = () if training_state else self.MAY_STAY
            weights = unshared(self, dtype, left_out=left_out)
            save_file(weights, path, metadata={"format": "pt"})
        document: dict[str, Any] = {"model": block}
        if preprocess:
            document["preprocess"] = dict(preprocess)
        write_atomic(folder / CONFIG_NAME, yaml.safe_dump(document, sort_keys=False))
        return folder

    def save_files(self, folder: Path, block: dict[str, Any]) -> None:
        """Write what ``FILES`` name into ``folder``, and their names there into ``block``."""
        if block.get("vocabulary"):
            target = folder / VOCABULARY_NAME
            source = resolve(block["vocabulary"])
            if source.resolve() != target.resolve():
                shutil.copyfile(source, target)
            block["vocabulary"] = VOCABULARY_NAME

    @classmethod
    def from_pretrained(cls: type[M], name: str | Path) -> M:
        """Build the model of a type of the zoo, or one that ``save_pretrained`` wrote.

        Args:
            name: A model type such as ``base_coco``, a folder, or ``hf://org/name``.
        """
        return cls.from_config(read_default_config(cls, str(name))["model"])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def read_default_config(model_class: type[BaseModel], name: str) -> dict[str, Any]:
    """The ``model:`` and ``preprocess:`` blocks of a model type, or of a saved folder.

    In a folder, ``finetuned`` and the model's ``FILES`` become paths into it.

    Raises:
        FileError: The folder holds no config.
        ConfigError: The config is broken.
    """
    if name in model_class.PRETRAINED_MODEL_CONFIG_DICT:
        path = config_file(model_class.PRETRAINED_MODEL_CONFIG_DICT[name])
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    other = model_class.other_type(name)
    if other is not None:
        return other
    path = resolve(f"{name}/{CONFIG_NAME}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {first_line(error)}") from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise ConfigError(f"{path}: must have a block model, as save_pretrained writes it")
    document["model"]["finetuned"] = f"{name}/{WEIGHTS_NAME}"
    processors = ((document.get("preprocess") or {}).get("text_processor") or {}).values()
    for field in model_class.FILES:
        if document["model"].get(field):
            document["model"][field] = f"{name}/{document['model'][field]}"
            for block in processors:
                if field in block:  # it reads the same file
                    block[field] = document["model"][field]
    return document
