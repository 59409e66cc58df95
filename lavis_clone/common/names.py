"""Help for people who mistype a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` when a known name is near, else ``""``."""
    near = difflib.get_close_matches(str(wrong), sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
