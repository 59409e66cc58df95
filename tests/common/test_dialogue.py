"""GPT-2's words: where they are found, and what is told when they are not."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from huggingface_hub import constants

from lavis_clone.common.dialogue import EXTRA_TOKENS, DialogueTokenizer, gpt2_file
from lavis_clone.common.files import FileError
from tests.models import tiny

TEXTS = [
    *tiny.DIALOGUES,
    "",
    " two  spaces ",
    "Ünïcode 犬 👩🏽‍🚀 https://x.org/?a=1",
    "line\nline\t",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_gpt2_words(tmp_path_factory.mktemp("words"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_seven_tokens_stand_behind_gpt2s_own(folder: Path) -> None:
    words = DialogueTokenizer(folder)
    own = len(json.loads((folder / "vocab.json").read_text()))
    assert len(words) == own + 7
    assert [words.id(token) for token in EXTRA_TOKENS] == list(range(own, own + 7))
    with pytest.raises(KeyError, match="<speaker3>"):
        words.id("<speaker3>")


def test_with_gpt2s_own_number_of_words_there_are_50264(tmp_path: Path) -> None:
    found = json.loads((tiny.write_gpt2_words(tmp_path) / "vocab.json").read_text())
    del found["<|endoftext|>"]
    words = sorted(found, key=found.get)
    words += [f"Ġfiller{number}" for number in range(50256 - len(words))] + ["<|endoftext|>"]
    ids = {word: number for number, word in enumerate(words)}
    (tmp_path / "gpt2_words" / "vocab.json").write_text(json.dumps(ids))
    tokenizer = DialogueTokenizer(tmp_path / "gpt2_words")
    assert len(tokenizer) == 50264
    assert (tokenizer.id("<|endoftext|>"), tokenizer.id("<bos>")) == (50256, 50257)
    assert (tokenizer.id("<eos>"), tokenizer.id("<pad>")) == (50258, 50263)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_written_as_they_were_read(folder: Path, text: str) -> None:
    words = DialogueTokenizer(folder)
    ids = words.encode(text)
    assert max(ids, default=0) < len(words) - 7
    assert words.decode(ids) == text.strip()


def test_special_tokens_and_what_is_beyond_are_not_written(folder: Path) -> None:
    words = DialogueTokenizer(folder)
    marks = [words.id(token) for token in (*EXTRA_TOKENS, "<|endoftext|>")]
    assert words.decode([*marks, *words.encode("he drinks"), *marks, len(words) + 3]) == "he drinks"


def test_one_file_holds_it_all(folder: Path, tmp_path: Path) -> None:
    words = DialogueTokenizer(folder)
    words.save(tmp_path / "tokenizer.json")
    for location in (tmp_path, tmp_path / "tokenizer.json"):
        again = DialogueTokenizer(location)
        assert len(again) == len(words)
        assert [again.encode(text) for text in TEXTS] == [words.encode(text) for text in TEXTS]
        assert again.id("<cap>") == words.id("<cap>")
    assert pickle.loads(pickle.dumps(words)).encode(TEXTS[0]) == words.encode(TEXTS[0])


def test_a_file_of_the_hub_that_is_not_there_is_told_in_one_line(offline: Path) -> None:
    with pytest.raises(FileError) as told:
        DialogueTokenizer("gpt2")
    message = str(told.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("tokenizer 'gpt2': cannot get hf://openai-community/gpt2/tokenizer")
    assert f"fill {offline}" in message
    assert "`hf download openai-community/gpt2 tokenizer.json`" in message
    assert "a folder that holds tokenizer.json, or vocab.json and merges.txt" in message


@pytest.mark.parametrize(
    ("location", "start"),
    [
        ("distilbert/distilgpt2", "cannot get hf://distilbert/distilgpt2/model.safetensors: "),
        ("hf://me/mine", "cannot get hf://me/mine/model.safetensors: "),
        ("gpt2-medium", "cannot get hf://openai-community/gpt2-medium/model.safetensors: "),
        ("/no/such/gpt2", "no such folder: /no/such/gpt2"),
        ("./gpt2", "no such folder: gpt2"),
        ("my_words", "no such folder: my_words"),
    ],
)
def test_names_of_the_hub_are_told_from_folders(location: str, start: str, offline: Path) -> None:
    with pytest.raises(FileError) as told:
        gpt2_file(location, "model.safetensors")
    assert str(told.value).startswith(start)


def test_a_folder_that_lacks_a_file_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    with pytest.raises(
        FileError, match=r"^tokenizer .* no such file: .*merges.txt; it may also be"
    ):
        DialogueTokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("a b c d\n")
    with pytest.raises(FileError, match=r"merges.txt cannot be read: "):
        DialogueTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(FileError, match=r"tokenizer.json cannot be read: "):
        DialogueTokenizer(tmp_path)
