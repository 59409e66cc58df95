"""Becomes several processes that are joined through gloo: what run_distributed starts.

python -m tests.common.forked MODULE WORLD_SIZE PORT FOLDER FUNCTION...

They are forked after the imports, which take most of the time, and write to FOLDER/RANK.log.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

from lavis_clone.common import launch


def be(rank: int, world_size: int, port: str, folder: Path) -> None:
    """Let this process be one that torchrun might have started."""
    log = os.open(folder / f"{rank}.log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    os.environ.update(place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})


def work(script: ModuleType, functions: list[str]) -> None:
    launch.init_distributed(device="cpu")
    for name in functions:
        getattr(script, name)()


def main() -> None:
    module, world_size, port, folder, *functions = sys.argv[1:]
    torch.set_num_threads(1)
    script = importlib.import_module(module)
    children = []
    for rank in range(int(world_size)):
        child = os.fork()
        if not child:
            be(rank, int(world_size), port, Path(folder))
            work(script, functions)
            return
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(f"exit codes {codes}" if any(codes) else 0)


if __name__ == "__main__":
    main()
