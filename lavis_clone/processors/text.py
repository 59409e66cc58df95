"""Cleans captions and questions as BLIP and ALBEF were trained on them.

Source: the pre-processing of ALBEF and BLIP as released with salesforce-lavis 1.0.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.processors.base import BaseProcessor

_PUNCTUATION = '.!"()*#:;~'
_TO_SPACES = str.maketrans(dict.fromkeys(_PUNCTUATION, " "))
_TO_NOTHING = str.maketrans(dict.fromkeys(_PUNCTUATION, ""))
_GAP = re.compile(r"\s{2,}")


@registry.register_processor("blip_caption")
@dataclass
class BlipCaptionProcessor(BaseProcessor):
    """Text to text: lower case, punctuation to spaces, at most ``max_words`` words."""

    prompt: str = ""
    """Put before the cleaned caption, as it is."""
    max_words: int = 50

    def __post_init__(self) -> None:
        _check_max_words(self.max_words)

    def transform(self, item: Any) -> str:
        return self.prompt + self.pre_caption(item)

    def pre_caption(self, caption: str) -> str:
        """The cleaned caption, without the prompt."""
        text = _require_text(caption, "caption").lower().translate(_TO_SPACES)
        text = _GAP.sub(" ", text).rstrip("\n").strip(" ")
        return _first_words(text, self.max_words)


@registry.register_processor("blip_question")
@dataclass
class BlipQuestionProcessor(BaseProcessor):
    """Text to text: lower case, punctuation removed, at most ``max_words`` words."""

    max_words: int = 50

    def __post_init__(self) -> None:
        _check_max_words(self.max_words)

    def transform(self, item: Any) -> str:
        return self.pre_question(item)

    def pre_question(self, question: str) -> str:
        """The cleaned question. Spaces at its start and between words stay, as in v1.0.2."""
        text = _require_text(question, "question").lower().translate(_TO_NOTHING)
        return _first_words(text.rstrip(" "), self.max_words)


def _first_words(text: str, count: int) -> str:
    """Cut after ``count`` words; each single space ends one, so a double space counts twice."""
    words = text.split(" ")
    return " ".join(words[:count]) if len(words) > count else text


def _require_text(value: Any, kind: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {kind} must be text, got {type(value).__name__}: {value!r:.80}")
    return value


def _check_max_words(max_words: int) -> None:
    if max_words < 1:
        raise ValueError(f"max_words ({max_words}) must be at least 1")
