"""Directories of jobs: what stands in them of a run's circumstances, and which can go on."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lavis_clone.common.config import Config
from lavis_clone.common.files import FileError, package_root
from lavis_clone.common.shards import is_sharded
from lavis_clone.runners.checkpoints import AUTO
from lavis_clone.runners.hooks import JOB_FILE, is_alive, update_job
from lavis_clone.runners.loggers import METRICS, TESTED

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
FREE_KEYS = {
    *("resume", "resume_ckpt_path", "output_dir", "num_workers", "device", "loggers", "keep_last"),
    *("save_every", "world_size", "dist_url", "dist_backend", "distributed", "gpu", "rank"),
}
"""Keys of ``run:`` that may change when a job goes on by itself: they change no result."""
GIT_SECONDS = 10


@dataclass(frozen=True)
class Job:
    """What a job's directory says of it."""

    folder: Path
    status: str
    """``finished``, ``running``, ``stopped``, ``killed``, ``failed``, or ``unknown``."""
    started: str = ""
    step: int = 0
    epoch: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    """The best score so far by name, or the scores of an evaluation by split and name."""


# --- what is written ----------------------------------------------------------------------------


def write_facts(folder: Path) -> None:
    """Put the command, the versions of packages and the state of git into the job's ``job.json``.

    Of a job that goes on, the earlier commands stay.
    """
    known = read_job(folder)
    command = shlex.join([sys.executable, *sys.argv])
    update_job(
        folder,
        is_main=True,
        started=known.get("started", datetime.now().isoformat(timespec="seconds")),
        commands=[*known.get("commands", []), command],
        directory=str(Path.cwd()),
        python=platform.python_version(),
        machine=platform.platform(),
        git=git_state(package_root()),
        packages=dict(sorted(_packages())),
    )


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit that a folder's files are of, and which of them differ from it; None without git.

    A folder that only lies inside somebody's repository, such as an environment, is no part of it.
    """
    command = ["git", "-C", str(folder)]
    if _output([*command, "ls-files", "--error-unmatch", "__init__.py"]) is None:
        return None
    changed = (_output([*command, "status", "--porcelain"]) or "").splitlines()
    commit = (_output([*command, "rev-parse", "HEAD"]) or "").strip()
    return {"commit": commit, "changed": [line[3:] for line in changed]}


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _packages() -> Iterator[tuple[str, str]]:
    for found in importlib.metadata.distributions():
        if name := found.metadata["Name"]:
            yield name, found.version


# --- which job goes on --------------------------------------------------------------------------


def job_to_resume(config: Config) -> Path | None:
    """The directory of the job that ``run.resume`` lets go on; None for a new one.

    Raises:
        FileError: it names nothing that is there, or a job that is still running.
    """
    told = config.run.resume_from
    if told is None or config.run.evaluate:
        return None
    if told != AUTO:
        return _named(Path(told).expanduser())
    for folder in reversed(job_folders(config.run.output_dir)):
        if _is_same(folder, config) and (known := read_job(folder)).get("status") != "finished":
            if is_alive(known):
                logger.warning("%s is still running and is left alone", folder)
                continue
            return folder
    return None


def _named(path: Path) -> Path | None:
    if not path.exists():
        raise FileError(f"run.resume: no such job or checkpoint: {path}")
    if path.is_file() or is_sharded(path):
        return None
    if is_alive(read_job(path)):
        raise FileError(f"run.resume: {path} is still running (process {read_job(path)['pid']})")
    return path


def _is_same(folder: Path, config: Config) -> bool:
    """Whether a job was told the same, but for what changes no result."""
    try:
        old = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    new = yaml.safe_load(yaml.safe_dump(config.merged))
    return bool(_fixed(old) == _fixed(new))


def _fixed(merged: Any) -> Any:
    if not isinstance(merged, dict):
        return merged
    run = {k: v for k, v in (merged.get("run") or {}).items() if k not in FREE_KEYS}
    return {**merged, "run": run}


# --- what is there ------------------------------------------------------------------------------


def job_folders(output_dir: Path) -> list[Path]:
    """The directories of jobs in a folder, the oldest first by their names."""
    found = [path.parent for path in Path(output_dir).glob(f"*/{CONFIG_NAME}")]
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def read_job(folder: Path) -> dict[str, Any]:
    """The content of ``job.json``; empty when there is none, or none that can be read."""
    try:
        content = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def describe_job(folder: Path) -> Job:
    """What its files say of a job."""
    known = read_job(folder)
    status = str(known.get("status", "unknown"))
    if status == "running" and not is_alive(known):
        status = "killed"
    entries = list(json_lines(folder / METRICS))
    best = {
        name.removeprefix("best/"): value
        for entry in entries
        for name, value in entry.items()
        if name.startswith("best/")
    }
    if not entries:
        tested = list(json_lines(folder / TESTED))
        status = "evaluated" if tested and status == "unknown" else status
        best = {f"{s}/{n}": v for e in tested for s, values in e.items() for n, v in values.items()}
    last = entries[-1] if entries else {}
    return Job(
        folder,
        status,
        started=str(known.get("started", "")),
        step=int(last.get("step", 0)),
        epoch=int(last.get("epoch", 0)),
        best=best,
    )


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The mappings in a file of JSON lines; a line that is cut off ends it."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                return
            yield entry


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The numbers of a job by name, each with its optimizer step; what is no number is left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in json_lines(folder / METRICS):
        for name, value in entry.items():
            is_number = isinstance(value, (int, float)) and math.isfinite(value)
            if name not in ("step", "epoch") and is_number:
                found.setdefault(name, []).append((int(entry["step"]), float(value)))
    return found
