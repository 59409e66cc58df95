"""Looks at what the annotations of a data set say, sample by sample.

Languages are told by script alone: the script to which most letters of a text belong, after the
names that Unicode gives them (``LATIN SMALL LETTER A``). English and French are both ``LATIN``.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from lavis_clone.datasets.base import Description

CountTokens = Callable[[str], int]
"""How many tokens a model reads a text as, those for its start and end included."""

ANSWER = "answer"
"""The role of answers beside the roles of texts."""
UNCHECKED = ("dialog", "choices")
"""Roles whose texts are other samples' questions and answers, or no sentences."""
UNDECODED = "�"
"""What is in the place of bytes that were no text."""
NO_LETTERS = "none"


class TextFacts(NamedTuple):
    """What one text is."""

    role: str
    num_words: int
    num_tokens: int | None
    """As the model reads it, after the text processor; None without a tokenizer."""
    script: str
    is_empty: bool
    """Whether nothing is left of it, at the latest when the text processor is done."""
    is_cut: bool
    """Whether the text processor takes words away."""
    is_garbled: bool
    start: str
    """Its first characters, for messages."""


class SampleFacts(NamedTuple):
    """What one sample is, without its media."""

    files: tuple[tuple[str, str], ...]
    """Role and path of each."""
    texts: tuple[TextFacts, ...]
    labels: tuple[str, ...]
    answers: tuple[str, ...]
    id_key: str
    """``question_id`` or ``image_id``; empty when it has no id."""
    id: Any
    digest: bytes
    """The same for two samples that say the same."""


class TextProbe(Dataset[SampleFacts]):
    """The facts of each sample of a data set.

    Args:
        dataset: Has ``describe``.
        count_tokens: The model's tokenizer, if there is a model.
    """

    def __init__(self, dataset: Any, count_tokens: CountTokens | None) -> None:
        self._dataset, self._count_tokens = dataset, count_tokens
        processor = getattr(dataset, "text_processor", None)
        self._process = None if getattr(processor, "takes_dialogues", False) else processor
        self._max_words: int | None = getattr(processor, "max_words", None)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> SampleFacts:
        found: Description = self._dataset.describe(index)
        id_key, id_ = _id_of(found.scalars)
        return SampleFacts(
            files=tuple((role, str(path)) for role, path in found.media.items()),
            texts=tuple(self._facts(role, text) for role, text in texts_of(found)),
            labels=found.labels,
            answers=tuple(found.answers),
            id_key=id_key,
            id=id_,
            digest=_digest(found),
        )

    def _facts(self, role: str, text: str) -> TextFacts:
        num_words = len(text.split())
        is_processed = role != ANSWER and self._process is not None
        read = self._process(text) if is_processed and self._process is not None else text
        return TextFacts(
            role=role,
            num_words=num_words,
            num_tokens=None if self._count_tokens is None else self._count_tokens(read),
            script=script_of(text),
            is_empty=not (text.strip() and read.strip()),
            is_cut=is_processed and self._max_words is not None and num_words > self._max_words,
            is_garbled=UNDECODED in text,
            start=text[:60],
        )


class Lengths:
    """How long the texts of one role are, counted as they come."""

    def __init__(self) -> None:
        self._words: Counter[int] = Counter()
        self._tokens: Counter[int] = Counter()

    def add(self, facts: TextFacts) -> None:
        """Count one more text."""
        self._words[facts.num_words] += 1
        if facts.num_tokens is not None:
            self._tokens[facts.num_tokens] += 1

    def summary(self) -> dict[str, Any]:
        """The number of texts, and the spread of their words and tokens."""
        spread = {"words": _spread(self._words), "tokens": _spread(self._tokens)}
        return {"texts": self._words.total(), **{k: v for k, v in spread.items() if v}}


def texts_of(found: Description) -> Iterator[tuple[str, str]]:
    """The role and the text of all that people wrote for one sample."""
    for role, texts in found.texts.items():
        if role not in UNCHECKED:
            yield from ((role, text) for text in texts)
    yield from ((ANSWER, answer) for answer in found.answers)


def script_of(text: str) -> str:
    """The script of most of a text's letters, in Unicode's words; ``none`` without letters.

    >>> script_of("2 chiens"), script_of("две собаки"), script_of("2!")
    ('LATIN', 'CYRILLIC', 'none')
    """
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else NO_LETTERS
    counts = Counter(_script(char) for char in text if char.isalpha())
    return counts.most_common(1)[0][0] if counts else NO_LETTERS


@lru_cache(maxsize=20_000)
def _script(char: str) -> str:
    return unicodedata.name(char, "UNKNOWN").split()[0]


def _id_of(scalars: Mapping[str, Any]) -> tuple[str, Any]:
    for key in ("question_id", "image_id"):
        if key in scalars:
            return key, scalars[key]
    return "", None


def _digest(found: Description) -> bytes:
    said = [found.media, found.texts, found.labels, found.answers]
    return hashlib.blake2b(repr(said).encode("utf-8", "replace"), digest_size=12).digest()


def _spread(counts: Counter[int]) -> dict[str, int]:
    """The least, the median, that of 95% and the most of some numbers."""
    total, seen = counts.total(), 0
    if not total:
        return {}
    wanted = {"median": 0.5, "most_of_95_percent": 0.95}
    found: dict[str, int] = {"least": min(counts)}
    for number in sorted(counts):
        seen += counts[number]
        for name, share in wanted.items():
            if name not in found and seen >= share * total:
                found[name] = number
    return {**found, "most": max(counts)}
