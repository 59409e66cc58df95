"""Reads all of a run's data once, before a model does, and says what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lavis_clone.datasets.check_counts import SplitCounts
from lavis_clone.datasets.check_media import (
    MAX_LOOKED_AT,
    MediaFacts,
    MediaProbe,
    Source,
    alike,
    look_the_same,
)
from lavis_clone.datasets.check_texts import (
    ANSWER,
    CountTokens,
    SampleFacts,
    TextFacts,
    TextProbe,
)

Facts = TypeVar("Facts")

ERROR, WARNING = "error", "warning"
PROBLEMS: dict[str, tuple[str, str]] = {
    "unreadable_annotations": (ERROR, "a split cannot be read at all"),
    "missing_media": (ERROR, "no file is where the annotations say"),
    "corrupt_media": (ERROR, "a file is there, but cannot be decoded to its end"),
    "empty_text": (ERROR, "nothing is left of a text, at the latest after the text processor"),
    "duplicate_id": (ERROR, "two samples have one id, which the scores tell them apart by"),
    "shared_picture": (ERROR, "the same file content is trained on and evaluated on"),
    "similar_picture": (WARNING, "a picture that is evaluated on looks like one of training"),
    "repeated_picture": (
        WARNING,
        "the same file content is trained or evaluated on under several names",
    ),
    "repeated_sample": (WARNING, "a split has the same media and texts twice"),
    "long_text": (WARNING, "a text loses its end, in the text processor or in the model"),
    "garbled_text": (WARNING, "a text has the sign for bytes that were no text, U+FFFD"),
    "unknown_label": (WARNING, "a label that is evaluated on is never trained on"),
}
"""What can be wrong: how grave it is, and what it means."""

TRAINED, EVALUATED = 1, 2
CHUNK = 32
"""Samples or files that a worker process takes at once."""


@dataclass(frozen=True)
class Part:
    """One split of a data set."""

    name: str
    split: str
    dataset: Any
    is_trained_on: bool

    def __str__(self) -> str:
        return f"{self.name}/{self.split}"


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How to look."""

    count_tokens: CountTokens | None = None
    """The tokenizer of the model that is to read the texts."""
    max_tokens: int | None = None
    """How many it reads of one text; answers are read whole."""
    decode: bool = True
    """Whether to open media; otherwise only texts, labels and ids are looked at."""
    num_workers: int = 0
    """Processes beside this one."""
    allowed: frozenset[str] = frozenset()
    """Names of ``PROBLEMS`` that are warnings, whatever they were."""
    max_listed: int = 200
    """Findings of one sort and split that are listed; all are counted."""

    def __post_init__(self) -> None:
        if unknown := self.allowed - PROBLEMS.keys():
            raise ValueError(f"no such problem: {min(unknown)!r} (there are {', '.join(PROBLEMS)})")
        if self.num_workers < 0:
            raise ValueError(f"num_workers ({self.num_workers}) must be at least 0")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    problem: str
    """A name of ``PROBLEMS``."""
    part: str
    """Data set and split."""
    where: str
    """A sample by its number, or a file."""
    message: str


