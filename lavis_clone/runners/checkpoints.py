"""Checkpoints of a run: LAVIS's format with what going on needs, written whole or not at all.

A file holds ``model`` (what is evaluated, by public names), ``optimizer``, ``config`` (a plain
dict), ``scaler`` (None unless fp16), ``epoch`` (``runner_iter``: the inner one) and ``resume``:
what else the run needs to go on as if it had never stopped. All of it loads with
``weights_only=True``.

*Points* (``checkpoint_step<n>.pth``) are where a run that ended early goes on. The best and the
numbered checkpoints are the same content under another name, without a second copy on the disk.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lavis_clone.common import shards
from lavis_clone.common.files import atomic_path
from lavis_clone.runners.losses import TrainingFailed

logger = logging.getLogger(__name__)

AUTO = "auto"
BEST = "checkpoint_best.pth"
POINT = re.compile(r"checkpoint_step(\d+)\.pth")
NUMBERED = re.compile(r"checkpoint_(\d+)\.pth")
BROKEN = (
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading half a file may raise."""
GIGABYTE = 1e9


class NoSpace(TrainingFailed):
    """A checkpoint could not be written."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> Path:
    """Write under a temporary name, and rename it when it is whole and on the disk.

    Raises:
        NoSpace: in one line, with the last good checkpoint.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(dict(content), file)
    except (OSError, RuntimeError) as error:  # torch wraps what its writer meets
        raise _no_space(path, error) from error
    return path


def link_checkpoint(source: Path, path: Path) -> Path:
    """Give a checkpoint a second name, which takes the place of an older file of that name.

    Raises:
        NoSpace: in one line, with the last good checkpoint.
    """
    try:
        if source.is_dir():
            shards.link(source, path)
            return path
        with atomic_path(path) as temporary:
            temporary.unlink()
            try:
                os.link(source, temporary)
            except OSError:  # a file system without links
                shutil.copyfile(source, temporary)
            if path.is_dir():  # one that several processes wrote
                shards.remove(path)
    except OSError as error:
        raise _no_space(path, error) from error
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint into memory.

    Raises:
        TrainingFailed: the file is not whole, or no checkpoint.
    """
    try:
        if shards.is_sharded(path):
            content = shards.read(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingFailed(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(content, dict) or "model" not in content:
        raise TrainingFailed(f"{path} holds no 'model'; it is no checkpoint of a run")
    return content


def find_start(told: str | None, folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """What a run goes on from: the file, and what it holds.

    Args:
        told: ``run.resume``: ``auto`` or a directory for the newest point in it, or a checkpoint.
        folder: The job's own directory, which ``auto`` means.

    Returns:
        None when nothing is told, or nothing is there yet.

    Raises:
        TrainingFailed: there is no such file, or it is no checkpoint.
    """
    if told is None:
        return None
    if told == AUTO:
        return newest_point(folder)
    path = Path(told).expanduser()
    if not path.exists():
        raise TrainingFailed(f"run.resume: no such job or checkpoint: {path}")
    if path.is_dir() and not shards.is_sharded(path):
        return newest_point(path)
    return path, load_checkpoint(path)


def points(folder: Path) -> list[Path]:
    """The points of a job, the newest first."""
    return _sorted(folder, POINT)


def numbered(folder: Path) -> list[Path]:
    """The numbered checkpoints of a job, the newest first."""
    return _sorted(folder, NUMBERED)


def newest_point(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a job that is whole, and what it holds; None if there is none.

    Files that are not whole get another name, and what a killed process had begun is removed.
    """
    for leftover in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        shards.remove(leftover)
    for path in [*points(folder), *numbered(folder)]:
        try:
            content = load_checkpoint(path)
        except TrainingFailed as error:
            logger.warning("%s; an older one is taken", error)
            path.rename(path.with_name(f"{path.name}.broken"))
            continue
        if content.get("resume"):
            return path, content
    return None


def keep_newest(folder: Path, count: int | None) -> None:
    """Remove older checkpoints.

    Args:
        count: ``run.keep_last``; None keeps one point and all numbered checkpoints.
    """
    for path in points(folder)[1 if count is None else count :]:
        shards.remove(path)
    for path in [] if count is None else numbered(folder)[count:]:
        shards.remove(path)


def finish(folder: Path, count: int | None) -> None:
    """Remove the points that a run that is done needs no more: all, unless some are to be kept."""
    for path in points(folder)[count or 0 :]:
        shards.remove(path)


def _sorted(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    found = {
        int(match[1]): path
        for path in folder.glob("checkpoint_*.pth")
        if (match := pattern.fullmatch(path.name))
    }
    return [found[number] for number in sorted(found, reverse=True)]


def _no_space(path: Path, error: BaseException) -> NoSpace:
    reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "")
    good = [p for p in [*points(path.parent), *numbered(path.parent)] if p != path]
    last = f"the last good one is {good[0]}; " if good else "there is none yet; "
    free = shutil.disk_usage(path.parent).free / GIGABYTE
    return NoSpace(
        f"cannot write {path}: {reason} ({free:.1f} GB are free); {last}make room, and go on with "
        "run.resume=auto"
    )
