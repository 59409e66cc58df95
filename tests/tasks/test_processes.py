"""Evaluation does not depend on the number of processes, nor on the size of batches."""

from __future__ import annotations

import pytest

from tests.common.processes import run_distributed


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_every_task_has_the_rows_of_one_process(world_size: int) -> None:
    name = "every_task_has_the_rows_of_one_process"
    run_distributed("tests.tasks.dist_tasks", name, world_size=world_size)
