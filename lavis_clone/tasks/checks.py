"""What tasks look at in data sets before any work."""

from __future__ import annotations

from typing import Any


def label_of(dataset: Any) -> str:
    """What a message about a data set begins with: ``name/split: ``."""
    names = (getattr(dataset, "name", ""), getattr(dataset, "split", ""))
    label = "/".join(filter(None, names))
    return f"{label}: " if label else ""


def require_one(dataset: Any, *, task: str) -> None:
    """Refuse several data sets in one, where samples of different ones cannot be told apart.

    Raises:
        ValueError: naming them.
    """
    if len(getattr(dataset, "datasets", ())) > 1:
        raise ValueError(f"{label_of(dataset)}task {task!r} evaluates one data set at a time")
