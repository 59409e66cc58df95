"""Weights come out of TorchScript archives, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lavis_clone.models.torchscript import ArchiveError, is_torchscript, read_torchscript
from lavis_clone.models.weights import WeightError, read_checkpoint


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.matrix = nn.Parameter(torch.randn(2, 3).half())
        self.absent: nn.Parameter | None = None
        self.number = 7

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) @ self.matrix.float().t()


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), Inner())
        self.tied = self.layers[0].weight
        self.register_buffer("size", torch.tensor(224))
        self.register_buffer("turned", torch.arange(6).view(2, 3).t())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def archive(path: Path, *, how: str) -> nn.Module:
    """Write a model as an archive."""
    torch.manual_seed(0)
    model = Outer().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out; old files stay
        made: Any = (
            torch.jit.trace(model, torch.randn(2, 4)) if how == "trace" else torch.jit.script(model)
        )
        made.save(str(path))
    return model


@pytest.mark.parametrize("how", ["trace", "script"])
def test_all_tensors_come_out_exactly(how: str, tmp_path: Path) -> None:
    model = archive(tmp_path / "a.pt", how=how)
    assert is_torchscript(tmp_path / "a.pt")
    state = read_torchscript(tmp_path / "a.pt")
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype
        assert state[name].equal(value), name
    again = read_checkpoint(tmp_path / "a.pt")
    assert again.keys() == expected.keys()


def test_what_torch_saves_otherwise_is_no_archive(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pt")
    (tmp_path / "text.pt").write_text("no weights")
    assert not is_torchscript(tmp_path / "plain.pt")
    assert not is_torchscript(tmp_path / "text.pt")
    assert read_checkpoint(tmp_path / "plain.pt")["a"].item() == 1


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def forge(path: Path, content: bytes, **records: bytes) -> Path:
    """An archive with any pickle in it."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/constants.pkl", b"")
        file.writestr("a/data.pkl", content)
        for name, data in records.items():
            file.writestr(f"a/data/{name.removeprefix('n')}", data)
    return path


def test_nothing_in_an_archive_is_run(tmp_path: Path) -> None:
    path = forge(tmp_path / "bad.pt", pickle.dumps(Harm(tmp_path / "made")))
    with pytest.raises(ArchiveError, match=r"asks for \w+\.mkdir, which is no part of a plain"):
        read_torchscript(path)
    with pytest.raises(WeightError, match=r"bad\.pt cannot be read as a checkpoint: asks for"):
        read_checkpoint(path)
    assert not (tmp_path / "made").exists()


def tensor_pickle(*, length: int, size: tuple[int, ...]) -> bytes:
    """``{x: tensor}`` of one storage, as an object of the archive's own class."""
    kind = "X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    storage = f"(({kind}X\x01\x00\x00\x000X\x03\x00\x00\x00cpuI{length}\ntQ"
    sizes = "".join(f"I{n}\n" for n in size)
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n{storage}I0\n({sizes}t(I1\nt\x89}}tR"
    return f"c__torch__.a\nB\n)\x81}}X\x01\x00\x00\x00x{tensor}sb.".encode("latin1")


def test_storages_are_as_long_as_they_say(tmp_path: Path) -> None:
    numbers = torch.tensor([1.0, 2.0]).numpy().tobytes()
    good = forge(tmp_path / "good.pt", tensor_pickle(length=2, size=(2,)), n0=numbers)
    assert read_torchscript(good)["x"].tolist() == [1.0, 2.0]
    short = forge(tmp_path / "short.pt", tensor_pickle(length=3, size=(3,)), n0=numbers)
    with pytest.raises(ArchiveError, match="data/0 is 8 bytes, too short for its tensors"):
        read_torchscript(short)
    beyond = forge(tmp_path / "beyond.pt", tensor_pickle(length=2, size=(5,)), n0=numbers)
    with pytest.raises(WeightError, match=r"beyond\.pt cannot be read as a checkpoint: setStorage"):
        read_checkpoint(beyond)
