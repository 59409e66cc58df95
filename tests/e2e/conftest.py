"""What a user has: a model, pictures, and a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.e2e import toys
from tests.models import tiny


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network and without Java, whose start takes longer than all the rest."""
    for name, value in toys.ALONE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner with random weights."""
    return toys.write_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_pictures(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_vocabulary(tmp_path_factory.mktemp("words"))


@pytest.fixture
def recipe(tmp_path: Path, data: Path, words: Path) -> Path:
    """A recipe whose jobs go to ``output`` beside it."""
    content = toys.recipe(data, words, tmp_path / "output")
    return toys.write_recipe(tmp_path / "recipe.yaml", content)
