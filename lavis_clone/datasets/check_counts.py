"""What is counted in one split while its samples and files are read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from lavis_clone.datasets.check_media import MediaFacts
from lavis_clone.datasets.check_texts import Lengths, SampleFacts

MAX_ANSWERS = 50
"""Answers whose counts a report has, the most frequent ones."""


class SplitCounts:
    """Counts samples, texts, labels, answers, ids and files as they come.

    Args:
        dataset: The split; its ``answer_list``, if it has one, is what answers are chosen from.
        is_scored: Whether the split is evaluated on, so that ids tell its samples apart.
    """

    def __init__(self, dataset: Any, *, is_scored: bool) -> None:
        self.labels: Counter[str] = Counter()
        self.num_samples = 0
        self._is_scored_by_image = is_scored and hasattr(dataset, "references")
        self._choices = frozenset(getattr(dataset, "answer_list", None) or ())
        self._num_answered, self._num_answerable = 0, 0
        self._answers: Counter[str] = Counter()
        self._scripts: Counter[str] = Counter()
        self._lengths: dict[str, Lengths] = defaultdict(Lengths)
        self._digests: set[bytes] = set()
        self._question_ids: set[Any] = set()
        self._file_of_image: dict[Any, str] = {}
        self._num_files, self._num_bytes = 0, 0
        self._smallest: tuple[int, int] | None = None
        self._largest: tuple[int, int] | None = None

    def take(self, facts: SampleFacts) -> Iterator[tuple[str, str]]:
        """Count one more sample.

        Yields:
            What is wrong with it beside earlier ones: a name of ``check.PROBLEMS`` and a message.
        """
        self.num_samples += 1
        self.labels.update(facts.labels)
        self._answers.update(facts.answers)
        self._num_answered += bool(facts.answers)
        self._num_answerable += not self._choices.isdisjoint(facts.answers)
        for text in facts.texts:
            self._lengths[text.role].add(text)
            self._scripts[text.script] += 1
        if facts.digest in self._digests:
            yield "repeated_sample", "an earlier sample has the same media and texts"
        self._digests.add(facts.digest)
        yield from self._check_id(facts)

    def _check_id(self, facts: SampleFacts) -> Iterator[tuple[str, str]]:
        if facts.id_key == "question_id":
            if facts.id in self._question_ids:
                yield "duplicate_id", f"question_id {facts.id!r} is an earlier sample's, too"
            self._question_ids.add(facts.id)
        elif facts.id_key == "image_id" and self._is_scored_by_image and facts.files:
            file = facts.files[0][1]
            known = self._file_of_image.setdefault(facts.id, file)
            if known != file:
                yield "duplicate_id", f"image_id {facts.id!r} is that of {known}, too"

    def measure(self, facts: MediaFacts) -> None:
        """Count one more file."""
        self._num_files += 1
        self._num_bytes += facts.num_bytes
        if facts.problem is not None:
            return
        size = (facts.height, facts.width)
        self._smallest = min(self._smallest or size, size, key=_area)
        self._largest = max(self._largest or size, size, key=_area)

    def summary(self) -> dict[str, Any]:
        """All counts, as a report has them; what there is none of is left out."""
        found: dict[str, Any] = {
            "samples": self.num_samples,
            "files": self._num_files,
            "bytes": self._num_bytes,
            "smallest": list(self._smallest or ()),
            "largest": list(self._largest or ()),
            "texts": {role: lengths.summary() for role, lengths in self._lengths.items()},
            "scripts": dict(self._scripts.most_common()),
            "labels": dict(self.labels.most_common()),
            "answers": dict(self._answers.most_common(MAX_ANSWERS)),
            "distinct_answers": len(self._answers),
        }
        if self._choices and self._num_answered:
            found["share_answerable"] = self._num_answerable / self._num_answered
        return {key: value for key, value in found.items() if value}


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
