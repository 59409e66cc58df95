"""WordPiece: the ids of transformers' tokenizer, the texts of transformers 4.26."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizerFast  # type: ignore[attr-defined]  # its lazy table

from lavis_clone.models.tokenizers import VOCABULARY, Tokenizer, train_vocabulary

EXTRA = ("[DEC]", "[ENC]")
PIECES = (
    *("a", "the", "dog's", "isn't", "don't", "they're", "I'm", "we've", "rock'n'roll", "U.S.A."),
    *("photograph", "unbelievably", "Supercalifragilisticexpialidocious", "x" * 99, "y" * 101),
    *("CAFÉ", "naïve", "Ångström", "İstanbul", "ẞtraße", "ﬁne", "e\u0301", "ñandú", "Ελλάδα"),
    *("猫が好き", "漢字", "한국어", "你好world", "สวัสดี", "नमस्ते", "שלום", "مرحبا", "Привет"),
    *("😀", "👩‍👩‍👧", "🇩🇪", "☕️", "❤", "1️⃣", "👍🏽"),
    *(
        "\t",
        "\n",
        "\r",
        "\u0000",
        "\u0007",
        "\u200b",
        "\ufeff",
        "\u00ad",
        "\u2028",
        "\u0085",
        "\x7f",
    ),
    *("\u00a0", "\u3000", "\u2003", "\ufffd", "\U0001f9ff", "\U000e0041"),
    *("https://example.org/a_b?c=d&e=%20#f", "user@example.org", "C:\\dir", "file.tar.gz", "#tag"),
    *("3.14", "1,000", "10%", "$5", "½", "²", "①", "①②", "->", "...", "!!?", "--", "''", "``"),
    *(
        "[SEP]",
        "[CLS]",
        "[MASK]",
        "[PAD]",
        "[UNK]",
        "[DEC]",
        "[sep]",
        "[ SEP ]",
        "##ing",
        "[unused5]",
    ),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(extra=EXTRA)


@pytest.fixture(scope="module")
def other() -> BertTokenizerFast:
    """transformers' tokenizer of the same file."""
    made = BertTokenizerFast(str(VOCABULARY))
    assert len(made) == 30522
    made.add_special_tokens({"additional_special_tokens": list(EXTRA)})
    return made


def generated(count: int, seed: int) -> list[str]:
    """Mixtures of pieces, with and without blanks, and of any characters at all."""
    dice = random.Random(seed)
    texts = []
    for _ in range(count):
        pieces = [dice.choice(PIECES) for _ in range(dice.randint(0, 12))]
        if dice.random() < 0.3:
            ranges = [(32, 126), (160, 591), (880, 1279), (0x2000, 0x2BFF), (0x1F300, 0x1FAFF)]
            low, high = dice.choice(ranges)
            pieces += [chr(dice.randint(low, high)) for _ in range(dice.randint(1, 20))]
        texts.append(dice.choice(["", " ", " ", "  "]).join(pieces))
    return texts


def test_ids_are_those_of_transformers(tokenizer: Tokenizer, other: BertTokenizerFast) -> None:
    texts = [*PIECES, "", " ", *generated(2500, seed=0)]
    expected = other(texts)["input_ids"]
    found = tokenizer(texts)
    for row, (text, ids) in enumerate(zip(texts, expected, strict=True)):
        assert found.input_ids[row][found.mask[row]].tolist() == ids, repr(text)


@pytest.mark.parametrize("max_length", [2, 3, 8, 25])
def test_cut_texts_are_those_of_transformers(
    max_length: int, tokenizer: Tokenizer, other: BertTokenizerFast
) -> None:
    texts = generated(300, seed=1)
    expected = other(
        texts, max_length=max_length, truncation=True, padding="longest", return_tensors="pt"
    )
    found = tokenizer(texts, max_length=max_length)
    assert found.input_ids.equal(expected["input_ids"])
    assert found.mask.equal(expected["attention_mask"].bool())


def test_the_shipped_vocabulary_is_whole(tokenizer: Tokenizer) -> None:
    assert VOCABULARY.read_bytes().count(b"\n") == 30522
    assert len(Tokenizer()) == 30522
    assert len(tokenizer) == 30524
    places = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, "the": 1996}
    places |= {"[DEC]": 30522, "[ENC]": 30523}
    assert {token: tokenizer.id(token) for token in places} == places
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 101, 102)
    assert len(set(tokenizer.tokens)) == 30524
    with pytest.raises(KeyError):
        tokenizer.id("[BOS]")


def test_a_vocabulary_is_split_at_line_feeds_alone(tmp_path: Path) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    odd = ["a", "\u2028", "\u0085", "\x0b", "\x1c", "b"]  # str.splitlines would split at these
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join([*special, *odd]).encode() + b"\n")
    assert Tokenizer(path).tokens == [*special, *odd]
    path.write_bytes("\r\n".join([*special, "a"]).encode() + b"\r\n")  # written on Windows
    assert Tokenizer(path).tokens == [*special, "a"]


