"""What the drawings are of: the concepts of the emoji set, with their names and keywords."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SHARED = 3  # a keyword of more concepts than this describes none of them
LEFT_OUT_GROUPS = ("flags", "component", "extras-openmoji", "extras-unicode")

QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "_": " ", "–": "-", "—": "-"})
SPELLED = {"keycap: #": "keycap: number sign", "keycap: *": "keycap: asterisk"}
# At least two letters; neither emoticons (":-d") nor numbered short codes ("clock3").
KEYWORD = re.compile(r"(?=.*[a-z].*[a-z])(?!.*[a-z]\d)[a-z0-9][a-z0-9 '.,&/-]*")
PERSON = re.compile(r"\b(?:man|woman|person|men|women|people|adult)\b(?!'s)|\bfacing right\b")
SAME_BASE = {
    "": "person",
    "boy": "child",
    "girl": "child",
    "older": "old",
    "mermaid": "merperson",
    "merman": "merperson",
    "princess": "prince",
    "mrs. claus": "santa claus",
    "mx claus": "santa claus",
}


class BuildError(RuntimeError):
    """The set cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Concept:
    """What a drawing can be of.

    Attributes:
        key: Its code points, lower case, without ``fe0f``; names the picture file.
        names: What it is called, one or two phrases: the captions that training sees.
        references: The names and the keywords that few other concepts share.
        base: The name without man, woman, person: what look-alike variants have in common.
    """

    key: str
    name: str
    names: tuple[str, ...]
    references: tuple[str, ...]
    group: str
    subgroup: str
    base: str

    @property
    def split(self) -> str:
        remainder = int(hashlib.md5(self.key.encode()).hexdigest(), 16) % 10
        return {0: "test", 1: "val"}.get(remainder, "train")


def normal(text: str) -> str:
    """Lower-case ASCII with straight quotes, single spaces and no punctuation at the end."""
    text = unicodedata.normalize("NFKD", text.translate(QUOTES))
    text = " ".join(text.encode("ascii", "ignore").decode().lower().split())
    return SPELLED.get(text, text).rstrip(" .,;:!?")


def base_of(name: str, group: str) -> str:
    """What variants by gender, family or direction share: ``"running"`` of ``"man running"``."""
    if group != "people-body":
        return name
    if re.match(r"(family|kiss|couple with heart)\b", name):
        return name.split(":")[0]
    rest = PERSON.sub(" ", name).replace(":", " ").replace(",", " ")
    rest = re.sub(r"^and\b ?", "", " ".join(rest.split()))
    return SAME_BASE.get(rest, rest)


def key_of(code: str) -> str:
    """The key of code points such as ``"2764-FE0F"``."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def load_json(path: Path) -> Any:
    """Read a file of the packages; BuildError if it is absent or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"cannot read {path}: {error}") from error


def _unique(phrases: Iterable[str]) -> tuple[str, ...]:
    """``phrases`` in order, each once; ``"busstop"`` and ``"bus-stop"`` repeat ``"bus stop"``."""
    found: dict[str, str] = {}
    for phrase in phrases:
        letters = re.sub(r"[^a-z0-9]", "", phrase)
        if letters:
            found.setdefault(letters, phrase)
    return tuple(found.values())


def read_concepts(modules: Path) -> list[Concept]:
    """The concepts of ``modules`` (a ``node_modules`` folder), in openmoji's order."""
    rows = {
        key_of(row["hexcode"]): row
        for row in load_json(modules / "openmoji/data/openmoji.json")
        if not row["skintone"] and row["group"] not in LEFT_OUT_GROUPS
    }
    cldr = load_json(modules / "cldr-annotations-full/annotations/en/annotations.json")
    cldr = _by_key(cldr["annotations"]["annotations"])
    emojilib = _by_key(load_json(modules / "emojilib/dist/emoji-en-US.json"))

    names, keywords = {}, {}
    for key, row in rows.items():
        said = cldr.get(key, {})
        names[key] = _unique(map(normal, [row["annotation"], *said.get("tts", [])[:1]]))
        phrases = [
            *said.get("default", []),
            *row["tags"].split(","),
            *row["openmoji_tags"].split(","),
            *emojilib.get(key, []),
        ]
        keywords[key] = _unique(p for p in map(normal, phrases) if KEYWORD.fullmatch(p))
    bases = {key: base_of(names[key][0], row["group"]) for key, row in rows.items()}
    users: dict[str, set[str]] = defaultdict(set)  # of a phrase: variants of a base count once
    for key in rows:
        for phrase in (*names[key], *keywords[key]):
            users[phrase].add(bases[key])
    return [
        Concept(
            key=key,
            name=names[key][0],
            names=names[key],
            references=_unique(
                [*names[key], *(p for p in keywords[key] if len(users[p]) <= MAX_SHARED)]
            ),
            group=row["group"],
            subgroup=row["subgroups"],
            base=bases[key],
        )
        for key, row in rows.items()
    ]


def _by_key(table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` of characters as a table of our keys."""
    return {
        "-".join(f"{ord(c):04x}" for c in text if c != "\ufe0f"): value
        for text, value in table.items()
    }
