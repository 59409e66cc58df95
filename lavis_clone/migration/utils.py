"""LAVIS's helpers for files, times and processes."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed

from lavis_clone.common import dist
from lavis_clone.common.files import cache_root, download, package_root
from lavis_clone.common.files import is_url as is_web_address


def now() -> str:
    """The present second, by which jobs are named."""
    return datetime.datetime.now().strftime("%Y%m%d%H%M%S")


def is_url(url_or_filename: str) -> bool:
    """Whether it is an address of the web, and not a path."""
    return is_web_address(url_or_filename)


def is_convertible_to_int(value: Any) -> bool:
    """Whether ``int(value)`` works."""
    try:
        int(value)
    except (TypeError, ValueError):
        return False
    return True


def get_abs_path(rel_path: str) -> str:
    """A path below the installed package."""
    return str(package_root() / rel_path)


def get_cache_path(rel_path: str) -> str:
    """A path below the cache, where annotations and media lie."""
    return str(cache_root() / rel_path)


def load_json(filename: str | Path) -> Any:
    """What a JSON file holds."""
    return json.loads(Path(filename).read_text(encoding="utf-8"))


def makedir(dir_path: str | Path) -> bool:
    """Make a folder and those above it; False if that is impossible."""
    try:
        Path(dir_path).mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def download_cached_file(url: str, check_hash: bool = True, progress: bool = False) -> str:  # noqa: ARG001  # LAVIS's
    """Download a file, if it is not in the cache yet, and say where it lies.

    Raises:
        FileError: it cannot be had.
    """
    return str(download(url))


def setup_logger() -> None:
    """Log to the terminal, from the first process alone; a job logs to its file, too."""
    logging.basicConfig(
        level=logging.INFO if is_main_process() else logging.WARNING,
        format="%(asctime)s [%(levelname)s] %(message)s",
    )


# --- processes ------------------------------------------------------------------------------


def get_rank() -> int:
    """Which process this is, counted from 0."""
    return dist.rank()


def get_world_size() -> int:
    """How many processes there are."""
    return dist.world_size()


def get_dist_info() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    return dist.rank(), dist.world_size()


def is_main_process() -> bool:
    """Whether this is the first process, or the only one."""
    return dist.rank() == 0


def is_dist_avail_and_initialized() -> bool:
    """Whether this process has joined others."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def main_process(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate what the first process does alone; the others get None."""

    @functools.wraps(func)
    def alone(*arguments: Any, **options: Any) -> Any:
        return func(*arguments, **options) if is_main_process() else None

    return alone


def init_distributed_mode(args: argparse.Namespace | Any) -> None:
    """Say in ``args.distributed`` whether there are several processes.

    They are joined when the runner is built.
    """
    args.distributed = dist.world_size() > 1