@dataclass
class Report:
    """What a check found."""

    counts: Counter[str] = field(default_factory=Counter)
    """How often each problem was found."""
    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Statistics of each split."""
    is_complete: bool = True
    """False when the check was interrupted."""
    allowed: frozenset[str] = frozenset()

    def level(self, problem: str) -> str:
        """``error`` or ``warning``."""
        return WARNING if problem in self.allowed else PROBLEMS[problem][0]

    def count(self, level: str) -> int:
        """How many errors or warnings there are."""
        return sum(n for problem, n in self.counts.items() if self.level(problem) == level)


def check_parts(
    parts: Sequence[Part], options: CheckOptions, unreadable: Mapping[str, str] | None = None
) -> Report:
    """Read all samples, then all of their files, and compare what is trained on and evaluated on.

    Ctrl-C ends the check early; the report then holds what was found until then.

    Args:
        unreadable: Why some splits could not be built, by data set and split.
    """
    check = _Check(sorted(parts, key=lambda part: not part.is_trained_on), options)
    for part, reason in (unreadable or {}).items():
        check.note("unreadable_annotations", part, "", reason)
    try:
        check.read_samples()
        check.compare_labels()
        if options.decode:
            check.read_media()
            check.compare_media()
    except KeyboardInterrupt:
        check.report.is_complete = False
    return check.finished()


class _Check:
    """The state of one check."""

    def __init__(self, parts: Sequence[Part], options: CheckOptions) -> None:
        self._parts, self._options = parts, options
        self.report = Report(allowed=options.allowed)
        self._listed: Counter[tuple[str, str]] = Counter()
        self._splits = [
            SplitCounts(part.dataset, is_scored=not part.is_trained_on) for part in parts
        ]
        self._files: dict[str, int] = {}  # path to number, in order of appearance
        self._roles: list[str] = []
        self._named: list[int] = []  # by number, a bit for each part that names the file
        self._trained = sum(1 << n for n, part in enumerate(self._parts) if part.is_trained_on)
        self._places: list[tuple[int, int]] = []  # part and sample that named a file first
        self._facts: list[MediaFacts] = []

    def note(self, problem: str, part: str, where: str, message: str) -> None:
        """Count a finding, and list it unless there are many like it."""
        self.report.counts[problem] += 1
        self._listed[problem, part] += 1
        if self._listed[problem, part] <= self._options.max_listed:
            self.report.findings.append(Finding(problem, part, where, message))

    def read_samples(self) -> None:
        """Go through all texts, labels and ids, and note which files there are."""
        for number, (part, split) in enumerate(zip(self._parts, self._splits, strict=True)):
            probe = TextProbe(part.dataset, self._options.count_tokens)
            for index, facts in self._probed(probe, f"{part}: samples"):
                self._take(number, index, facts)
                for problem, message in split.take(facts):
                    self.note(problem, str(part), f"sample {index}", message)
                for text in facts.texts:
                    self._judge(text, part, index)

    def _take(self, part: int, index: int, facts: SampleFacts) -> None:
        for role, path in facts.files:
            number = self._files.setdefault(path, len(self._files))
            if number == len(self._roles):
                self._roles.append(role)
                self._named.append(0)
                self._places.append((part, index))
            elif not self._parts[part].is_trained_on and self._use(number) == TRAINED:
                self.note(
                    *("shared_picture", str(self._parts[part]), f"sample {index}"),
                    f"{path}: is trained on too, as {self._place(number)}",
                )
            self._named[number] |= 1 << part

    def _use(self, number: int) -> int:
        """What a file is used for: ``TRAINED``, ``EVALUATED`` or both."""
        named = self._named[number]
        return TRAINED * bool(named & self._trained) | EVALUATED * bool(named & ~self._trained)

    def _judge(self, text: TextFacts, part: Part, index: int) -> None:
        where, limit = f"sample {index}", self._options.max_tokens
        if text.is_empty:
            self.note("empty_text", str(part), where, f"{text.role} is empty: {text.start!r}")
        if text.is_garbled:
            self.note("garbled_text", str(part), where, f"{text.role}: {text.start!r}")
        too_long = text.role != ANSWER and None not in (limit, text.num_tokens)
        if too_long and text.num_tokens > limit:  # type: ignore[operator]  # neither is None
            told = f"{text.num_tokens} tokens, but the model reads {limit}: {text.start!r}..."
            self.note("long_text", str(part), where, f"{text.role} has {told}")
        elif text.is_cut:
            told = f"{text.num_words} words, more than its processor keeps: {text.start!r}..."
            self.note("long_text", str(part), where, f"{text.role} has {told}")

    def compare_labels(self) -> None:
        """Find labels that only evaluation has."""
        trained: dict[str, set[str]] = defaultdict(set)
        for part, split in zip(self._parts, self._splits, strict=True):
            if part.is_trained_on:
                trained[part.name] |= split.labels.keys()
        for part, split in zip(self._parts, self._splits, strict=True):
            if not part.is_trained_on and trained[part.name]:
                for label in sorted(split.labels.keys() - trained[part.name]):
                    message = f"label {label!r} of {split.labels[label]} samples is not trained on"
                    self.note("unknown_label", str(part), "", message)

    def read_media(self) -> None:
        """Decode every file once."""
        probe = MediaProbe(self._source, self._roles)
        for number, facts in self._probed(probe, "pictures and videos"):
            self._facts.append(facts)
            for part, split in enumerate(self._splits):
                if self._named[number] >> part & 1:
                    split.measure(facts)
            part, index = self._places[number]
            if facts.problem is not None:
                problem = "missing_media" if facts.is_missing else "corrupt_media"
                self.note(problem, str(self._parts[part]), f"sample {index}", facts.problem)

    def _source(self, number: int) -> Source:
        path = Path(self._paths[number])
        pictures = getattr(self._parts[self._places[number][0]].dataset, "pictures", None)
        if pictures is None:
            return path
        opened: Source = pictures.open(path.relative_to(pictures.label).as_posix())
        return opened

    @cached_property
    def _paths(self) -> list[str]:
        """The files, in the order of their numbers, when all are known."""
        return list(self._files)

    def compare_media(self) -> None:
        """Find the same pictures under several names, and in training and evaluation."""
        paths = self._paths
        first: dict[tuple[bytes, int], int] = {}  # by content and use
        for number, facts in enumerate(self._facts):
            for use in (TRAINED, EVALUATED):
                if facts.digest and self._use(number) & use:
                    other = first.setdefault((facts.digest, use), number)
                    if other != number:
                        self._note_file("repeated_picture", number, other, paths)
        for (digest, use), number in first.items():
            twin = first.get((digest, TRAINED)) if use == EVALUATED else None
            if twin is not None and twin != number:
                self._note_file("shared_picture", number, twin, paths)
        for number, other in self._alike():
            self._note_file("similar_picture", number, other, paths)

    def _alike(self) -> Iterator[tuple[int, int]]:
        """Evaluated pictures, each with the most like one that is trained on."""
        looks: dict[int, list[int | None]] = {
            use: [
                facts.look if self._use(number) == use else None
                for number, facts in enumerate(self._facts)
            ]
            for use in (TRAINED, EVALUATED)
        }
        known = {
            facts.digest for n, facts in enumerate(self._facts) if self._use(n) & TRAINED
        }  # what is the very same is told already
        closest: dict[int, int] = {}
        pairs = sorted(alike(looks[TRAINED], looks[EVALUATED]), key=lambda pair: pair[2])
        for trained, evaluated, _ in pairs[:MAX_LOOKED_AT]:
            is_told = evaluated in closest or self._facts[evaluated].digest in known
            if is_told or self._roles[trained] != self._roles[evaluated]:
                continue
            both = self._source(evaluated), self._source(trained)
            if self._roles[trained] == "video" or look_the_same(*both):
                closest[evaluated] = trained
        yield from sorted(closest.items())

    def _note_file(self, problem: str, number: int, other: int, paths: Sequence[str]) -> None:
        part, index = self._places[number]
        same = "looks like" if problem == "similar_picture" else "is the same as"
        message = f"{paths[number]} {same} {paths[other]} ({self._place(other)})"
        self.note(problem, str(self._parts[part]), f"sample {index}", message)

    def _place(self, number: int) -> str:
        part, index = self._places[number]
        return f"{self._parts[part]}, sample {index}"

    def _probed(self, probe: Dataset[Facts], label: str) -> Iterator[tuple[int, Facts]]:
        """All facts of a probe with their numbers, in order, found by several processes."""
        total = len(probe)  # type: ignore[arg-type]  # all probes have a length
        workers = min(self._options.num_workers, -(-total // CHUNK) - 1)
        loader = DataLoader(
            probe, batch_size=CHUNK, num_workers=max(workers, 0), collate_fn=list[Facts]
        )
        number = 0
        with tqdm(total=total, desc=label, disable=None, leave=False, dynamic_ncols=True) as bar:
            for chunk in loader:
                for facts in chunk:
                    yield number, facts
                    number += 1
                bar.update(len(chunk))

    def finished(self) -> Report:
        """The report, with the statistics of all splits."""
        self.report.splits = {
            str(part): split.summary()
            for part, split in zip(self._parts, self._splits, strict=True)
        }
        return self.report
