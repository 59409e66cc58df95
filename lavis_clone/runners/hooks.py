"""What hangs on the loop: signals, the end of progress, speed, the bar, the job's state."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from lavis_clone.common import dist
from lavis_clone.common.files import write_atomic
from lavis_clone.common.training_options import EarlyStop

logger = logging.getLogger(__name__)

CAUGHT = (signal.SIGTERM, signal.SIGINT)
JOB_FILE = "job.json"
GIGABYTE = 1e9
START_FIELD = 19
"""Of ``/proc/<pid>/stat``, after the process's name: field 22 in all."""
EXIT_BASE = 128
"""A process that a signal ended has this plus its number as exit status."""


class Stopped(SystemExit):
    """The run was asked to end, and did so after saving."""


class Signals:
    """Catches SIGTERM and SIGINT in its block, so that the loop can save before it ends.

    A second one ends it at once. Where Python allows no handlers (in threads), nothing is caught.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._catch) for number in CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block there is nothing to save: a signal ends it."""
        if self.caught is not None:
            self.stop("the last point was saved before; go on with run.resume=auto")
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def stop(self, told: str) -> NoReturn:
        """End the run that a signal asked to end, here or in another process.

        Raises:
            Stopped: always.
        """
        number = self.caught or signal.SIGTERM
        logger.warning("%s: %s", signal.Signals(number).name, told)
        raise Stopped(EXIT_BASE + number)

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        is_second, self.caught = self.caught is not None, number
        if is_second or self._at_once:
            self.stop("ending at once; go on with run.resume=auto")
        logger.warning("%s: saving after this step, then ending", signal.Signals(number).name)


class EarlyStopping:
    """Counts validations in a row that brought nothing better.

    Args:
        options: ``run.early_stop``; None never stops.
    """

    def __init__(self, options: EarlyStop | None, *, higher_is_better: bool) -> None:
        self._options, self._higher = options, higher_is_better
        self.best: float | None = None
        self.count = 0

    @property
    def is_over(self) -> bool:
        """Whether it is enough."""
        return self._options is not None and self.count >= self._options.patience

    def look(self, value: float) -> None:
        """Take a validation's score into account."""
        delta = 0.0 if self._options is None else self._options.min_delta
        if is_better(value, self.best, higher=self._higher, by=delta):
            self.best, self.count = value, 0
        else:
            self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.count = state["best"], state["count"]


def is_better(new: float, old: float | None, *, higher: bool, by: float = 0.0) -> bool:
    """Whether a score is better than the best so far, by more than ``by``; NaN never is."""
    if math.isnan(new) or old is None:
        return not math.isnan(new)
    return new > old + by if higher else new < old - by


class Speed:
    """Samples per second, the share of time spent waiting for data, memory, and time to go."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = self._last = time.perf_counter()
        self._samples, self._waited, self._steps = 0, 0.0, 0

    def add(self, num_samples: int) -> None:
        """Count an optimizer step."""
        self._samples += num_samples
        self._steps += 1

    def read(self, *, waited: float, steps_left: int) -> dict[str, float]:
        """Figures since the last reading, but for the time to go, which is of the whole run.

        Args:
            waited: Seconds spent waiting for data since the run began.
        """
        now = time.perf_counter()
        seconds = max(now - self._last, 1e-9)
        figures = {
            "samples_per_second": self._samples / seconds,
            "data_wait": (waited - self._waited) / seconds,
            "memory_gb": memory(self._device) / GIGABYTE,
            "seconds_left": (now - self._began) / max(self._steps, 1) * steps_left,
        }
        self._last, self._samples, self._waited = now, 0, waited
        return figures


def readable(figures: Mapping[str, float]) -> dict[str, str]:
    """Figures of ``Speed`` for people."""
    return {
        "samples/s": f"{figures['samples_per_second']:.3g}",
        "% waiting for data": f"{100 * figures['data_wait']:.0f}",
        "GB": f"{figures['memory_gb']:.2f}",
    }


def memory(device: torch.device) -> float:
    """The most bytes that this process has held, of the GPU's memory or else of the machine's."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0.0
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@contextmanager
def progress_bar(label: str, *, total: int, done: int = 0) -> Iterator[Any]:
    """A bar on a terminal, of the main process, and nothing elsewhere; log lines go above it."""
    hidden = True if dist.rank() else None
    bar = tqdm(
        desc=label, total=total, initial=done, disable=hidden, dynamic_ncols=True, leave=False
    )
    if bar.disable:
        yield bar
        return
    with logging_redirect_tqdm([logging.getLogger("lavis_clone")]), bar:
        yield bar


@contextmanager
def job_state(folder: Path, *, is_main: bool) -> Iterator[None]:
    """Keep ``status`` in the job's ``job.json`` true: running, finished, stopped or failed."""
    pid, host = os.getpid(), socket.gethostname()
    note = {"pid": pid, "host": host, "process": _process_start(pid)}
    update_job(folder, is_main, status="running", error=None, **note)
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        update_job(folder, is_main, status="stopped")
        raise
    except BaseException as error:
        told = next(iter(str(error).splitlines()), "") or type(error).__name__
        update_job(folder, is_main, status="failed", error=told)
        raise
    update_job(folder, is_main, status="finished")


def update_job(folder: Path, is_main: bool, **changes: Any) -> None:
    """Change keys of ``job.json``; a disk that is full must not hide another error."""
    if not is_main:
        return
    path = folder / JOB_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        write_atomic(path, json.dumps({**known, **changes}, indent=2) + "\n")
    except (OSError, ValueError) as error:
        logger.warning("cannot write %s: %s", path, error)


def is_alive(job: Mapping[str, Any]) -> bool:
    """Whether the process that ``job.json`` speaks of runs on this machine, and is another one."""
    pid = job.get("pid")
    if job.get("status") != "running" or job.get("host") != socket.gethostname():
        return False
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return job.get("process") == _process_start(pid)


def _process_start(pid: int) -> str | None:
    """When a process began, in the kernel's words: numbers of processes are used again."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[START_FIELD]
