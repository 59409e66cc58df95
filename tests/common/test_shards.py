"""Checkpoints that are folders, written and read by one process; several do it in e2e."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lavis_clone.common import shards
from lavis_clone.common.shards import ShardError, ShardWriter
from lavis_clone.models.weights import read_checkpoint


def content(value: float = 1.0) -> dict[str, Any]:
    weight = torch.full((3, 2), value)
    state: dict[int, Any] = {0: {"step": torch.tensor(4.0), "exp_avg": weight.clone()}}
    return {
        "model": {"a.weight": weight, "tied": weight, "queue_ptr": torch.tensor([7])},
        "optimizer": {"state": state, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "config": {"run": {"task": "x", "none": None}},
        "epoch": 3,
        "resume": {"random": [{"torch": torch.arange(3)}], "average": None, "pair": (1, "b")},
    }


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
    if isinstance(wanted, dict | list | tuple):
        assert type(found) is type(wanted) and len(found) == len(wanted)
        for key in wanted if isinstance(wanted, dict) else range(len(wanted)):
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, Tensor):
        assert found.dtype == wanted.dtype and torch.equal(found, wanted)
    else:
        assert found == wanted


@pytest.mark.parametrize("in_background", [False, True])
def test_what_was_written_is_read_again(tmp_path: Path, in_background: bool) -> None:
    writer = ShardWriter(in_background=in_background)
    folder = tmp_path / "checkpoint_1.pth"
    for value in (1.0, 2.0):  # the second takes the first one's place
        given = content(value)
        writer.write(folder, given)
        given["model"]["a.weight"].zero_()  # training goes on
        given["optimizer"]["state"][0]["exp_avg"].zero_()
        writer.wait()
        assert shards.is_sharded(folder)
        assert_same(shards.read(folder), content(value))
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert_same(read_checkpoint(folder), content(2.0)["model"])
    assert list(shards.read(folder, only=("epoch",))) == ["epoch"]


def test_a_folder_that_is_not_whole_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    ShardWriter(in_background=False).write(folder, content())
    (file,) = folder.glob("*.safetensors")
    state = load_file(file)
    gone = next(name for name in state if name.endswith("a.weight"))
    file.unlink()
    save_file({name: value for name, value in state.items() if name != gone}, file)
    with pytest.raises(ShardError, match=f"is not whole: it lacks {gone}"):
        shards.read(folder)


def test_a_second_name_takes_no_room_and_outlives_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "step4.pth", tmp_path / "best.pth"
    ShardWriter(in_background=False).write(first, content())
    shards.link(first, second)
    inodes = [{path.stat().st_ino for path in f.iterdir()} for f in (first, second)]
    assert inodes[0] == inodes[1]
    shards.remove(first)
    shards.remove(tmp_path / "nothing")
    assert_same(shards.read(second), content())


def test_what_cannot_be_written_is_told_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    folder, writer = tmp_path / "x", ShardWriter(in_background=True)
    writer.write(folder, content())
    writer.wait()
    monkeypatch.setattr("torch.distributed.checkpoint.HuggingFaceStorageWriter.write_data", full)
    writer.write(folder, content(2.0))
    with pytest.raises(ShardError, match="cannot be written: .*No space left"):
        writer.wait()
    assert_same(shards.read(folder), content())
