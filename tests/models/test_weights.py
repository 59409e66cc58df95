"""Checkpoint files: what is read, what fits, and what is said when it does not."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lavis_clone.common.files import FileError
from lavis_clone.models.weights import WeightError, load_weights, read_checkpoint, unshared


class Tied(nn.Module):
    """Two names for one matrix, two for one bias, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.words.weight
        self.bias = self.head.bias
        self.other = nn.Linear(3, 5, bias=False)  # of the same shape, but not tied
        self.register_buffer("scale", torch.ones(2))


def state(**changes: Tensor | None) -> dict[str, Tensor]:
    """A complete file for ``Tied``, one name of each pair."""
    full: dict[str, Any] = {
        "words.weight": torch.full((5, 3), 2.0),
        "bias": torch.full((5,), 3.0),
        "other.weight": torch.full((5, 3), 4.0),
        "scale": torch.full((2,), 5.0),
    }
    return {name: value for name, value in (full | changes).items() if value is not None}


@pytest.mark.parametrize(
    "names",
    [
        ("words.weight", "bias"),
        ("head.weight", "bias"),
        ("words.weight", "head.bias"),
        ("head.weight", "head.bias"),
    ],
)
def test_tied_weights_stand_in_the_file_under_either_name(names: tuple[str, str]) -> None:
    given = state(**{"words.weight": None, "bias": None})
    given |= {names[0]: torch.full((5, 3), 2.0), names[1]: torch.full((5,), 3.0)}
    model = Tied()
    report = load_weights(model, given)
    assert (model.words.weight == 2).all()
    assert (model.head.weight == 2).all()
    assert (model.bias == 3).all()
    assert (model.head.bias == 3).all()
    assert (model.other.weight == 4).all()
    assert model.get_buffer("scale").tolist() == [5.0, 5.0]
    assert (report.loaded, report.left_at_init, report.ignored) == (4, (), ())


def test_tied_weights_may_stand_under_both_names() -> None:
    model = Tied()
    report = load_weights(model, state(**{"head.weight": torch.full((5, 3), 2.0)}))
    assert report.loaded == 5
    assert model.head.weight is model.words.weight


def test_both_names_of_an_absent_weight_are_missing() -> None:
    with pytest.raises(WeightError, match=r"2 missing: words\.weight, head\.weight"):
        load_weights(Tied(), state(**{"words.weight": None}))


def test_every_problem_is_told_at_once_and_nothing_is_loaded() -> None:
    model = Tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = state(bias=None, scale=torch.ones(3), extra=torch.ones(1))
    with pytest.raises(WeightError) as caught:
        load_weights(model, given)
    assert str(caught.value) == (
        "weights do not fit Tied: 2 missing: bias, head.bias; 1 left over: extra; "
        "1 of another shape: scale (file (3,), model (2,))"
    )
    for name, value in model.state_dict().items():
        assert value.equal(before[name]), name


@pytest.mark.parametrize("shape", [(1,), (1, 2), (2, 1), ()])
def test_numbers_are_not_spread_or_rearranged_to_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(WeightError, match="1 of another shape: scale"):
        load_weights(Tied(), state(scale=torch.ones(shape)))


def test_long_lists_are_cut_but_counted() -> None:
    extra = {f"extra.{i}": torch.ones(1) for i in range(9)}
    with pytest.raises(WeightError, match=r"9 left over: extra\.0, .*, extra\.4$"):
        load_weights(Tied(), state(**extra))


def test_what_is_allowed_to_differ_is_reported() -> None:
    given = state(scale=None, **{"queue.ptr": torch.ones(1)})
    report = load_weights(
        Tied(), given, may_stay_at_init=[r"^scale$"], may_be_ignored=[r"^queue\."]
    )
    assert report.left_at_init == ("scale",)
    assert report.ignored == ("queue.ptr",)
    assert "3 tensors loaded, 1 left at their initialisation, 1 of the file" in str(report)


def test_permissions_are_patterns_of_the_whole_name() -> None:
    with pytest.raises(WeightError, match="1 missing: scale"):
        load_weights(Tied(), state(scale=None), may_stay_at_init=[r"^cal"])


def test_numbers_of_another_precision_are_converted() -> None:
    model = Tied()
    load_weights(model, {name: value.half() for name, value in state().items()})
    assert model.words.weight.dtype == torch.float32
    assert (model.words.weight == 2).all()


def test_weights_keep_their_identity_and_gradient() -> None:
    model = Tied()
    before = model.words.weight
    load_weights(model, state())
    assert model.words.weight is before
    assert before.requires_grad
    assert before.is_leaf


def test_a_state_dict_for_safetensors_names_each_tensor_once() -> None:
    model = Tied()
    single = unshared(model)
    assert set(single) == {"words.weight", "bias", "other.weight", "scale"}
    fresh = Tied()
    load_weights(fresh, single)
    for name, value in model.state_dict().items():
        assert value.equal(fresh.state_dict()[name]), name


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "optimizer": {"state": {}}, "epoch": 3},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{name}": value for name, value in s.items()},
        lambda s: {"state_dict": {f"module.{name}": value for name, value in s.items()}},
    ],
)
def test_wrappers_are_taken_off(wrap: Any, old_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(wrap(state()), path, _use_new_zipfile_serialization=not old_format)
    found = read_checkpoint(path)
    assert found.keys() == state().keys()
    for name, value in state().items():
        assert found[name].equal(value)


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "model.safetensors")
    found = read_checkpoint(str(tmp_path / "model.safetensors"))
    assert found.keys() == state().keys()


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made-by-a-pickle"
    for name, write in (("zip.pth", torch.save), ("plain.pth", dump)):
        write({"a": torch.zeros(1), "b": Payload(target)}, tmp_path / name)
        with pytest.raises(WeightError, match=f"{name} cannot be read as a checkpoint: "):
            read_checkpoint(tmp_path / name)
        assert not target.exists()
    torch.load(tmp_path / "zip.pth", weights_only=False)  # the payload is a real one
    assert target.exists()


def dump(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("page.pth", b"<!DOCTYPE html><html>not found</html>"),
        ("pointer.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        ("hello.pth", b"hello"),
        ("empty.safetensors", b""),
        ("page.safetensors", b"<!DOCTYPE html><html>not found</html>"),
    ],
)
def test_what_is_no_checkpoint_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightError, match=f"{name} cannot be read as a checkpoint: ") as caught:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["new.pth", "old.pth", "a.safetensors"])
def test_a_damaged_file_is_read_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    path, dice, refused = tmp_path / kind, random.Random(kind), 0
    if kind.endswith(".pth"):
        torch.save(state(), path, _use_new_zipfile_serialization=kind == "new.pth")
    else:
        save_file(state(), path)
    whole = path.read_bytes()
    for attempt in range(150):
        damaged = bytearray(whole)
        if attempt % 2:
            del damaged[dice.randrange(len(damaged)) :]
        else:
            for _ in range(4):
                damaged[dice.randrange(min(len(damaged), 400))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except WeightError as error:
            assert kind in str(error)
            refused += 1
    assert refused > 75


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightError, match=r"list\.pth holds a list, not a state dict"):
        read_checkpoint(tmp_path / "list.pth")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no such file: .*absent\.pth"):
        read_checkpoint(tmp_path / "absent.pth")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(WeightError, match="is a folder"):
        read_checkpoint(tmp_path)
