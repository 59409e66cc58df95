"""What the tests of dialogues share: words, and a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from lavis_clone.common.dialogue import DialogueTokenizer, load_tokenizer
from lavis_clone.models.dialogue.model import GPTDialogue
from tests.models import tiny
from tests.models.dialogue.making import made


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("words")


@pytest.fixture(scope="package")
def words(folder: Path) -> DialogueTokenizer:
    return load_tokenizer(str(tiny.write_gpt2_words(folder)))


@pytest.fixture(scope="package")
def model(folder: Path) -> GPTDialogue:
    return made(folder)
