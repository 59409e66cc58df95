"""Runs a function in several processes that are joined through gloo."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> str:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_distributed(
    module: str, *functions: str, world_size: int = 2, timeout: float = 900, **variables: str
) -> None:
    """Call functions of ``module``, one after the other, in each of ``world_size`` processes.

    The processes have joined when the first one runs. An exception in any of them fails the test.

    Args:
        variables: Further environment variables.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.common.forked", module, str(world_size)]
        running = subprocess.Popen(
            [*command, free_port(), folder, *functions],
            cwd=ROOT,
            env={**os.environ, **variables},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = running.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        logs = sorted(Path(folder).glob("*.log"))
        said = "\n".join(f"--- rank {log.stem}\n{log.read_text()}" for log in logs)
    assert running.returncode == 0, f"{errors}{said}"
