"""The tokenizer against the official one: stored tokens, and the program itself where Java is."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavis_clone.tasks.metrics.ptb import PUNCTUATION, tokenize, tokenize_all
from lavis_clone.tasks.metrics.ptb_chars import spell
from tests.fixtures.ptb.make import official_tokens

PAIRS: list[tuple[str, str]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "ptb" / "tokens.json").read_text(encoding="utf-8")
)


def needs_java(test: Callable[..., None]) -> Callable[..., None]:
    skip = pytest.mark.skipif(shutil.which("java") is None, reason="Java was not found")
    return pytest.mark.needs_java(skip(test))


def differences(captions: list[str], expected: list[str]) -> list[tuple[str, str, str]]:
    """(caption, official tokens, our tokens) where they differ."""
    ours = [" ".join(tokens) for tokens in tokenize_all(captions)]
    rows = zip(captions, expected, ours, strict=True)
    return [row for row in rows if row[1] != row[2]]


def test_stored_captions_get_the_official_tokens() -> None:
    assert len(PAIRS) > 1000
    captions, expected = zip(*PAIRS, strict=True)
    assert differences(list(captions), list(expected)) == []


@needs_java
def test_the_stored_tokens_are_the_official_ones() -> None:
    captions, expected = zip(*PAIRS, strict=True)
    assert official_tokens(list(captions)) == list(expected)


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("", ""),
        (" \t\n ", ""),
        ("...", ""),
        ("A man rides a wave.", "a man rides a wave"),
        ("End. Next one! Really? Yes; no: maybe", "end next one really yes no maybe"),
        ("I can't, won't, shan't, y'all", "i ca n't wo n't sha n't y' all"),
        ("it's she'll we've I'm he'd they're", "it 's she 'll we 've i 'm he 'd they 're"),
        ("It’s don’t", "it 's do n't"),
        ("the dogs' bowls, James's", "the dogs bowls james 's"),
        ("'tis gonna cannot gimme o'clock", "'t is gon na can not gim me o'clock"),
        ("rock 'n' roll of the '90s", "rock 'n' roll of the '90s"),
        ("\"quoted\" ``text'' 'single' “curly” ‘sing’", "quoted text single curly sing"),
        ("“‘both’”", "``` both '''"),  # as official: marks side by side are no listed token
        ("a - b -- c — d – e … f .. g", "a b c d e f g"),
        ("well-known x-ray 20-year-old", "well-known x-ray 20-year-old"),
        ("1,000.50 3/4 10:30 $5.00 50% 1990s", "1,000.50 3/4 10:30 $ 5.00 50 % 1990s"),
        ("£5 €5 5¢ ½ 1 1/2", "# 5 $ 5 5 cents 1/2 1\xa01/2"),
        ("10:30am 5pm 6'2\"", "10:30 am 5pm 6 2"),
        ("Mr. Smith, U.S. Army, 5 a.m. etc.", "mr. smith u.s. army 5 a.m. etc."),
        ("at no. 5 or no.", "at no. 5 or no"),
        ("J. Smith likes B. The other does not", "j. smith likes b the other does not"),
        ("http://a.com/b?c=d www.x.org me@x.co.uk", "http://a.com/b?c=d www.x.org me@x.co.uk"),
        ("@user #tag #1 AT&T R&B a&b", "@user #tag # 1 at&t r&b a & b"),
        ("a/b and/or w/o w/", "a/b and/or w/o w /"),
        ("&amp; &lt; AT&amp;T caf&eacute;", "& < at&t caf&eacute;"),
        ("(a) [b] {c}", "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-"),
        ("<b>bold</b> <br /> < x", "<b> bold </b> <br\xa0/> < x"),
        (":) ;-) (^_^) <3", ":-rrb- ;--rrb- -lrb-^_^-rrb- < 3"),
        ("what?! no!!! yahoo!answers", "what ?! no !!! yahoo!answers"),
        ("café naïve Ünder 日本語 ΟΔΟΣ", "café naïve ünder 日本語 οδος"),
        ("x😀y ❤ ★", "x y ❤ ★"),
        ("c# C++ f# node.js 1.jpg img_1.jpg", "c# c++ f# node.js 1.jpg img_1 jpg"),
        ("tab\tand\u00a0space\u200bwidth so\u00adft", "tab and space width soft"),
    ],
)
def test_by_example(caption: str, tokens: str) -> None:
    assert " ".join(tokenize(caption)) == tokens


def test_the_next_caption_can_matter_as_it_officially_does() -> None:
    assert tokenize_all(["vitamin B.", "The man"])[0] == ["vitamin", "b"]
    assert tokenize_all(["vitamin B.", "the man"])[0] == ["vitamin", "b."]
    assert tokenize_all(["at stop no.", "5 people"])[0] == ["at", "stop", "no."]
    assert tokenize_all(["she'll", "a"])[0] == ["she", "'ll"]
    assert tokenize_all(["she'll"])[0] == ["she", "ll"]
    assert tokenize("she'll") == ["she", "'ll"]


def test_no_captions() -> None:
    assert tokenize_all([]) == []


@given(st.text(max_size=60))
def test_any_text_gives_clean_tokens(text: str) -> None:
    tokens = tokenize(text)
    assert all(token and " " not in token and "\n" not in token for token in tokens)
    assert not PUNCTUATION & set(tokens)
    assert tokenize_all([text, "x"])[0] == tokens  # a next line that no pattern looks for
    assert len(spell(text)) == len(text)


@given(
    st.lists(
        st.sampled_from(["a", "man's", "can't.", "U.S.", "1/2", "no.", "(x)", "-", "B.", "The"]),
        max_size=9,
    )
)
def test_spaces_at_the_ends_and_line_ends_do_not_matter(words: list[str]) -> None:
    expected = tokenize(" ".join(words))
    assert tokenize("  " + " ".join(words) + "\t ") == expected
    assert tokenize("\n".join(words)) == expected


@pytest.mark.parametrize("part", ["a", "a.", "a-", "&eacute;", "a!", "<a b ", "1,", "(", "a&", "'"])
def test_a_long_caption_takes_no_more_than_its_share_of_time(part: str) -> None:
    """A pattern that tries every division of its text would not end within the test run."""
    assert len(tokenize(part * 3000 + " end")) >= 1


WORDS = """
a an the two man woman person people dog cat horse surfboard wave beach street table plate pizza
sandwich bus train sign umbrella kite skateboard frisbee ball player tennis racket baseball bat
giraffe zebra elephant sheep cow bird boat water snow mountain grass tree field building room toilet
sink mirror bed couch chair laptop keyboard mouse phone clock tower vase flower fruit banana apple
orange broccoli carrot cake donut wine glass cup fork knife spoon bowl red blue green white black
large small young old riding sitting standing holding wearing eating playing looking walking flying
on in at with next to of and is are it he she they cannot gonna wanna inc st mr dr no fig co jr vs
etc us miss wash mass art
"""
TAILS = "'s ' n't 'll 've 'd 're 'm ’s ’t ’"
ENDS = ", . ; : ! ? ... -- … ) ” '' ?! .,"
NUMBERS = "1 2 3 10 1990 1990s '90s 2.5 1,000 1/2 ½ 5th 10:30 10:30am $5 50% #1 6'2\" 12-15-2014"
ODD = """
U.S. u.s.a. a.m. p.m. e.g. J. B. Ph.D. Mr. St. No. www.foo.com http://a.com/b?c=d me@x.org a/b w/o
and/or AT&T R&B &amp; <b> <br/> :) :-( c# jack-o'-lantern 'tis y'all o'clock rock'n'roll café naïve
日本 😀 é. @user #tag IMG_01.jpg a.jpg 555-1234 (555) * ** / // \\ | ~ ^ _ = + % — – “x” ‘y’ «z» [ ]
{ } < > @ # $
"""


def noisy_caption(rng: random.Random) -> str:
    """Words as people write captions, with every kind of mishap."""
    words, tails, ends, numbers, odd = (
        texts.split() for texts in (WORDS, TAILS, ENDS, NUMBERS, ODD)
    )
    parts = []
    for _ in range(rng.randint(3, 12)):
        word = rng.choice(words)
        word = rng.choice([word] * 8 + [word.title(), word.upper()])
        kind = rng.random()
        if kind < 0.08:
            word += rng.choice(tails)
        elif kind < 0.14:
            word = rng.choice("\"'(“‘*[<") + word + rng.choice("\"')”’*]>")
        elif kind < 0.20:
            word += rng.choice(["-", "/", ".", "!", "_", "&", "--", "'"]) + rng.choice(words)
        elif kind < 0.26:
            word = rng.choice(numbers) + rng.choice(["", " ", "-"]) + word
        elif kind < 0.34:
            word += rng.choice(ends)
        elif kind < 0.40:
            word = rng.choice(odd)
        elif kind < 0.44:
            at = rng.randint(0, len(word))
            word = word[:at] + chr(rng.randint(33, 126)) + word[at:]
        parts.append(word + rng.choice([" "] * 20 + ["", "  ", ", "]))
    return "".join(parts) + rng.choice(["", ".", ". ", " .", "!"])


@pytest.mark.slow
@needs_java
def test_twenty_thousand_noisy_captions_get_the_official_tokens() -> None:
    rng = random.Random(20)
    captions = [noisy_caption(rng) for _ in range(20_000)]
    assert differences(captions, official_tokens(captions)) == []


@needs_java
def test_every_pair_of_ascii_characters_gets_the_official_tokens() -> None:
    signs = [chr(code) for code in range(32, 127)]
    captions = [f"{a}{b} {a}x{b} 1{a}{b}x {a}'{b}." for a in signs for b in signs]
    assert differences(captions, official_tokens(captions)) == []


@pytest.mark.slow
@needs_java
def test_every_character_is_of_the_official_kind() -> None:
    """Alone, in a word and in a number; not line ends, which officially split a caption."""
    codes = [c for c in range(128, 0x10000) if not 0xD800 <= c < 0xE000]
    signs = [chr(code) for code in codes if code not in (0x2028, 0x2029)]
    captions = [f"{c} x{c}y 1{c}2" for c in signs]
    official = [" ".join(tokens.split(" ")) for tokens in official_tokens(captions)]
    wrong = differences(captions, official)
    # These alone are empty tokens officially, which no metric but ROUGE-L counts.
    assert {caption[0] for caption, *_ in wrong} <= set("\u058a\u2010\u2011\u066b\u066c")
