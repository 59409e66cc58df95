"""LAVIS's registry: ours, and a place for paths and for anything else by name."""

from __future__ import annotations

import importlib
from typing import Any

from lavis_clone.common import registry as own
from lavis_clone.common.files import cache_root, package_root


class LavisRegistry:
    """What is registered here is registered for the whole library. An unknown name is an error."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(own.registry, name)

    def get_runner_class(self, name: str) -> Any:
        """A class that is built with LAVIS's arguments."""
        runners = importlib.import_module("lavis_clone.migration.runners")  # not before it is used
        return runners.with_lavis_arguments(own.registry.get_runner_class(name))

    def register_path(self, name: str, path: str) -> None:
        """Keep a path by name."""
        self._paths[name] = str(path)

    def get_path(self, name: str) -> str:
        """A path that was registered, or ``library_root``, ``repo_root`` or ``cache_root``.

        Raises:
            KeyError: there is none of that name.
        """
        if name in self._paths:
            return self._paths[name]
        known = {
            "library_root": package_root(),
            "repo_root": package_root().parent,
            "cache_root": cache_root(),
        }
        return str(known[name])

    def register(self, name: str, obj: Any) -> None:
        """Keep anything by name."""
        self._values[name] = obj

    def get(self, name: str, default: Any = None, no_warning: bool = False) -> Any:  # noqa: ARG002
        """What ``register`` was given."""
        return self._values.get(name, default)

    def unregister(self, name: str) -> Any:
        """Forget it."""
        return self._values.pop(name, None)


registry = LavisRegistry()
