"""Makes LAVIS's module paths importable: a name that they had leads to ours.

``table.py`` says what each path holds. Modules that stand for a path load nothing until one of
their names is used. What is not here is an error that says what to use in its place.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from lavis_clone.common.names import suggest
from lavis_clone.migration.table import ABSENT, MODULES, Place, absent_name

OWN = "lavis_clone"
THEIRS = "lavis"


class Alias(ModuleType):
    """A module of LAVIS's, which holds our names."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(name, f"LAVIS's {name}; see lavis_clone.migration")
        self._lavis_place = place
        self.__path__: list[str] = []  # a package, so that what is not here is told by the finder

    @property
    def __all__(self) -> list[str]:
        return self._lavis_names()

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._lavis_names()})

    def __getattr__(self, name: str) -> Any:
        place = self._lavis_place
        if name in place.names:
            module, _, attribute = place.names[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name.startswith("__"):
            raise AttributeError(name)
        inner = ".".join([*self.__name__.split(".")[1:], name])
        if inner in MODULES:  # importing LAVIS imports all of it
            return importlib.import_module(f"{self.__name__}.{name}")
        if place.home is not None:
            home = importlib.import_module(place.home)
            if hasattr(home, name):
                return getattr(home, name)
        raise AttributeError(_told(f"{self.__name__}.{name}"))

    def _lavis_names(self) -> list[str]:
        return sorted({*_names_of(self._lavis_place.home), *self._lavis_place.names})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of the table below one package.

    Args:
        package: ``lavis``, or ``lavis_clone`` for paths that it does not have itself.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the protocol's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module of LAVIS's.

        Raises:
            ModuleNotFoundError: it is LAVIS's, and is not here.
        """
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        inner = fullname.removeprefix(self.package).removeprefix(".")
        if inner in MODULES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if self.package == THEIRS or _advice(inner):
            raise ModuleNotFoundError(_told(fullname))
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module that stands for a path; it is ready as it is."""
        return Alias(spec.name, MODULES[spec.name.removeprefix(self.package).removeprefix(".")])

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""


def install() -> None:
    """Let ``import lavis`` and everything below it mean ours, in place of an installed LAVIS."""
    if not any(isinstance(f, Finder) and f.package == THEIRS for f in sys.meta_path):
        sys.meta_path.insert(0, Finder(THEIRS))


def _names_of(home: str | None) -> list[str]:
    """What a module of ours says that it has."""
    return [] if home is None else getattr(importlib.import_module(home), "__all__", [])


def _told(fullname: str) -> str:
    """That there is no such thing, and what there is."""
    package, _, inner = fullname.partition(".")
    advice = _advice(inner)
    if advice:
        return f"lavis_clone has no {package}.{inner}: {advice}"
    parent, _, name = inner.rpartition(".")
    place = MODULES.get(parent)
    known = [] if place is None else [*place.names, *_names_of(place.home)]
    known += [path.removeprefix(f"{parent}.") for path in MODULES if path.startswith(f"{parent}.")]
    return f"lavis_clone has no {package}.{inner}{suggest(name, known)}; see docs/migration.md"


def _advice(inner: str) -> str:
    """What to use in place of a path or a name, if that is known."""
    parts = inner.split(".")
    for length in range(len(parts), 0, -1):
        found = ABSENT.get(".".join(parts[:length]))
        if found is not None:
            return found
    return next(filter(None, map(absent_name, reversed(parts))), "")
