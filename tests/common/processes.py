"""Runs a function in several processes that are joined through gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_distributed(
    module: str, *functions: str, world_size: int = 2, timeout: float = 120
) -> None:
    """Call functions of ``module``, one after the other, in each of ``world_size`` processes.

    The processes are started as torchrun would start them, and have joined when the first one runs.
    An exception in any of them fails the test.
    """
    code = (
        "import torch; torch.set_num_threads(1)\n"
        f"from lavis_clone.common import dist, launch; import {module} as script\n"
        "launch.init_distributed(device='cpu')\n"
        f"for name in {functions!r}: getattr(script, name)()\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, f"{rank}.log") for rank in range(world_size)]
        running = [
            subprocess.Popen(
                ["/bin/sh", "-c", 'exec "$0" -c "$1" > "$2" 2>&1', sys.executable, code, str(log)],
                cwd=ROOT,
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, log in enumerate(logs)
        ]
        try:
            codes = [process.wait(timeout) for process in running]
        finally:
            for process in running:
                process.kill()
        said = "\n".join(log.read_text() for log in logs)
    assert codes == [0] * world_size, said
