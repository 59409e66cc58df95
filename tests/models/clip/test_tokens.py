"""Texts become the ids that open_clip makes of them."""

from __future__ import annotations

import random

import open_clip
import pytest
import torch

from lavis_clone.models.clip.tokens import build_tokenizer

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    " \t\n .,;:!?'\"-_/()[]{}<>&#@%$*+=~^|\\",
    "àéîöüßñçøåþđ",
    "日本語中文字漢字한국어ひらがなカタカナ",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "אבגדהוزحطيكلمن",
    "😀🐶🏳️‍🌈👨‍👩‍👧‍👦🧑🏽‍🚀❤️🇫🇷🔥",
    "\u200b\u00a0\u0301ﬁ№…“”",
)
FIXED = (
    "",
    " ",
    "https://example.org/a?b=c&amp;d=%20#e",
    "it's they've I'm you'll we'd o'clock",
    "<start_of_text> a <end_of_text> b",
    "&lt;b&gt; x &amp;amp; y",
    "word " * 400,
    "🐶" * 200,
    "漢" * 300,
    "a" * 1000,
)
START, END = 49406, 49407


def strings(count: int) -> list[str]:
    """Words of one alphabet and of several, 0 to 11 of them, after the fixed ones."""
    draw = random.Random(7)
    found = list(FIXED)
    while len(found) < count:
        words = []
        for _ in range(draw.randrange(12)):
            letters = draw.choice(ALPHABETS) + draw.choice(ALPHABETS)[:3]
            words.append("".join(draw.choices(letters, k=draw.randrange(1, 9))))
        found.append(" ".join(words))
    return found


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14-336"])
def test_ten_thousand_strings(name: str) -> None:
    texts = strings(10_000) if name == "ViT-B-32" else strings(200)
    config = open_clip.get_model_config(name)
    ours = build_tokenizer(config["text_cfg"])(texts)
    assert ours.input_ids.equal(open_clip.get_tokenizer(name)(texts))
    ends = (ours.input_ids == END).int()
    assert ends.sum(dim=1).min() == 1  # every text has an end
    first = ends.argmax(dim=1)
    assert ours.mask.sum(dim=1).equal(first + 1)
    full = ours.mask.all(dim=1)
    assert full.sum() >= 4
    assert (ours.input_ids[full, -1] == END).all()
    assert ours.num_truncated <= full.sum()


def test_what_is_cut_is_counted() -> None:
    tokenizer = build_tokenizer({"context_length": 6})
    found = tokenizer(["one two three four", "one two three four five", "one"])
    assert found.num_truncated == 1  # the first one fills all places, and lost nothing
    assert found.input_ids[:2, -1].tolist() == [END, END]
    assert found.input_ids[:, 0].tolist() == [START] * 3
    assert found.mask.sum(dim=1).tolist() == [6, 6, 3]


def test_cleaning_is_that_of_the_architecture() -> None:
    texts = ["A Dog, and a CAT!"]
    plain = build_tokenizer({})(texts).input_ids
    bare = build_tokenizer({"tokenizer_kwargs": {"clean": "canonicalize"}})(texts).input_ids
    assert not plain.equal(bare)
    assert bare.equal(build_tokenizer({})(["a dog and a cat"]).input_ids)
    assert isinstance(plain, torch.Tensor)
