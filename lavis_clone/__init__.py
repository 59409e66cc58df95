"""The unified vision-language library: models, data sets, processors and tasks by name.

Everything here is imported when it is first used, so importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from lavis_clone.common.registry import registry
    from lavis_clone.datasets.builders import dataset_zoo, load_dataset
    from lavis_clone.models import (
        load_model,
        load_model_and_preprocess,
        load_preprocess,
        model_zoo,
    )
    from lavis_clone.processors import load_processor
    from lavis_clone.tasks import setup_task

__version__ = "0.1.0"

__all__ = [
    "dataset_zoo",
    "load_dataset",
    "load_model",
    "load_model_and_preprocess",
    "load_preprocess",
    "load_processor",
    "model_zoo",
    "registry",
    "setup_task",
]

_HOMES = {
    "dataset_zoo": "lavis_clone.datasets.builders",
    "load_dataset": "lavis_clone.datasets.builders",
    "load_model": "lavis_clone.models",
    "load_model_and_preprocess": "lavis_clone.models",
    "load_preprocess": "lavis_clone.models",
    "load_processor": "lavis_clone.processors",
    "model_zoo": "lavis_clone.models",
    "registry": "lavis_clone.common.registry",
    "setup_task": "lavis_clone.tasks",
}


class _LavisPaths:
    """Finds module paths that LAVIS has and we have not, e.g. ``lavis_clone.models.base_model``."""

    @staticmethod
    def find_spec(fullname: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        finder = importlib.import_module("lavis_clone.migration.finder").Finder(__name__)
        found: ModuleSpec | None = finder.find_spec(fullname)
        return found


sys.meta_path.append(_LavisPaths)  # asked last, when nobody else knows a module of ours


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
