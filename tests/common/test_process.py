"""Seeds, precision, devices, the log, meters, and what importing costs."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lavis_clone.common.context import RunContext, choose_device
from lavis_clone.common.log import close_logging, setup_logging
from lavis_clone.common.meters import MetricLogger, SmoothedValue
from lavis_clone.common.precision import autocast, grad_scaler
from lavis_clone.common.schema import Precision
from lavis_clone.common.seed import seed_everything

CPU = torch.device("cpu")


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_seeds_bring_the_same_numbers_again_and_others_on_another_rank() -> None:
    seed_everything(5)
    first = drawn()
    seed_everything(5, rank=1)
    other = drawn()
    seed_everything(5)
    assert drawn() == first
    assert all(a != b for a, b in zip(first, other, strict=True))
    seed_everything(2**32 - 1, rank=1)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("fp32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_precision_of_a_product(precision: Precision, dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 4)
    with autocast(CPU, precision):
        out = layer(torch.ones(2, 4))
    assert out.dtype == dtype and layer.weight.dtype == torch.float32


def test_tf32_ends_with_its_block() -> None:
    before = torch.get_float32_matmul_precision()
    with autocast(CPU, "tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_the_scaler_works_for_fp16_only() -> None:
    assert grad_scaler(CPU, "fp16").is_enabled()
    assert not grad_scaler(CPU, "bf16").is_enabled()
    weight = nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.5), grad_scaler(CPU, "fp16")
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert weight.item() == 0.5


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ValueError, match="'cuda' needs a CUDA GPU"):
        choose_device("cuda")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", local_rank=1) == torch.device("cuda", 1)
    assert choose_device("cuda:0", local_rank=1) == torch.device("cuda", 0)
    with pytest.raises(ValueError, match="cuda:2: there are 2 GPUs"):
        choose_device("cuda", local_rank=2)


def test_the_context_of_a_process(tmp_path: Path) -> None:
    context = RunContext(tmp_path, CPU)
    assert context.is_main and context.seed == 42
    assert not RunContext(tmp_path, CPU, rank=1, world_size=2).is_main
    with pytest.raises(ValueError, match="rank"):
        RunContext(tmp_path, CPU, rank=1)


def test_each_job_logs_into_its_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("lavis_clone.somewhere")
    try:
        for job in ("one", "two"):
            setup_logging(RunContext(tmp_path / job, CPU))
            logger.info("this is %s", job)
        setup_logging(RunContext(tmp_path / "three", CPU, rank=1, world_size=2))
        logger.info("not heard")
        logger.warning("heard")
    finally:
        close_logging()
    texts = [(tmp_path / job / "console.log").read_text() for job in ("one", "two")]
    assert [text.split("INFO ")[1:] for text in texts] == [["this is one\n"], ["this is two\n"]]
    assert not (tmp_path / "three").exists()
    shown = capsys.readouterr().err
    assert shown.count("this is") == 2 and "WARNING rank 1 heard" in shown
    assert "not heard" not in shown


def test_a_series_in_figures() -> None:
    series = SmoothedValue(window_size=4, fmt="{median} {avg} {global_avg} {max} {value}")
    assert str(series) == "0.0 0.0 0.0 0.0 0.0"
    for value in (10, 1, 2, 4, 5):
        series.update(value)
    assert str(series) == "2.0 3.0 4.4 5.0 5.0"
    series.update(7.4, n=5)
    assert series.global_avg == pytest.approx(5.9)


def test_the_log_of_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lavis_clone")
    log = MetricLogger()
    log.add_meter("lr", SmoothedValue(window_size=1, fmt="{value:.6f}"))
    seen = []
    for number in log.log_every([1, 2, 3, 4, 5], 2, header="Train"):
        log.update(loss=number, lr=0.5 / number)
        seen.append(number)
    lines = [record.message for record in caplog.records]
    assert seen == [1, 2, 3, 4, 5] and len(lines) == 4
    assert [line.split("]")[0] for line in lines[:3]] == ["Train [2/5", "Train [4/5", "Train [5/5"]
    assert "eta: 0:00:00" in lines[0]
    assert "lr: 0.250000" in lines[0] and "loss: 1.0000 (1.5000)" in lines[0]
    assert log.averages()["loss"] == 3.0


def test_a_loop_of_unknown_length(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lavis_clone")
    assert list(MetricLogger().log_every(iter("abc"), 2)) == ["a", "b", "c"]
    assert caplog.records[0].message.startswith("[2/?]")
    assert list(MetricLogger().log_every([], 2)) == []


@pytest.mark.parametrize(
    "name", ["registry", "names", "files", "config", "schema", "progress", "context", "types"]
)
def test_importing_loads_neither_torch_nor_the_hub(name: str) -> None:
    heavy = "{'torch', 'huggingface_hub', 'iopath'} & set(sys.modules)"
    code = f"import sys, lavis_clone.common.{name}; print({heavy})"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    found = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"
