"""The sample of the emoji set that the library ships, with the licences it comes under."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from emoji_concepts import Concept, load_json
from emoji_drawings import write_atomic
from emoji_records import Record, split_records, write_annotations
from emoji_tasks import SAMPLE, write_tasks

VENDORS = ("noto", "fluent-flat", "openmoji", "twemoji")
CONCEPTS = 700
SUFFIX = ".webp"  # lossless: under half of the PNG's bytes, and smaller than a 256-colour PNG
EFFORT = 75  # of 100, of a search that is lossless at any; the last 1.5 % take 50 times as long
FAMILIAR = (  # always in the sample: what a first demonstration should show
    *("1f355", "1f680", "1f98b", "1f422", "1f418", "1f34e", "1f34c", "1f697", "2615", "1f388"),
    *("1f384", "1f511", "1f4d6", "1f602", "1f981", "1f427", "1f41d", "1f339", "1f308", "1f3e0"),
    *("1f436", "1f431", "1f6b2", "26f5", "1f382", "1f354", "2764", "1f3b8"),
)

ATTRIBUTION = Path(__file__).with_name("attribution.md")
SPDX = "spdx-license-list/licenses"
LICENCES = {  # file beside the sample -> where its text is, under node_modules
    "Apache-2.0-noto.txt": f"{SPDX}/Apache-2.0.json",
    "CC-BY-4.0-twemoji.txt": f"{SPDX}/CC-BY-4.0.json",
    "CC-BY-SA-4.0-openmoji.txt": "openmoji/LICENSE.txt",
    "MIT-fluent-emoji.txt": f"{SPDX}/MIT.json",
    "MIT-emojilib.txt": "emojilib/LICENSE",
    "Unicode-3.0-cldr.txt": "cldr-annotations-full/LICENSE",
}
HOLDER = {"MIT-fluent-emoji.txt": "Copyright (c) Microsoft Corporation."}
BLANK_HOLDER = "Copyright (c) <year> <copyright holders>"


def choose(drawn: Iterable[tuple[Concept, str]], count: int = CONCEPTS) -> list[Concept]:
    """Pick about ``count`` concepts that every vendor of the sample drew.

    Each group keeps its share. Of look-alike variants one stays. Within a group the familiar
    ones come first, then a hash decides, so that the choice is the same everywhere and does not
    depend on the split.
    """
    vendors: dict[Concept, set[str]] = defaultdict(set)
    for concept, vendor in drawn:
        vendors[concept].add(vendor)
    able = [concept for concept, of in vendors.items() if of.issuperset(VENDORS)]

    def rank(concept: Concept) -> tuple[bool, str]:
        digest = hashlib.md5(f"sample {concept.key}".encode()).hexdigest()
        return concept.key not in FAMILIAR, digest

    groups: dict[str, dict[str, Concept]] = defaultdict(dict)
    for concept in sorted(able, key=rank):
        groups[concept.group].setdefault(concept.base, concept)
    total = sum(map(len, groups.values()))
    chosen = set()
    for members in groups.values():
        share = -(-count * len(members) // total)  # rounded up: no group is left out
        chosen.update(list(members.values())[:share])
    return [concept for concept in able if concept in chosen]


def write_sample(
    drawn: Sequence[tuple[Concept, str]], images: Path, modules: Path, out: Path
) -> dict[str, list[Record]]:
    """Write the sample under ``out``: pictures, annotations, licences and their attribution.

    Args:
        drawn: Every picture of the full set.
        images: The folder of the full set's pictures.
        modules: The ``node_modules`` folder, for the licence texts.

    Returns:
        The annotation records, by split.
    """
    chosen = set(choose(drawn))
    splits = split_records(((c, v) for c, v in drawn if c in chosen and v in VENDORS), SUFFIX)
    wanted = {out / "images" / row["image"] for rows in splits.values() for row in rows}
    for path in (out / "images").glob(f"*/*{SUFFIX}"):
        if path not in wanted:
            path.unlink()
    for path in sorted(wanted):
        write_atomic(path, _lossless(images / path.parent.name / f"{path.stem}.png"))
    write_annotations(splits, out / "annotations")
    write_tasks(splits, out / "annotations", SAMPLE)
    for name, source in LICENCES.items():
        write_atomic(out / "LICENSES" / name, _licence(modules / source, HOLDER.get(name)).encode())
    write_atomic(out / "README.md", ATTRIBUTION.read_bytes())
    return splits


def count_line(splits: Mapping[str, Sequence[Record]]) -> str:
    """Pictures per split, e.g. ``"train 3, val 2 (1 unseen), test 2 (1 unseen)"``."""
    parts = []
    for split, rows in splits.items():
        unseen = sum(not row["seen"] for row in rows)
        parts.append(f"{split} {len(rows)}" + (f" ({unseen} unseen)" if unseen else ""))
    return ", ".join(parts)


def _lossless(path: Path) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    with Image.open(path) as picture:
        picture.save(out, "WEBP", lossless=True, quality=EFFORT, method=6)
    return out.getvalue()


def _licence(path: Path, holder: str | None) -> str:
    if path.suffix != ".json":
        return path.read_text(encoding="utf-8")
    text = load_json(path)["licenseText"]
    return text if holder is None else text.replace(BLANK_HOLDER, holder)
