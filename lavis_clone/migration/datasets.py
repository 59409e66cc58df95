"""The base class of data sets that were written for LAVIS, and what is done with batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lavis_clone.datasets import base
from lavis_clone.runners.training import to_device


class BaseDataset(base.BaseDataset):
    """A data set whose records may be changed: ``annotation`` is a list of dicts."""

    def prepare(self) -> None:
        super().prepare()
        self.annotation = [dict(record) for record in self.annotation]

    def _add_instance_ids(self, key: str = "instance_id") -> None:
        """Number the records."""
        records: Any = self.annotation
        for index, record in enumerate(records):
            record[key] = str(index)


def apply_to_sample(f: Callable[[Tensor], Any], sample: Any) -> Any:
    """Do something with every tensor inside dicts and lists."""
    if isinstance(sample, Tensor):
        return f(sample)
    if isinstance(sample, Mapping):
        return {key: apply_to_sample(f, value) for key, value in sample.items()}
    if isinstance(sample, list):
        return [apply_to_sample(f, value) for value in sample]
    return sample


def move_to_cuda(sample: Any) -> Any:
    """Move every tensor of a batch to the GPU."""
    return to_device(sample, torch.device("cuda"))


def prepare_sample(samples: Any, cuda_enabled: bool = True) -> Any:
    """Move a batch to the GPU, if there is one and it is asked for."""
    return move_to_cuda(samples) if cuda_enabled and torch.cuda.is_available() else samples


def concat_datasets(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Put the data sets of each split one behind another.

    Args:
        datasets: By split: a data set, or a list of them.
    """
    return {
        split: base.ConcatDataset(found) if isinstance(found, (list, tuple)) else found
        for split, found in datasets.items()
    }
