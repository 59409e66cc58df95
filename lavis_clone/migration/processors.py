"""The base classes of processors that were written for LAVIS."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import Normalize

from lavis_clone.migration.adapting import takes_configs
from lavis_clone.processors import base
from lavis_clone.processors.image import MEAN, STD

Numbers = tuple[float, float, float]


class BaseProcessor(base.BaseProcessor):
    """A processor whose ``from_config`` reads an OmegaConf.

    What it does is its ``transform``, a method or an attribute.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        takes_configs(cls)


class BlipImageBaseProcessor(BaseProcessor):
    """A processor with ``normalize``, for tensors with values from 0 to 1."""

    def __init__(self, mean: Numbers | None = None, std: Numbers | None = None) -> None:
        self.normalize = Normalize(MEAN if mean is None else mean, STD if std is None else std)
