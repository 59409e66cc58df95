"""The tokens that the official COCO caption scores are counted in, without Java.

Reproduces pycocoevalcap's ``PTBTokenizer``: Stanford CoreNLP 3.4.1 with ``-preserveLines
-lowerCase``, and then the removal of a list of punctuation tokens. Written from the program's
documented behaviour and from experiments with it (``ptb_rules``), and compared with it on millions
of strings.

What is odd in the official tokens is kept, since the published scores contain it: brackets become
``-lrb-``, ``-lsb-``, ... and stay (the official list has them in capitals), and so do ``''''`` and
``?!``; most emoji and all characters beyond U+FFFF disappear.

Known differences are left to texts with a soft hyphen in a file name or initials, an ideographic
space after a year such as '90, a no-break space after an address at a caption's end, ``&QUOT;``,
and characters that Java's and Python's Unicode lower differently. A hyphen U+2010 or ``&nbsp;``
that stands alone is an empty token officially, and none here; only ROUGE-L would count it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lavis_clone.tasks.metrics.ptb_chars import JUNK, SPACE, spell
from lavis_clone.tasks.metrics.ptb_rules import NOT_PLAIN, rules_for

# pycocoevalcap's list, less what a tokenizer that writes lower case cannot produce.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_WORD_RULES = rules_for("w")
_DIGIT_RULES = rules_for("d")
_OTHER_RULES = rules_for("p")
_KIND = {
    **dict.fromkeys("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZé\u0301\xad", _WORD_RULES),
    **dict.fromkeys("0123456789٣", _DIGIT_RULES),
}
# Most of a caption: a word before a space, or with a comma or period before one. No pattern but
# that for words can claim it (NOT_PLAIN aside).
_PLAIN = re.compile(r"[A-Za-z]+(?=,?[ \n])|[A-Za-z]{2,}(?=\.[ \n])")
# What leaves no token, whatever stands before or after it.
_BLANK = re.compile(r"(?: [ \xa0]*|,(?= )|\.(?=\n))+")

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_REPLACED = {
    **_BRACKETS,
    **dict.fromkeys("\u2013\u2014\u2015\x96\x97", "--"),
    **dict.fromkeys("\u2026\x85", "..."),
    **dict.fromkeys("\u20ac\u20a0\xa4\x80", "$"),
    **dict.fromkeys("\u2018\u201b\u2039\x91", "`"),
    **dict.fromkeys("\u2019\u203a\x92", "'"),
    **dict.fromkeys("\u201c\xab\x93", "``"),
    **dict.fromkeys("\u201d\xbb\x94", "''"),
    **dict.fromkeys("\u2010\u2011\u058a\u066b\u066c", ""),
    **{"\xa2": "cents", "\xa3": "#", "\xad": "-"},
    **{"\xbc": "1/4", "\xbd": "1/2", "\xbe": "3/4", "\u2153": "1/3", "\u2154": "2/3"},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": "", "&quot;": "''", "&apos;": "'"},
    **{"&mdash;": "--", "&ndash;": "--", "&md;": "--", '"': "''"},
    **dict.fromkeys(["....", ".....", ". . .", ". . . .", ". . . . ."], "..."),
    **dict.fromkeys(["---", "----"], "--"),
}
# Tokens whose parts are written anew, the rest are in the table above.
_QUOTES = re.compile(r"[‘’“”«»‹›‚„‛‟\x91-\x94`]{2}")
_CLITIC = re.compile(r"(?:['’\x92]|&apos;)([msd]|re|ve|ll)")
_FIRMS = re.compile(r"[a-z]+(?:&(?:amp;)?[a-z]+)+")  # at&amp;t
_ADDRESS = re.compile("[#@/]")  # keeps soft hyphens
_NEGATION = re.compile(r"n(?:['’\x92]|&apos;|(?P<tick>[`‘\x91‛]))t")


def tokenize(caption: str) -> list[str]:
    """The official tokens of one caption, in lower case, without punctuation.

    A token may hold no-break spaces (a telephone number, ``1 1/2``, a tag). Line ends count as
    spaces.
    """
    return _tokens(spell(caption) + "\n", 0, caption)


def tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    """The official tokens of many captions, exactly as pycocoevalcap gets them.

    It writes the captions into one text, a line each, and some patterns look past a line's end:
    after "vitamin B." a caption that begins with "The" takes the period off the letter; "no." is
    an abbreviation if the next caption begins with a digit; and the very last caption lacks a line
    end, so that a final "'ll" is not recognised. Otherwise this is ``tokenize`` for each.
    """
    spelling = "\n".join(spell(caption) for caption in captions)
    result, start = [], 0
    for caption in captions:
        result.append(_tokens(spelling, start, caption))
        start += len(caption) + 1
    return result


def _tokens(spelling: str, start: int, caption: str) -> list[str]:
    """Tokens of ``caption``, whose spelling begins at ``start`` of a longer text."""
    tokens: list[str] = []
    at, end = start, start + len(caption)
    while at < end:
        if blank := _BLANK.match(spelling, at):
            at = blank.end()
            continue
        plain = _PLAIN.match(spelling, at)
        if plain and (word := plain.group().lower()) not in NOT_PLAIN:
            tokens.append(word)
            at = plain.end()
            continue
        match = _longest(spelling, at)
        group = match.lastindex or 0
        for i in range(1, group + 1) if group else (0,):
            token = _written(caption[match.start(i) - start : match.end(i) - start])
            if token and token not in PUNCTUATION:
                tokens.append(token)
        at = match.end(group)
    return tokens


def _longest(spelling: str, at: int) -> re.Match[str]:
    best: re.Match[str] | None = None
    for pattern in _KIND.get(spelling[at], _OTHER_RULES):
        match = pattern.match(spelling, at)
        if match and (best is None or match.end() > best.end()):
            best = match
    assert best is not None  # the last rule matches any character
    return best


def _written(token: str) -> str:
    """How the tokenizer writes a token that it has found."""
    if len(token) == 1 and spell(token) in (JUNK, SPACE):
        return ""
    token = token.lower()
    if token in _REPLACED:
        return _REPLACED[token]
    if _QUOTES.fullmatch(token):
        return "".join(_REPLACED.get(quote, quote) for quote in token)
    if clitic := _CLITIC.fullmatch(token):
        return "'" + clitic[1]
    if negation := _NEGATION.fullmatch(token):
        return "n`t" if negation["tick"] else "n't"
    if _FIRMS.fullmatch(token):
        return token.replace("&amp;", "&")
    if not _ADDRESS.search(token):
        token = token.replace("\xad", "")
    return token.replace(" ", "\xa0").replace("(", "-lrb-").replace(")", "-rrb-")
