"""The keys of each task in a ``run:`` block, as dataclasses with the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a task that has none."""


@dataclass(frozen=True, kw_only=True)
class CaptioningOptions:
    """How captions are written. The defaults are those of all published captioning recipes."""

    num_beams: int = 3
    max_len: int = 20
    """Tokens of the longest caption, the prompt's included."""
    min_len: int = 5
    report_metric: bool = True
    """Score the captions; false only writes them to the result file."""
    score_by: str | None = None
    """A field of the annotations: each of its values is scored apart, too. Not in LAVIS."""

    def __post_init__(self) -> None:
        _check_lengths(self.num_beams, self.min_len, self.max_len)


@dataclass(frozen=True, kw_only=True)
class DialogueOptions:
    """How replies are written. Loss and captions' metrics are scored, the lowest loss is best."""

    num_beams: int = 3
    max_len: int = 20
    """Tokens of the longest reply, its end included."""
    min_len: int = 1
    length_penalty: float = 1.0
    """Beams compete by log-probability / length ** length_penalty. Not in LAVIS."""
    report_metric: bool = True
    """Score the replies; false only writes them to the result file."""

    def __post_init__(self) -> None:
        _check_lengths(self.num_beams, self.min_len, self.max_len)


@dataclass(frozen=True, kw_only=True)
class VqaOptions:
    """How questions are answered."""

    num_beams: int = 3
    max_len: int = 10
    """Tokens of the longest answer."""
    min_len: int = 1
    inference_method: Literal["rank", "generate"] = "rank"
    """Choose from the data set's list of answers, or write freely."""
    num_ans_candidates: int = 128
    """Answers of the list that are ranked in full, chosen by their first token."""
    prompt: str = ""
    """Put before every question, e.g. ``"Question: {} Short answer:"``."""

    def __post_init__(self) -> None:
        _check_lengths(self.num_beams, self.min_len, self.max_len)
        _require([("num_ans_candidates", self.num_ans_candidates, 1)])


@dataclass(frozen=True, kw_only=True)
class ReadingComprehensionOptions(VqaOptions):
    """PnP-VQA: caption the parts of an image that matter, then read the captions."""

    num_beams: int = 1
    max_len: int = 20
    min_len: int = 0
    inference_method: Literal["rank", "generate"] = "generate"
    internal_bsz_fid: int = 1
    """Questions that the reader answers at a time."""
    num_captions: int = 50
    """Captions written of each image."""
    num_captions_fid: int = 1
    """Captions that the reader sees in one passage."""
    cap_max_length: int = 20
    cap_min_length: int = 10
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    num_patches: int = 20
    """Patches drawn by relevance to the question, for each caption."""
    block_num: int = 7
    """Layer of the matching model whose attention says what is relevant."""


ImageTokens = Literal["auto", "ram", "disk", "recompute"]


@dataclass(frozen=True, kw_only=True)
class RetrievalOptions:
    """How image-text retrieval is evaluated."""

    k_test: int = 256
    """Candidates of each query that the matching head re-ranks; dual encoders have none."""
    image_tokens: ImageTokens = "auto"
    """Where encoded images wait to be re-ranked: ``ram``, a temporary file on ``disk``, or nowhere:
    ``recompute`` encodes them once more. ``auto`` takes the first that has room. Not in LAVIS."""
    itc_weight: float = 1.0
    """Factor on the cosine that is added to the logit of a match. The inverse of the model's
    temperature adds the logits of both heads; 50 is the most. Not in LAVIS, which has 1."""

    def __post_init__(self) -> None:
        _require([("k_test", self.k_test, 1), ("itc_weight", self.itc_weight, 0)])
        if self.itc_weight > 50:  # pairs that are not judged have the score -100
            raise ValueError(f"itc_weight ({self.itc_weight}) must be at most 50")


TASK_OPTIONS: dict[str, type] = {
    "captioning": CaptioningOptions,
    "vqa": VqaOptions,
    "aok_vqa": VqaOptions,
    "gqa": VqaOptions,
    "vqa_reading_comprehension": ReadingComprehensionOptions,
    "gqa_reading_comprehension": ReadingComprehensionOptions,
    "retrieval": RetrievalOptions,
    "multimodal_classification": NoOptions,
    "image_text_pretrain": NoOptions,
    "dialogue": DialogueOptions,
}
"""The options of each task of v1.0.2. A task outside the library carries a class ``Options``."""


def below(bounds: list[tuple[str, float | None, float]]) -> list[str]:
    """A line for each ``(name, value, least)`` whose value is less than that."""
    return [
        f"{name} ({value}) must be at least {least}"
        for name, value, least in bounds
        if value is not None and value < least
    ]


def _check_lengths(num_beams: int, min_len: int, max_len: int) -> None:
    _require([("num_beams", num_beams, 1), ("min_len", min_len, 0), ("max_len", max_len, 1)])
    if min_len > max_len:
        raise ValueError(f"min_len ({min_len}) must not be more than max_len ({max_len})")


def _require(bounds: list[tuple[str, float | None, float]]) -> None:
    if broken := below(bounds):
        raise ValueError("\n".join(broken))
