"""Annotations of animated emoji: which clip belongs where, and what it is called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from emoji_chance import number
from emoji_clips import HALVES, PLAIN, Clip
from emoji_concepts import Concept
from emoji_records import Record
from emoji_statements import SIDED

TRAIN = "train"
PARTS = (TRAIN, "val_seen", "val_unseen", "test_seen", "test_unseen")


def parts_of(concepts: Iterable[Concept], animated: Collection[str]) -> dict[str, list[Record]]:
    """The plain clips of each part.

    Variants by gender are one concept, and in one split, which is that of the variant that stands
    for all. Those that train show the first half of their animation, all variants of them.
    Clips to evaluate with show the second half, one variant of each concept: of the concepts
    that train, half are ``val_seen`` and half ``test_seen``; the others are ``val_unseen`` and
    ``test_unseen``.

    Args:
        concepts: All, in an order that is always the same.
        animated: Keys of those that there are animations of.
    """
    parts: dict[str, list[Record]] = {part: [] for part in PARTS}
    for variants in _by_base(c for c in concepts if c.key in animated):
        chosen = _chosen(variants)
        if chosen.split == TRAIN:
            others = [variant for variant in variants if variant is not chosen]
            parts[TRAIN].append(_row(chosen, HALVES[0], seen=True))
            parts[TRAIN] += [_row(other, HALVES[0], seen=True, stands=False) for other in others]
            part = f"{('val', 'test')[number('seen', chosen.base) % 2]}_seen"
        else:
            part = f"{chosen.split}_unseen"
        parts[part].append(_row(chosen, HALVES[1], seen=chosen.split == TRAIN))
    return parts


def retrieval_records(rows: Iterable[Record], part: str) -> Iterator[Record]:
    """One clip of each concept with its name.

    ALPRO takes every other text of a batch for a wrong one, so no name may be there twice.
    """
    for row in rows:
        if row["stands"]:
            caption = row["name"] if part == TRAIN else [row["name"]]
            yield {"video": row["image"], "caption": caption, "image_id": row["base"]}


def _by_base(concepts: Iterable[Concept]) -> Iterable[Sequence[Concept]]:
    """The variants of each base. Names with a side are left out: training mirrors videos."""
    found: dict[str, list[Concept]] = {}
    for concept in concepts:
        if not SIDED.search(concept.name):
            found.setdefault(concept.base, []).append(concept)
    return found.values()


def _chosen(variants: Sequence[Concept]) -> Concept:
    """The variant that stands for all: a person of no gender, if there is one."""
    neutral = [v for v in variants if v.name.startswith(("person", "people"))]
    return [*neutral, *variants][0]


def _row(concept: Concept, half: str, *, seen: bool, stands: bool = True) -> Record:
    """What is known of a clip, in the fields of caption records, for ``emoji_questions``.

    Args:
        seen: Whether clips of the concept are trained on.
        stands: Whether it stands for all variants of the concept.
    """
    return {
        "image": Clip(PLAIN, half, (concept.key,)).path,
        "concept": concept.key,
        "name": concept.base,
        "base": concept.base,
        "references": list(concept.references),
        "group": concept.group,
        "subgroup": concept.subgroup,
        "seen": seen,
        "stands": stands,
    }
