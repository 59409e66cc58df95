"""The data sets that the library knows by name, as data.

To add one of a known kind: write its YAML file, then add a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Benchmark(NamedTuple):
    """A data set by name."""

    kind: str
    """What its samples are: a name of ``datasets.kinds.KINDS``."""
    files: Mapping[str, str]
    """The YAML file of each ``type``."""


BENCHMARKS: dict[str, Benchmark] = {
    "coco_caption": Benchmark("caption", {"default": "configs/datasets/coco/defaults_cap.yaml"}),
    "emoji_caption": Benchmark(
        "caption", {"default": "configs/datasets/emoji_caption/defaults.yaml"}
    ),
}
