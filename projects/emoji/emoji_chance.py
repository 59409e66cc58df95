"""Choices that are the same on every machine: a hash decides, and not a generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def number(*parts: object) -> int:
    """A whole number that depends on nothing but ``parts``."""
    text = " ".join(map(str, parts))
    return int(hashlib.md5(text.encode()).hexdigest(), 16)


def pick(options: Sequence[T], *parts: object) -> T:
    """One of ``options``, as ``parts`` decide."""
    return options[number(*parts) % len(options)]


def mixed(items: Iterable[T], key: Callable[[T], object], *parts: object) -> list[T]:
    """``items`` in an order that ``parts`` decide; ``key`` tells them apart."""
    return sorted(items, key=lambda item: number(*parts, key(item)))


def thinned(units: Iterable[T], share: float, key: Callable[[T], object]) -> list[T]:
    """About ``share`` (0 to 1) of ``units``; a smaller share is part of a larger one."""
    return [unit for unit in units if number("thin", key(unit)) % 10_000 < 10_000 * share]
