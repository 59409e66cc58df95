"""What the shipped YAML files say about their data sets, read without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lavis_clone.common.files import config_file
from lavis_clone.datasets.builders.table import BENCHMARKS, Benchmark

HEAD = ("Data set", "Kind", "Types", "Splits", "Licence", "Where its media come from")
OWN_KIND = "own"
"""What stands for the kind of a data set that its block or its builder says."""
ANSWER_CLASSES = "ans2label"
"""No split, though it stands among them; as in ``builders.base``, which imports torch."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One data set as a row of the table."""

    name: str
    kind: str
    types: tuple[str, ...]
    splits: Mapping[str, int | None]
    """Of the first type: samples of each split as its makers count them, or None."""
    licence: str = ""
    homepage: str = ""
    media: str = ""
    """Where its pictures or videos come from."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as texts, one below each of ``HEAD``."""
        sizes = [f"{s} {n:,}" if n is not None else s for s, n in self.splits.items()]
        types = ", ".join(self.types)
        return (self.name, self.kind, types, ", ".join(sizes), self.licence, self.media)


def listing_of(name: str, types: Sequence[str]) -> Listing:
    """What is known of a data set; of one that a plugin brings only its name and types."""
    benchmark = BENCHMARKS.get(name)
    if benchmark is None or not benchmark.files:
        return Listing(name=name, kind=OWN_KIND, types=tuple(types), splits={})
    return _listing(name, benchmark)


def as_table(listings: Iterable[Listing]) -> str:
    """Rows below a head, the columns aligned."""
    rows = [HEAD, *(listing.cells for listing in listings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "=" * max(map(len, lines)), *lines[1:]])


def _listing(name: str, benchmark: Benchmark) -> Listing:
    block = _block(next(iter(benchmark.files.values())), name)
    about, info = block.get("about") or {}, block["build_info"]
    named = info.get("annotations") or dict.fromkeys(info.get("splits") or ())
    sizes = about.get("size") or {}
    return Listing(
        name=name,
        kind=benchmark.kind,
        types=tuple(benchmark.files),
        splits={split: sizes.get(split) for split in named if split != ANSWER_CLASSES},
        licence=about.get("licence", ""),
        homepage=about.get("homepage", ""),
        media=about.get("media", ""),
    )


def _block(path: str, name: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times faster where it is built
    content = yaml.load(config_file(path).read_text(encoding="utf-8"), loader)  # noqa: S506  # safe
    block: dict[str, Any] = content["datasets"][name]
    return block
