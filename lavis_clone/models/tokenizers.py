"""WordPiece text in and out, with any vocabulary.

The bert-base-uncased vocabulary is shipped; a model of another language or a smaller domain brings
a vocabulary file of its own. Splitting is by the ``tokenizers`` package; writing tokens back as
text follows the rules of transformers 4.26, because published captions were written with them.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from lavis_clone.common.files import write_atomic

logger = logging.getLogger(__name__)

VOCABULARY = Path(__file__).parent.parent / "assets" / "bert-base-uncased" / "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Joined back when tokens become text: "it ' s" has been split by the tokenizer.
_CLEAN_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class TokenBatch:
    """Texts as ids, on the CPU. R texts, T tokens."""

    input_ids: Tensor
    """``(R, T)`` long"""
    mask: Tensor
    """``(R, T)`` bool, True on real tokens"""
    num_truncated: int = 0
    """Texts that were longer than the limit and lost their tail; their end token is kept."""

    @property
    def attention_mask(self) -> Tensor:
        """The mask under the name that transformers gives it."""
        return self.mask

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same on another device."""
        return replace(self, input_ids=self.input_ids.to(device), mask=self.mask.to(device))

    def select(self, rows: Tensor) -> TokenBatch:
        """The texts with these indices."""
        return TokenBatch(self.input_ids[rows], self.mask[rows])

    def shortened(self) -> TokenBatch:
        """Without the columns that are padding in all rows."""
        longest = int(self.mask.sum(dim=1).max())
        return TokenBatch(self.input_ids[:, :longest], self.mask[:, :longest], self.num_truncated)

    def interleaved(self, other: TokenBatch) -> TokenBatch:
        """This one's first text, the other's first, this one's second, and so on."""
        ids, masks = (self.input_ids, other.input_ids), (self.mask, other.mask)
        return TokenBatch(torch.stack(ids, 1).flatten(0, 1), torch.stack(masks, 1).flatten(0, 1))


class Tokenizer:
    """Turns texts into ``[CLS] ... [SEP]`` ids and back.

    Args:
        vocabulary: A WordPiece vocabulary file, one token a line; None for bert-base-uncased.
        extra: Special tokens that the model adds behind the vocabulary, e.g. ``[DEC]``.
        lowercase: Whether text is lower-cased and stripped of accents.
    """

    def __init__(
        self,
        vocabulary: str | Path | None = None,
        *,
        extra: Sequence[str] = (),
        lowercase: bool = True,
    ) -> None:
        path = Path(vocabulary or VOCABULARY)
        self.tokens = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        absent = [token for token in SPECIAL if token not in self.tokens]
        if absent:
            raise ValueError(f"{path}: the vocabulary lacks {', '.join(absent)}")
        self.tokens += [token for token in extra if token not in self.tokens]
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self._special = {self._ids[token] for token in (*SPECIAL, *extra)}
        self.pad_id, self.cls_id, self.sep_id = (
            self._ids[token] for token in ("[PAD]", "[CLS]", "[SEP]")
        )
        self.path = path
        self._fast = FastTokenizer(models.WordPiece(self._ids, unk_token="[UNK]"))
        self._fast.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        self._fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._fast.add_special_tokens([*SPECIAL, *extra])

    def __len__(self) -> int:
        return len(self.tokens)

    def id(self, token: str) -> int:
        """The id of one token of the vocabulary.

        Raises:
            KeyError: The vocabulary does not hold it.
        """
        return self._ids[token]

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        max_length: int | None = None,
        pad_to: int | None = None,
        return_tensors: Literal["pt"] = "pt",  # noqa: ARG002  # as transformers' is called
    ) -> TokenBatch:
        """Encode texts, padded to the longest of them or to ``pad_to`` tokens.

        Args:
            texts: R texts; a single one may stand without a list.
            max_length: Longer texts are cut to this many tokens, the end token kept.
            return_tensors: Of no effect: for code that was written for transformers' tokenizers.

        Raises:
            ValueError: ``max_length`` has no room for the start and the end token.
        """
        if max_length is not None and max_length < 2:
            raise ValueError(
                f"max_length must be at least 2, for [CLS] and [SEP], got {max_length}"
            )
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows, num_truncated = [], 0
        for encoding in self._fast.encode_batch(texts, add_special_tokens=False):
            ids = encoding.ids
            if max_length is not None and len(ids) > max_length - 2:
                ids, num_truncated = ids[: max_length - 2], num_truncated + 1
            rows.append([self.cls_id, *ids, self.sep_id])
        if num_truncated:
            logger.debug("%d of %d texts cut to %s tokens", num_truncated, len(rows), max_length)
        length = max([pad_to or 0, *map(len, rows)])
        padded = [[*ids, *[self.pad_id] * (length - len(ids))] for ids in rows]
        input_ids = torch.tensor(padded, dtype=torch.long, device="cpu").view(len(rows), length)
        lengths = torch.tensor([len(ids) for ids in rows], device="cpu")
        mask = torch.arange(length, device="cpu")[None] < lengths[:, None]
        return TokenBatch(input_ids, mask, num_truncated)

    def decode(self, ids: Iterable[int]) -> str:
        """Write ids as text, without special tokens and what lies beyond the vocabulary."""
        known = len(self.tokens)  # a model's table of words may be padded to a round size
        numbers = map(int, ids)  # which may be of a tensor
        kept = (self.tokens[i] for i in numbers if i < known and i not in self._special)
        text = " ".join(kept).replace(" ##", "").strip()
        for joined in _CLEAN_UP:
            text = text.replace(joined, joined.strip() if joined == " ' " else joined[1:])
        return text

    def decode_all(self, rows: Tensor) -> list[str]:
        """``(R, T)`` ids as R texts."""
        return [self.decode(row) for row in rows.tolist()]


def train_vocabulary(
    texts: Iterable[str], path: str | Path, *, size: int, lowercase: bool = True
) -> Path:
    """Learn a WordPiece vocabulary from texts, and write it as a file that ``Tokenizer`` reads.

    Pieces that are equally frequent are taken in any order, so that two runs may differ: keep the
    file with the model.

    Args:
        size: Tokens at most, the special ones included; but no single character is left out.
    """
    learner = FastTokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = sorted(set(learner.get_vocab()) - set(SPECIAL))  # its own order is not repeatable
    write_atomic(path, "\n".join([*SPECIAL, *learned]) + "\n")
    return Path(path)
