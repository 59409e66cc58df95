"""Tables that turn a name in a YAML file into the code that builds it.

Built-in components are declared by module path, so listing them imports nothing and an absent
optional package hurts only the component that needs it. Packages outside the library add theirs
through the entry-point group ``lavis_clone.plugins``: each entry point names a module whose
import registers components.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from lavis_clone.common.names import suggest

T = TypeVar("T")
C = TypeVar("C")

PLUGIN_GROUP = "lavis_clone.plugins"


class UnknownName(LookupError):
    """No component carries the name that was asked for."""


class Registry(Generic[T]):
    """One table: models, or tasks, or processors.

    Args:
        kind: What the table holds, as a word for messages, e.g. ``"model"``.
        home: The package that declares the built-in components, imported at first use.
    """

    def __init__(self, kind: str, *, home: str | None = None) -> None:
        self.kind = kind
        self._home = home
        self._modules: dict[str, str] = {}
        self._items: dict[str, T] = {}

    def declare(self, modules: Mapping[str, str]) -> None:
        """Say which module registers each built-in name; imports none of them."""
        self._modules.update(modules)

    def register(self, name: str) -> Callable[[C], C]:
        """Decorate the class or function that ``name`` should build.

        Raises:
            ValueError: ``name`` is taken by something else.
        """

        def add(item: C) -> C:
            known: Any = self._items.get(name)
            if known is not None and not _same_definition(known, item):
                raise ValueError(f"{self.kind} {name!r} is already registered: {known!r}")
            self._items[name] = item  # type: ignore[assignment]  # the decorator keeps its type
            return item

        return add

    def get(self, name: str) -> T:
        """Return what is registered under ``name``, importing its module at first use.

        Raises:
            UnknownName: with the nearest registered name, if one is near.
        """
        self._open()
        if name not in self._items and name in self._modules:
            importlib.import_module(self._modules[name])  # runs the decorator
        if name not in self._items:
            known = self.names()
            raise UnknownName(
                f"unknown {self.kind} {name!r}{suggest(name, known)} "
                f"(registered: {', '.join(known)})"
            )
        return self._items[name]

    def name_of(self, item: object) -> str:
        """The first name that ``item`` was registered under.

        Raises:
            UnknownName: it has none.
        """
        for name, known in self._items.items():
            if known is item:
                return name
        raise UnknownName(f"{item!r} is registered under no {self.kind} name")

    def names(self) -> list[str]:
        """Every name that ``get`` accepts, sorted; imports no component."""
        self._open()
        return sorted(self._modules.keys() | self._items.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _open(self) -> None:
        if self._home is not None:
            importlib.import_module(self._home)
        load_plugins()


def _same_definition(a: Any, b: Any) -> bool:
    """Whether both are one definition, met again because its module was imported twice."""
    names = [(getattr(x, "__module__", None), getattr(x, "__qualname__", None)) for x in (a, b)]
    return names[0] == names[1] and None not in names[0]


@functools.cache
def load_plugins() -> None:
    """Import every module that an installed package lists under ``lavis_clone.plugins``."""
    for entry_point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        entry_point.load()


class Registries:
    """All tables of the library, with the method names that LAVIS's registry had."""

    def __init__(self) -> None:
        self.models: Registry[Any] = Registry("model", home="lavis_clone.models")
        self.processors: Registry[Any] = Registry("processor", home="lavis_clone.processors")
        self.builders: Registry[Any] = Registry("dataset", home="lavis_clone.datasets.builders")
        self.tasks: Registry[Any] = Registry("task", home="lavis_clone.tasks")
        self.runners: Registry[Any] = Registry("runner", home="lavis_clone.runners")
        self.lr_schedulers: Registry[Any] = Registry(
            "lr scheduler", home="lavis_clone.common.schedules"
        )

    def register_model(self, name: str) -> Callable[[C], C]:
        return self.models.register(name)

    def register_processor(self, name: str) -> Callable[[C], C]:
        return self.processors.register(name)

    def register_builder(self, name: str) -> Callable[[C], C]:
        return self.builders.register(name)

    def register_task(self, name: str) -> Callable[[C], C]:
        return self.tasks.register(name)

    def register_runner(self, name: str) -> Callable[[C], C]:
        return self.runners.register(name)

    def register_lr_scheduler(self, name: str) -> Callable[[C], C]:
        return self.lr_schedulers.register(name)

    def get_model_class(self, name: str) -> Any:
        return self.models.get(name)

    def get_processor_class(self, name: str) -> Any:
        return self.processors.get(name)

    def get_builder_class(self, name: str) -> Any:
        return self.builders.get(name)

    def get_task_class(self, name: str) -> Any:
        return self.tasks.get(name)

    def get_runner_class(self, name: str) -> Any:
        return self.runners.get(name)

    def get_lr_scheduler_class(self, name: str) -> Any:
        return self.lr_schedulers.get(name)

    def list_models(self) -> list[str]:
        return self.models.names()

    def list_processors(self) -> list[str]:
        return self.processors.names()

    def list_datasets(self) -> list[str]:
        return self.builders.names()

    def list_tasks(self) -> list[str]:
        return self.tasks.names()

    def list_runners(self) -> list[str]:
        return self.runners.names()

    def list_lr_schedulers(self) -> list[str]:
        return self.lr_schedulers.names()


registry = Registries()
