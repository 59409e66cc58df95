"""What can be said of a drawing for certain: whether it shows an animal, a plant, ...

A kind is true of some subgroups of OpenMoji's and false of the others. Where the two meet (a cat's
face with tears, a teddy bear, a fried shrimp) people would argue, so nothing is said or asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from emoji_records import Record

PEOPLE = r"person|person-(gesture|role|fantasy|activity|sport|resting)|family"
FACES = r"face-.*|cat-face|monkey-face"
NOTHING = r"(?!)"


@dataclass(frozen=True)
class Kind:
    """Something that drawings are or are not.

    Attributes:
        phrase: With its article, as in "is this an animal?".
        subgroups: Regex of the subgroups of which it is true.
        unsure: Regex of the subgroups of which it is not clear.
        unsure_names: Further concepts of which it is not clear.
    """

    phrase: str
    subgroups: str
    unsure: str = NOTHING
    unsure_names: tuple[str, ...] = ()

    def is_true_of(self, row: Record) -> bool | None:
        """Whether a record's picture shows it; None where that is not clear."""
        subgroup = row["subgroup"]
        if row["name"] in self.unsure_names or re.fullmatch(self.unsure, subgroup):
            return None
        return re.fullmatch(self.subgroups, subgroup) is not None


KINDS = (
    Kind(
        "an animal",
        r"animal-.*",
        unsure=rf"{FACES}|{PEOPLE}|zodiac|food-.*",
        unsure_names=(
            *("feather", "wing", "pig nose", "paw prints", "spider web", "spiral shell", "coral"),
            *("microbe", "phoenix", "dragon", "dragon face", "mahjong red dragon", "teddy bear"),
            *("carp streamer", "carousel horse", "empty nest", "nest with eggs"),
        ),
    ),
    Kind(
        "a plant",
        r"plant-.*",
        unsure=r"food-.*|place-geographic",
        unsure_names=(
            *("rosette", "white flower", "mushroom", "empty nest", "nest with eggs", "coral"),
            *("christmas tree", "tanabata tree", "pine decoration", "flower playing cards"),
            *("wood", "house with garden", "jack-o-lantern", "fleur-de-lis"),
        ),
    ),
    Kind(
        "something to eat",
        r"food-.*",
        unsure=r"animal-(marine|mammal|bird)|plant-.*|drink|dishware|medical",
        unsure_names=(
            *("cooking", "pot of food", "takeout box", "salt", "moon viewing ceremony"),
            "jack-o-lantern",
        ),
    ),
    Kind(
        "a vehicle",
        r"transport-(ground|water|air)",
        unsure=r"person-(activity|sport|role)|transport-sign",
        unsure_names=(
            *("station", "bus stop", "motorway", "railway track", "oil drum", "wheel", "stop sign"),
            *("police car light", "horizontal traffic light", "vertical traffic light"),
            *("construction", "fuel pump", "manual wheelchair", "motorized wheelchair", "anchor"),
            *("skateboard", "roller skate", "ring buoy", "parachute", "seat", "satellite"),
            *("roller coaster", "ferris wheel", "sled", "shopping cart"),
        ),
    ),
    Kind(
        "a building",
        r"place-(building|religious)",
        unsure=r"place-(other|map)",
        unsure_names=(
            *("building construction", "brick", "wood", "rock", "wedding", "statue of liberty"),
            *("shinto shrine", "kaaba", "station", "camping", "hut"),
        ),
    ),
    Kind(
        "a person",
        PEOPLE,
        unsure=rf"{FACES}|person-symbol|body-parts|hand.*|gender|transport-sign|warning|religion",
        unsure_names=("performing arts", "moai", "nesting dolls", "virgo", "aquarius", "gemini"),
    ),
    Kind(
        "a hand",
        r"hand-(fingers|single).*|hands",
        unsure=rf"{FACES}|{PEOPLE}|person-symbol|hand-prop|body-parts|writing|clothing",
        unsure_names=("hamsa", "boxing glove"),
    ),
    Kind(
        "a smiley",
        r"face-(smiling|affection|tongue|hand|neutral-skeptical|sleepy|unwell|hat|glasses"
        r"|concerned)",
        unsure=rf"face-(negative|costume)|cat-face|monkey-face|{PEOPLE}|person-symbol|animal-.*"
        r"|gender|sky-weather",
        unsure_names=("jack-o-lantern", "moai", "nesting dolls", "performing arts"),
    ),
    Kind("a heart", r"heart", unsure=r"family|game|hands|body-parts|cat-face|face-affection"),
    Kind("an arrow", r"arrow", unsure=r"av-symbol|alphanum|zodiac|tool|phone|mail|other-symbol"),
    Kind("a musical instrument", r"musical-instrument", unsure=r"music|sound"),
    Kind(
        "something to wear",
        r"clothing",
        unsure=rf"{FACES}|{PEOPLE}|sport|transport-ground",
        unsure_names=(
            *("lipstick", "gem stone", "hair pick", "folding hand fan", "purse", "clutch bag"),
            *("handbag", "shopping bags", "prayer beads", "watch", "military medal"),
        ),
    ),
)

GROUPS = {
    "smileys-emotion": "smileys and emotion",
    "people-body": "people and body",
    "animals-nature": "animals and nature",
    "food-drink": "food and drink",
    "travel-places": "travel and places",
    "activities": "activities",
    "objects": "objects",
    "symbols": "symbols",
}
"""OpenMoji's groups, in words."""

SORTS = {
    "what sort of animal is this?": {
        "animal-mammal": "mammal",
        "animal-bird": "bird",
        "animal-reptile": "reptile",
        "animal-marine": "sea animal",
        "animal-bug": "bug",
    },
    "what sort of food is this?": {
        "food-fruit": "fruit",
        "food-vegetable": "vegetable",
        "food-sweet": "sweet",
        "food-asian": "prepared food",
        "food-prepared": "prepared food",
    },
    "what does it travel on?": {
        "transport-ground": "land",
        "transport-water": "water",
        "transport-air": "air",
    },
}
"""Questions about drawings of a kind, with the answer for each subgroup."""
SORT_NEEDS = dict(zip(SORTS, ("an animal", "something to eat", "a vehicle"), strict=True))
"""The kind that a drawing must be of for the question to make sense."""


def kind(phrase: str) -> Kind:
    """The kind of that phrase."""
    return next(one for one in KINDS if one.phrase == phrase)


def divide(rows: Iterable[Record], of: Kind) -> tuple[list[Record], list[Record]]:
    """The records of which a kind is true, and those of which it is not."""
    judged = [(row, of.is_true_of(row)) for row in rows]
    return [row for row, yes in judged if yes], [row for row, yes in judged if yes is False]
