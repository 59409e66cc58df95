"""Outputs equal those of LAVIS 1.0.2 on the same weights, for all reference cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity import run, synthetic

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))
AT_LEAST_OK = {
    "alpro_qa": 3,
    "alpro_retrieval": 2,
    "blip_caption": 6,
    "clip_rn": 4,
    "clip_vit": 4,
    "processors": 6,
}
"""Cases of models that the library has, and how many of their runs depend on no random stream."""


@pytest.fixture(scope="module")
def results() -> list[run.Result]:
    torch.set_num_threads(1)
    return list(run.run_folder(CASES))


def test_the_cases_are_there() -> None:
    assert len(NAMES) == 22
    assert {path.stem for path in CASES.glob("*.safetensors")} == set(NAMES)
    runs = [json.loads((CASES / f"{name}.json").read_text()).get("inputs", {}) for name in NAMES]
    assert sum(map(len, runs)) == 53


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_a_case_is_as_lavis_has_it(name: str, results: list[run.Result]) -> None:
    of_case = [result for result in results if result.case == name]
    assert of_case, "no run of the case was tried"
    assert {result.status for result in of_case} <= {"ok", "skipped", "not yet"}, "\n".join(
        map(str, of_case)
    )


@pytest.mark.parametrize(("name", "least"), AT_LEAST_OK.items())
def test_enough_runs_of_a_case_are_compared(
    name: str, least: int, results: list[run.Result]
) -> None:
    statuses = [result.status for result in results if result.case == name]
    assert statuses.count("ok") >= least
    assert "not yet" not in statuses


def test_cases_of_models_that_exist_are_compared(results: list[run.Result]) -> None:
    """A model that is registered is a model whose cases count."""
    for result in results:
        if result.status == "not yet":
            assert run.model_name(result.case) is None, result


def changed(folder: Path, name: str, key: str) -> Path:
    """A copy of one case, with one number of its expected ``key`` changed."""
    shutil.copy(CASES / f"{name}.json", folder)
    tensors = load_file(CASES / f"{name}.safetensors")
    flat = tensors[key].flatten()
    flat[-1] = flat[-1] + (0.01 if flat.is_floating_point() else 1)
    save_file(tensors, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "key"),
    [("blip_caption", "beam3.token_ids"), ("processors", "blip_image_eval_64")],
)
def test_a_number_that_differs_is_a_failure(name: str, key: str, tmp_path: Path) -> None:
    found = list(run.run_folder(changed(tmp_path, name, key)))
    failed = [result for result in found if result.status == "FAILED"]
    assert len(failed) == 1
    assert failed[0].run == key.partition(".")[0]
    assert failed[0].detail
    assert str(failed[0]).startswith(f"FAILED   {name}/")


def test_differences_by_hand() -> None:
    value = torch.tensor([1.0, 2.0])
    assert run.tensors_differ(value, torch.tensor([1.0, 2.0]), [2]) is None
    assert run.tensors_differ(value, torch.tensor([1.0, 2.002]), [2]) is None  # relative 1e-3
    assert "3.00e-03" in str(run.tensors_differ(value, torch.tensor([1.0, 2.003]), [2]))
    assert "shape [2], expected [3]" in str(run.tensors_differ(value, torch.ones(3), [3]))
    assert "expected" in str(run.tensors_differ(torch.tensor([1]), torch.tensor([2]), [1]))
    assert run.values_differ(["a"], ["a"]) is None
    assert run.values_differ(["a"], ["b"]) == "['a'], expected ['b']"
    stated = {"shape": [2], "sum": 3.0, "abs_sum": 3.0}
    assert run.sums_differ(value, stated) is None
    assert "sum 3.0, expected 3.1" in str(run.sums_differ(value, stated | {"sum": 3.1}))
    assert run.first_difference("a", {}, {}, {}) == "the case states nothing about this run"


def test_weights_depend_on_salt_and_name() -> None:
    first, other = synthetic.draw("s", "a", [3]), synthetic.draw("s", "b", [3])
    assert first.equal(synthetic.draw("s", "a", [3]))
    assert not first.equal(other)
    assert not first.equal(synthetic.draw("t", "a", [3]))
