"""Facts about this process, made once at the entry point and handed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RunContext:
    """One process of one job. Two jobs in one Python process have a context each."""

    output_dir: Path
    """The job's own directory; everything that the job writes lies in it."""
    device: torch.device
    rank: int = 0
    world_size: int = 1
    seed: int = 42
    """The job's seed, the same on every rank; ``seed_everything`` adds the rank."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank ({self.rank}) must lie in 0..world_size-1 ({self.world_size})")

    @property
    def is_main(self) -> bool:
        """Whether this process writes the job's files."""
        return self.rank == 0


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Turn ``run.device`` into a device of this machine.

    Args:
        name: ``"auto"`` (CUDA when there is a GPU, else the CPU), or a name that torch knows.
        local_rank: Which GPU of the machine is this process's, unless ``name`` says one.

    Raises:
        ValueError: ``name`` is no device, or one that this machine does not have.
    """
    import torch  # here, so that reading a config does not load it

    has_cuda = torch.cuda.is_available()
    try:
        device = torch.device(
            "cuda" if name == "auto" and has_cuda else name.replace("auto", "cpu")
        )
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu or cuda") from error
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if not has_cuda:
            raise ValueError(
                f"device {name!r} needs a CUDA GPU, and there is none; use auto or cpu"
            )
        if index >= torch.cuda.device_count():
            raise ValueError(f"device cuda:{index}: there are {torch.cuda.device_count()} GPUs")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {name!r} is not available on this machine; use auto or cpu")
    return device