def test_a_cut_text_keeps_its_end(tokenizer: Tokenizer) -> None:
    texts = ["one two three four", "one two", "one two three"]
    batch = tokenizer(texts, max_length=5)
    assert batch.num_truncated == 1
    assert batch.input_ids[0].tolist() == [101, 2028, 2048, 2093, 102]
    assert batch.input_ids[1].tolist() == [101, 2028, 2048, 102, 0]
    assert batch.input_ids[2].tolist() == [101, 2028, 2048, 2093, 102]
    assert batch.mask.sum(dim=1).tolist() == [5, 4, 5]
    assert tokenizer(texts).num_truncated == 0
    assert tokenizer(texts, max_length=2).input_ids.tolist() == [[101, 102]] * 3


def test_no_room_for_start_and_end_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="max_length must be at least 2, .* got 1"):
        tokenizer(["a"], max_length=1)


def test_padding_goes_to_the_longest_or_further(tokenizer: Tokenizer) -> None:
    assert tokenizer(["a", "a b"]).input_ids.shape == (2, 4)
    assert tokenizer(["a", "a b"], pad_to=7).input_ids.shape == (2, 7)
    assert tokenizer(["a", "a b c d"], pad_to=3).input_ids.shape == (2, 6)
    padded = tokenizer(["a"], pad_to=5)
    assert padded.input_ids.tolist() == [[101, 1037, 102, 0, 0]]
    assert padded.mask.tolist() == [[True, True, True, False, False]]
    assert padded.input_ids.dtype == torch.long


def test_a_single_text_is_a_batch_of_one(tokenizer: Tokenizer) -> None:
    assert tokenizer("two dogs").input_ids.equal(tokenizer(["two dogs"]).input_ids)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], ""),
        (["[CLS]", "[SEP]", "[PAD]"], ""),
        (["[DEC]", "a", "dog", "[SEP]", "[PAD]"], "a dog"),
        (["a", "[UNK]", "dog"], "a dog"),  # unknown is special, and left out
        (["photo", "##graph", "##s"], "photographs"),
        (["##s"], "##s"),  # nothing stands before it to join
        (["a", "##b", "c", "##d"], "ab cd"),
        (["yes", "."], "yes."),
        (["yes", ",", "no", "!"], "yes, no!"),
        (["who", "?"], "who?"),
        (["who", ":", "me", ";"], "who : me ;"),
        (["dog", "'", "s", "tail"], "dog's tail"),  # by " ' "
        (["it", "'", "s"], "it's"),
        (["it", "'s"], "it's"),
        (["dogs", "'"], "dogs '"),  # nothing follows
        (["do", "n't"], "don't"),
        (["i", "'m", "we", "'ve", "they", "'re"], "i'm we've they're"),
        (["they", "'", "re", "."], "they're."),
        (["do", "not", "n't"], "do notn't"),
        (["(", "a", "-", "b", ")"], "( a - b )"),
        (["3", ".", "14"], "3. 14"),
        (['"', "a", '"'], '" a "'),
    ],
)
def test_texts_are_joined_as_transformers_4_26_did(
    tokens: list[str], text: str, tmp_path: Path
) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys([*special, *tokens])) + "\n")
    made = Tokenizer(path, extra=EXTRA)
    ids = [made.id(token) for token in tokens]
    assert made.decode(ids) == text
    assert made.decode_all(torch.tensor([ids, ids], dtype=torch.long)) == [text, text]


def test_ids_beyond_the_vocabulary_say_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([1037, 30524, 3899, 99999]) == "a dog"


def test_plain_captions_come_back(tokenizer: Tokenizer) -> None:
    for text in ("a picture of two dogs, and a cat.", "the man's hat isn't red!", ""):
        expected = text.replace("isn't", "isn't")
        assert tokenizer.decode_all(tokenizer([text]).input_ids) == [expected]


def test_case_is_kept_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nDog\ndog\nÄ\na\n")
    cased, uncased = Tokenizer(path, lowercase=False), Tokenizer(path)
    assert cased("Dog dog Ä").input_ids[0].tolist() == [2, 5, 6, 7, 3]
    assert uncased("Dog dog Ä").input_ids[0].tolist() == [2, 6, 6, 8, 3]


def test_a_vocabulary_without_its_special_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\na\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: the vocabulary lacks \[SEP\], \[MASK\]"):
        Tokenizer(path)


def test_a_vocabulary_can_be_learned(tmp_path: Path) -> None:
    texts = ["the red dog", "the red cat", "a reddish dog’s tail", "Été rouge"] * 5
    path = train_vocabulary(texts, tmp_path / "sub" / "vocab.txt", size=100)
    made = Tokenizer(path, extra=EXTRA)
    assert made.tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(made) == 100 + len(EXTRA)
    assert {"the", "red", "dog", "z", "7", "?"} <= set(made.tokens)
    batch = made(texts)
    assert not (batch.input_ids == made.id("[UNK]")).any()
    assert made.decode_all(batch.input_ids)[:2] == texts[:2]
