"""A builder for each data set of the table."""

from __future__ import annotations

from typing import Any

from lavis_clone.common.blocks import DatasetBlock
from lavis_clone.common.registry import registry
from lavis_clone.datasets.builders.base import BaseDatasetBuilder
from lavis_clone.datasets.builders.table import BENCHMARKS, Benchmark
from lavis_clone.datasets.shards import open_up


class BenchmarkBuilder(BaseDatasetBuilder):
    """Builds what a shipped YAML file describes; a shard's ``{00..17}`` stands for all of them."""

    @property
    def _build_info(self) -> dict[str, Any]:
        return open_up(super()._build_info)


def builder_class(name: str, benchmark: Benchmark) -> type[BaseDatasetBuilder]:
    """``BenchmarkBuilder`` with the values of one data set."""
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"Builds {name}.",
        "name": name,
        "kind": benchmark.kind,
        "Config": DatasetBlock,
        "DATASET_CONFIG_DICT": dict(benchmark.files),
    }
    return type(f"{name.title().replace('_', '')}Builder", (BenchmarkBuilder,), members)


for _name, _benchmark in BENCHMARKS.items():
    if not _benchmark.kind:  # own.py has the builder of one's own data
        continue
    registry.register_builder(_name)(builder_class(_name, _benchmark))
