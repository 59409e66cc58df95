from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch import nn

from lavis_clone.common import dist, launch
from lavis_clone.common.launch import Launch, LaunchError, first_host, init_distributed
from tests.common.processes import run_distributed


def test_two_processes() -> None:
    names = ("collectives", "gather_with_gradient", "replicas", "main_first", "meters")
    run_distributed("tests.common.dist_scripts", *names, "small_things")


def test_a_failure_in_one_process_ends_all_and_is_what_is_told() -> None:
    with pytest.raises(AssertionError) as failed:
        run_distributed("tests.common.dist_scripts", "one_fails", timeout=100)
    first, last = str(failed.value).split("--- rank 0")[1].split("--- rank 1")
    assert "rank 0 ends, as rank 1 has failed" in first
    assert "Traceback" not in first
    assert "ArithmeticError: the cause" in last
    assert "exit codes [1, 1]" in str(failed.value)


def test_a_single_process_is_no_special_case() -> None:
    x = torch.ones(2, requires_grad=True)
    model = nn.Linear(1, 1)
    assert (dist.rank(), dist.world_size()) == (0, 1)
    assert dist.gather(x) is x and dist.broadcast("x") == "x"
    assert dist.all_gather_objects(3) == dist.gather_objects(3) == [3]
    assert dist.agree([True, False]) == [True, False]
    assert dist.means({"loss": 2.0}) == {"loss": 2.0}
    assert dist.local(x) is x and dist.whole(x) is x
    assert dist.side_group() is None
    assert dist.all_reduce_sum(x).tolist() == [1.0, 1.0]
    assert dist.replicate(model) is model and dist.unwrap(model) is model
    with dist.main_first(), dist.no_sync(model):
        dist.barrier()
    dist.stop()


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_one_process() -> None:
    assert init_distributed() == Launch(rank=0, world_size=1, local_rank=0)


def test_torchrun_with_one_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert init_distributed() == Launch(0, 1, 0)
    assert dist.world_size() == 1


def test_slurm_gives_rank_and_meeting_place() -> None:
    variables = {
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NODELIST": "gpu[03-04]",
        "SLURM_JOB_ID": "40001",
    }
    assert launch.read_environment(variables) == (
        Launch(3, 4, 1),
        {"MASTER_ADDR": "gpu03", "MASTER_PORT": "20001"},
    )
    bare = {k: v for k, v in variables.items() if "STEP" not in k}
    assert launch.read_environment(bare) == (Launch(0, 1, 0), {})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("gpu[03-05,9],cpu1", "gpu03"),
        ("n[7]", "n7"),
        ("n[1-2].site,m", "n1.site"),
    ],
)
def test_the_first_machine_of_a_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "1"}, "WORLD_SIZE must be a number, got ''"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK must be a number, got 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, r"RANK \(2\) must be less than WORLD_SIZE"),
    ],
)
def test_impossible_environments(variables: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        launch.read_environment(variables)


def test_a_meeting_place_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LaunchError, match="MASTER_ADDR"):
        init_distributed(device="cpu", timeout=timedelta(seconds=1))


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match="local rank 1 has no GPU: there are 1"):
        init_distributed(device="cuda")
