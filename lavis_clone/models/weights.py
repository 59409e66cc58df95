"""Reads checkpoint files and copies them into models, saying exactly what happened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lavis_clone.common.files import resolve
from lavis_clone.models.torchscript import is_torchscript, read_torchscript

SHARDS = "rest.pt"
"""What a checkpoint that several processes have written together has in its folder."""


class WeightError(RuntimeError):
    """A checkpoint cannot be read, or does not fit the model it is meant for."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor."""

    loaded: int
    """Entries of the file that went into the model."""
    left_at_init: tuple[str, ...]
    """Weights of the model that the file does not hold."""
    ignored: tuple[str, ...]
    """Entries of the file that the model has no place for."""

    def __str__(self) -> str:
        return (
            f"{self.loaded} tensors loaded, {len(self.left_at_init)} left at their "
            f"initialisation, {len(self.ignored)} of the file not used"
        )


def read_checkpoint(location: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file, a pickle or a sharded folder, on the CPU.

    Pickles are read with ``weights_only=True``, TorchScript archives without running their code.
    What LAVIS, BLIP or open_clip wrap around the state dict (``model``, ``state_dict``,
    ``module.``) is taken off.

    Args:
        location: A path, a URL, ``hf://org/name/file`` or ``asset://file``.

    Raises:
        FileError: There is no such file.
        WeightError: It is not a checkpoint.
    """
    path = resolve(str(location))
    if not path.is_file() and not (path / SHARDS).is_file():
        raise WeightError(f"{path} is a folder, not a checkpoint")
    try:
        if path.is_dir():
            return _read_shards(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler answers broken bytes with whatever they lead to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightError(f"{path} cannot be read as a checkpoint: {reason}") from error
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightError(f"{path} holds a {type(content).__name__}, not a state dict")
    state = {str(k).removeprefix("module."): v for k, v in content.items()}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _read_shards(folder: Path) -> dict[str, Tensor]:
    from lavis_clone.common.shards import read  # loads much of torch.distributed

    state: dict[str, Tensor] = read(folder, only=("model",))["model"]
    return state


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    may_stay_at_init: Sequence[str] = (),
    may_be_ignored: Sequence[str] = (),
) -> LoadReport:
    """Copy ``state`` into ``model``; any surprise is an error.

    A tensor that has two names in the model (tied or shared weights) may stand in the file under
    either of them.

    Args:
        may_stay_at_init: Regexes of weights that the file need not hold, e.g. a new head.
        may_be_ignored: Regexes of entries of the file that the model has no place for.

    Raises:
        WeightError: naming the weights that are missing, left over or of another shape.
    """
    own = model.state_dict(keep_vars=True)
    fitting = {name: value for name, value in state.items() if name in own}
    misshapen = [
        f"{name} (file {tuple(value.shape)}, model {tuple(own[name].shape)})"
        for name, value in fitting.items()
        if value.shape != own[name].shape
    ]
    present = {_storage(own[name]) for name in fitting}
    missing = [name for name, value in own.items() if _storage(value) not in present]
    extra = [name for name in state if name not in own]
    problems = {
        "missing": [name for name in missing if not _matches(name, may_stay_at_init)],
        "left over": [name for name in extra if not _matches(name, may_be_ignored)],
        "of another shape": misshapen,
    }
    if any(problems.values()):
        lines = [f"{len(v)} {k}: {', '.join(v[:5])}" for k, v in problems.items() if v]
        raise WeightError(f"weights do not fit {type(model).__name__}: " + "; ".join(lines))
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    return LoadReport(len(fitting), tuple(missing), tuple(extra))


def unshared(
    model: nn.Module, dtype: torch.dtype | None = None, *, left_out: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The model's state dict with one name for each tensor: what a safetensors file can hold.

    Args:
        dtype: Type of the floating-point tensors; None for their own.
        left_out: Regexes of weights that the file need not hold.
    """
    state: dict[str, Tensor] = {}
    seen: set[tuple[int, ...]] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if _storage(value) not in seen and not _matches(name, left_out):
            seen.add(_storage(value))
            cast = dtype if dtype is not None and value.is_floating_point() else value.dtype
            state[name] = value.detach().to(cast).contiguous()
    return state


def _storage(tensor: Tensor) -> tuple[int, ...]:
    """Equal for two names of one tensor."""
    if not tensor.numel():
        return (id(tensor),)
    return (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), *tensor.shape)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)
