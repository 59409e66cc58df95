"""Finds out which process of how many this is, and joins the others.

Processes are started by ``torchrun`` (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``) or by SLURM's
``srun``; without either, this process is the only one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

import torch

from lavis_clone.common import dist, watch

logger = logging.getLogger(__name__)

TIMEOUT = timedelta(hours=2)
"""For one collective: rank 0 may be busy with scores while the others wait for it."""
ON_GPU = "cpu:gloo,cuda:nccl"
"""The CPU has a backend of its own for what no GPU should wait for, such as checkpoints."""
FIRST_PORT, NUM_PORTS = 20000, 20000
"""From which jobs of SLURM take theirs, by their id."""


class LaunchError(RuntimeError):
    """The environment says something impossible about the processes."""


class Launch(NamedTuple):
    """This process among those of the job."""

    rank: int
    world_size: int
    local_rank: int
    """Which process of its machine it is, and so which GPU it takes."""


def init_distributed(
    *,
    device: str = "auto",
    backend: str | None = None,
    url: str = "env://",
    timeout: timedelta = TIMEOUT,
) -> Launch:
    """Join the other processes of the job, if there are any.

    Args:
        device: ``run.device``; decides the backend, and GPUs are taken by local rank.
        backend: ``nccl`` or ``gloo``; None for the one that fits the device.
        url: Where the processes meet; ``env://`` for ``MASTER_ADDR`` and ``MASTER_PORT``.

    Raises:
        LaunchError: the environment is incomplete, or there are more processes than GPUs.
    """
    launch, meeting = read_environment(os.environ)
    if launch.world_size == 1 or dist.world_size() > 1:  # alone, or joined already
        return launch
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        if launch.local_rank >= torch.cuda.device_count():
            raise LaunchError(
                f"local rank {launch.local_rank} has no GPU: there are "
                f"{torch.cuda.device_count()}; start fewer processes per machine"
            )
        torch.cuda.set_device(launch.local_rank)
    for name, value in meeting.items():
        os.environ.setdefault(name, value)
    if url == "env://" and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise LaunchError("MASTER_ADDR and MASTER_PORT must be set, as torchrun does")
    dist.start(
        rank=launch.rank,
        world_size=launch.world_size,
        url=url,
        backend=backend or (ON_GPU if on_gpu else "gloo"),
        timeout=timeout,
    )
    watch.start()
    logger.info("joined as rank %d of %d", launch.rank, launch.world_size)
    return launch


def read_environment(variables: Mapping[str, str]) -> tuple[Launch, dict[str, str]]:
    """What the launcher set, and the meeting place where it left that to us (SLURM).

    Raises:
        LaunchError: a variable is missing or no number, or the rank is out of range.
    """
    meeting: dict[str, str] = {}
    if "RANK" in variables or "WORLD_SIZE" in variables:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_STEP_NUM_TASKS" in variables:  # set by srun, but not in a bare batch script
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        meeting = _slurm_meeting(variables)
    else:
        return Launch(0, 1, 0), {}
    launch = Launch(*(_number(variables, name) for name in names))
    if not 0 <= launch.rank < launch.world_size:
        raise LaunchError(
            f"{names[0]} ({launch.rank}) must be less than {names[1]}, and not below 0"
        )
    return launch, meeting


def _number(variables: Mapping[str, str], name: str) -> int:
    text = variables.get(name, "0" if name == "LOCAL_RANK" else "")
    if not text.isdigit():
        raise LaunchError(f"{name} must be a number, got {text!r}")
    return int(text)


def _slurm_meeting(variables: Mapping[str, str]) -> dict[str, str]:
    """Rank 0's machine, and a port that follows from the job's id."""
    nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST", "")
    job = variables.get("SLURM_JOB_ID", "0")
    port = FIRST_PORT + (int(job) if job.isdigit() else 0) % NUM_PORTS
    return {"MASTER_ADDR": first_host(nodes), "MASTER_PORT": str(port)}


def first_host(nodes: str) -> str:
    """The first machine of SLURM's list.

    >>> first_host("gpu[03-05,9],cpu1"), first_host("a,b")
    ('gpu03', 'a')
    """
    match = re.match(r"([^\[,]*)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else "127.0.0.1"
