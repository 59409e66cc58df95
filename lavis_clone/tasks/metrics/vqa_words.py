"""The words and marks that the VQA challenge takes for the same, or for nothing."""

from __future__ import annotations

from collections.abc import Iterator

MARKS = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}

_WORDS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't
    shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
    something'd something'd've something'll that's there'd there'd've there're there's they'd
    they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
    won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're
    you've 'ow's'at
"""
"""Those of the challenge's table. Its entries with a capital I are left out, since texts are put in
lower case before they are looked up."""


def _misspelt(word: str) -> Iterator[str]:
    """``word`` with each of its apostrophes left out in turn."""
    for place, letter in enumerate(word):
        if letter == "'":
            yield word[:place] + word[place + 1 :]


CONTRACTIONS = {wrong: word for word in _WORDS.split() for wrong in _misspelt(word)}
CONTRACTIONS["somebody'd"] = "somebodyd"  # the wrong way round, but that is how it is scored
"""Contractions by their spelling with one apostrophe too few."""
