"""Starts ``train.py`` again and again, each time in a process of its own.

It is forked from one that has imported everything, as that takes longer than the training. Each
line of its input is ``{"arguments": [...], "folder": ..., "limit": bytes or null}``; it answers
with the new process's number, and with its exit status when that has ended.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.e2e import toys


class Starter:
    """The test's side of it."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.starter"],
            cwd=toys.ROOT,
            env={**os.environ, **toys.ALONE, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._answer()  # imports are done

    def start(self, folder: Path, *arguments: str, limit: int | None = None) -> int:
        """Start ``train.py`` in a folder, where it logs to ``output.txt``; returns its number.

        Args:
            limit: The most bytes that a file may have.
        """
        told = {"arguments": arguments, "folder": str(folder), "limit": limit}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(told) + "\n")
        return self._answer()

    def wait(self) -> int:
        """The exit status of the process that was started last, negative for a signal."""
        return self._answer()

    def close(self) -> None:
        self._server.communicate(timeout=60)

    def _answer(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, f"the starter ended with {self._server.wait()}"
        return int(line)


def be(told: dict[str, Any]) -> None:
    """Let this process be ``python train.py ...``."""
    os.chdir(told["folder"])
    output = os.open("output.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(0)
    if told["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (told["limit"], resource.RLIM_INFINITY))
    script = str(toys.ROOT / "train.py")
    sys.argv = [script, *told["arguments"]]
    runpy.run_path(script, run_name="__main__")


def main() -> None:
    import lavis_clone.job
    import lavis_clone.models.blip.caption  # noqa: F401  # before the fork, not in each child

    torch.set_num_threads(1)
    sys.stdout.write("0\n")
    sys.stdout.flush()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            be(json.loads(line))
            return
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
