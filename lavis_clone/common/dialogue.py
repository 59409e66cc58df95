"""GPT-2's words, with the tokens that mark the parts of a dialogue.

Processors turn dialogues into ids and models turn ids into replies by the same vocabulary. It is a
byte-level BPE (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019) that
cannot be shipped with the package: it is read from a folder, or downloaded from the hub.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from lavis_clone.common.files import FileError, resolve, write_atomic

BOS, EOS = "<bos>", "<eos>"
ASKER, ANSWERER = "<speaker1>", "<speaker2>"
VIDEO, CAPTION, PAD = "<video>", "<cap>", "<pad>"
EXTRA_TOKENS = (BOS, EOS, ASKER, ANSWERER, VIDEO, CAPTION, PAD)
"""What stands behind GPT-2's own 50,257 tokens, in this order."""

IGNORED_LABEL = -1
"""The label of a token that no loss is taken on, in batches of dialogues."""

TOKENIZER_NAME = "tokenizer.json"
VOCABULARY_NAME, MERGES_NAME = "vocab.json", "merges.txt"
_OWN_SPECIAL = "<|endoftext|>"
_HUB_OWNER = "openai-community"


class DialogueTokenizer:
    """Turns texts into GPT-2's ids and back.

    Args:
        location: A folder with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt``; such
            a ``tokenizer.json`` itself; or a name on the hub, such as ``gpt2``.

    Raises:
        FileError: it is in none of these places; says what to place where.
    """

    def __init__(self, location: str | Path = "gpt2") -> None:
        self.location = str(location)
        self._fast = _read(self.location)
        special = [*EXTRA_TOKENS, *([_OWN_SPECIAL] if self._knows(_OWN_SPECIAL) else [])]
        self._fast.add_special_tokens([AddedToken(token, special=True) for token in special])

    def __len__(self) -> int:
        return self._fast.get_vocab_size(with_added_tokens=True)

    def id(self, token: str) -> int:
        """The id of one token.

        Raises:
            KeyError: there is no such token.
        """
        found = self._fast.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return found

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without any token around it."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Write ids as text, without special tokens and what lies beyond the vocabulary."""
        known = len(self)  # a model's table of words may be larger
        text: str = self._fast.decode([i for i in ids if i < known], skip_special_tokens=True)
        return text.strip()

    def save(self, path: str | Path) -> None:
        """Write all of it into one file, which ``location`` may name."""
        write_atomic(path, self._fast.to_str())

    def _knows(self, token: str) -> bool:
        return self._fast.token_to_id(token) is not None


@lru_cache(maxsize=8)
def load_tokenizer(location: str) -> DialogueTokenizer:
    """The tokenizer of ``location``, read once per process.

    Raises:
        FileError: there is none; says what to place where.
    """
    return DialogueTokenizer(location)


def gpt2_file(location: str, name: str) -> Path:
    """A file of a GPT-2 that is a folder, ``hf://org/name`` or a name on the hub.

    Args:
        location: A folder; or a name on the hub, in which ``gpt2`` and its larger sizes need no
            owner.

    Raises:
        FileError: there is no such file, or it cannot be downloaded.
    """
    folder = Path(location).expanduser()
    if folder.is_dir():
        return resolve(folder / name)
    if "://" in location:
        return resolve(f"{location}/{name}")
    if location.startswith("gpt2") and "/" not in location:
        return resolve(f"hf://{_HUB_OWNER}/{location}/{name}")
    if location.startswith((".", "~", "/")) or location.count("/") != 1:
        raise FileError(f"no such folder: {folder}")
    return resolve(f"hf://{location}/{name}")


def _read(location: str) -> Tokenizer:
    path = Path(location).expanduser()
    try:
        if (path / VOCABULARY_NAME).is_file() and not (path / TOKENIZER_NAME).is_file():
            return _from_parts(path / VOCABULARY_NAME, gpt2_file(location, MERGES_NAME))
        is_file = location.endswith(".json")
        source = resolve(location) if is_file else gpt2_file(location, TOKENIZER_NAME)
    except FileError as error:
        raise FileError(
            f"tokenizer {location!r}: {error}; it may also be a folder that holds "
            f"{TOKENIZER_NAME}, or {VOCABULARY_NAME} and {MERGES_NAME}, of GPT-2"
        ) from error
    try:
        return Tokenizer.from_file(str(source))
    except Exception as error:  # the package raises nothing more special
        raise FileError(f"tokenizer {location!r}: {source} cannot be read: {error}") from error


def _from_parts(vocabulary: Path, merges: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # the package raises nothing more special
        raise FileError(f"{vocabulary} and {merges} cannot be read: {error}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
