"""Where a run's numbers go: ``log.txt`` as in LAVIS, ``metrics.jsonl``, TensorBoard, W&B."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lavis_clone.common.files import write_atomic

LOG, TESTED, METRICS = "log.txt", "evaluate.txt", "metrics.jsonl"


class Logger(Protocol):
    """What takes numbers by name."""

    def write(self, values: Mapping[str, float], *, step: int) -> None: ...
    def close(self) -> None: ...


class JobLog:
    """The files of a job that grow, and whatever else ``run.loggers`` names.

    Args:
        folder: The job's directory.
        config: What ``log.txt`` begins with.
        is_main: Only the main process writes.
    """

    def __init__(self, folder: Path, *, config: Mapping[str, Any], is_main: bool) -> None:
        self.folder, self.config, self._is_main = folder, config, is_main
        self._others: list[Logger] = []

    def begin(self) -> None:
        """Write the config at the head of ``log.txt``, unless that is there."""
        path = self.folder / LOG
        if self._is_main and not (path.exists() and path.stat().st_size):
            write_atomic(path, json.dumps(self.config, indent=4, default=str) + "\n")

    def open(self, names: Sequence[str], *, step: int) -> None:
        """Start the loggers of ``run.loggers``; what they had after ``step`` is void.

        Raises:
            ImportError: a package is not installed.
        """
        makers: dict[str, Callable[..., Logger]] = {"tensorboard": TensorBoard, "wandb": WandB}
        if self._is_main:
            self._others = [makers[n](self.folder, self.config, step=step) for n in names]

    def close(self) -> None:
        """End what ``open`` started."""
        for other in self._others:
            other.close()
        self._others = []

    def line(self, name: str, entry: Mapping[str, Any]) -> None:
        """Append a JSON line to one of the files.

        LAVIS rounds to three digits, which leaves nothing of most rates.
        """
        if self._is_main:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Write numbers by name to ``metrics.jsonl`` and to the loggers."""
        self.line(METRICS, {"step": step, "epoch": epoch, **values})
        for other in self._others:
            other.write(values, step=step)

    def sizes(self) -> dict[str, int]:
        """How long the files are by now."""
        paths = [self.folder / name for name in (LOG, TESTED, METRICS)]
        return {path.name: path.stat().st_size for path in paths if path.exists()}

    def cut(self, sizes: Mapping[str, int]) -> None:
        """Make the files as long as they were: what came after is going to come again."""
        for name in (LOG, TESTED, METRICS):
            path = self.folder / name
            if self._is_main and path.exists() and path.stat().st_size > sizes.get(name, 0):
                with path.open("rb+") as file:
                    file.truncate(sizes.get(name, 0))


class TensorBoard:
    """Event files in the job's directory."""

    def __init__(self, folder: Path, _config: Mapping[str, Any], *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(_missing("tensorboard")) from error
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases: project and mode by its own variables, e.g. ``WANDB_PROJECT``."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *, step: int) -> None:  # noqa: ARG002  # W&B knows its own
        try:
            import wandb
        except ImportError as error:
            raise ImportError(_missing("wandb")) from error
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self._run: Any = wandb.init(
            id=key, name=folder.name, dir=str(folder), config=dict(config), resume="allow"
        )

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def _missing(package: str) -> str:
    return (
        f"run.loggers: {package} needs the Python package {package!r}: "
        "pip install 'lavis_clone[log]'"
    )
