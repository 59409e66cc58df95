"""How a text is written, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How to write. Lengths count the prompt's tokens, as LAVIS counts them."""

    num_beams: int = 3
    """Texts followed at once by beam search; 1 always takes the best token."""
    max_length: int = 30
    min_length: int = 10
    """The text cannot end before it has this many tokens."""
    sample: bool = False
    """Draw tokens by their probability (nucleus sampling) instead of searching."""
    top_p: float = 0.9
    """Sample among the fewest tokens whose probabilities reach this sum."""
    top_k: int = 50
    """Sample among this many tokens at most; 0 for no limit."""
    temperature: float = 1.0
    """Sampling divides the scores by this."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that the text already holds become less likely
    (Keskar et al., https://arxiv.org/abs/1909.05858)."""
    length_penalty: float = 1.0
    """Beams compete by log-probability / length ** length_penalty."""
    num_return: int = 1
    """Texts per prompt: the best beams, or independent samples."""

    def __post_init__(self) -> None:
        _check(self.num_beams >= 1, "num_beams", self.num_beams, "at least 1")
        _check(self.max_length >= 1, "max_length", self.max_length, "at least 1")
        _check(
            0 <= self.min_length <= self.max_length,
            "min_length",
            self.min_length,
            f"between 0 and max_length ({self.max_length})",
        )
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]")
        _check(self.top_k >= 0, "top_k", self.top_k, "at least 0")
        _check(self.temperature > 0, "temperature", self.temperature, "above 0")
        penalty = self.repetition_penalty
        _check(penalty > 0, "repetition_penalty", penalty, "above 0")
        limit = self.num_beams if not self.sample and self.num_beams > 1 else None
        _check(self.num_return >= 1, "num_return", self.num_return, "at least 1")
        if limit is not None:
            _check(
                self.num_return <= limit, "num_return", self.num_return, f"at most {limit} beams"
            )


def _check(holds: bool, name: str, value: float, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {value}")


class TokenScorer(Protocol):
    """Scores next tokens of R texts about C contexts, R a multiple of C; keeps its own cache."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """``(R, t)`` the tokens that come next in each text -> ``(R, V)`` scores after them."""

    def select_rows(self, rows: Tensor) -> None:
        """Let text i go on from what text ``rows[i]`` holds; R may change."""

    def select_contexts(self, contexts: Tensor) -> None:
        """Keep the contexts with these indices only."""


@dataclass(frozen=True)
class Written:
    """Texts as token ids. N texts, those of one prompt next to each other, T tokens."""

    tokens: Tensor
    """``(N, T)`` prompt and text; padded after the end."""
    log_prob: Tensor
    """``(N,)`` sum of the written tokens' log-probabilities, before any penalty."""
    num_tokens: Tensor
    """``(N,)`` tokens written, the end included where the text has one."""
