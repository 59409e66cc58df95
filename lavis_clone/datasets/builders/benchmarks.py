"""A builder for each data set of the table."""

from __future__ import annotations

from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.common.schema import DatasetBlock
from lavis_clone.datasets.builders.base import BaseDatasetBuilder
from lavis_clone.datasets.builders.table import BENCHMARKS, Benchmark


def builder_class(name: str, benchmark: Benchmark) -> type[BaseDatasetBuilder]:
    """``BaseDatasetBuilder`` with the values of one data set."""
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"Builds {name}.",
        "name": name,
        "kind": benchmark.kind,
        "Config": DatasetBlock,
        "DATASET_CONFIG_DICT": dict(benchmark.files),
    }
    return type(f"{name.title().replace('_', '')}Builder", (BaseDatasetBuilder,), members)


for _name, _benchmark in BENCHMARKS.items():
    registry.register_builder(_name)(builder_class(_name, _benchmark))
