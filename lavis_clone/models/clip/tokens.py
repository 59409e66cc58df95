"""Texts to ids, by the tokenizer that a CLIP was trained with.

Shapes: R texts, T tokens of the longest text that the model takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from lavis_clone.common.files import FileError, is_offline, resolve
from lavis_clone.common.reading import first_line
from lavis_clone.models.tokenizers import TokenBatch, Tokenizer


@dataclass(frozen=True)
class ClipTokenizer:
    """Turns texts into ids of one length; longer texts are cut, their end token kept."""

    encode: Callable[[list[str], int], Tensor]
    """Texts and T to ids ``(R, T)``"""
    real: Callable[[Tensor], Tensor]
    """Ids to ``(R, T)`` bool, True up to the end token."""
    length: int
    """T"""
    may_shorten: bool = True
    """Whether what lies behind the end token is padding in all models that use it."""

    def __call__(self, texts: str | Sequence[str]) -> TokenBatch:
        """R texts, the empty one included, as ``(R, T)``; a single one may stand without a list."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("there are no texts to encode")
        ids = self.encode(texts, self.length)
        mask = self.real(ids)
        full = [text for text, row in zip(texts, mask, strict=True) if row.all()]
        longer = self.real(self.encode(full, self.length + 1)).all(dim=1).sum() if full else 0
        return TokenBatch(ids, mask, int(longer))


def build_tokenizer(text_cfg: Mapping[str, Any]) -> ClipTokenizer:
    """The tokenizer that an architecture names, or CLIP's own.

    Raises:
        FileError: its files cannot be had.
    """
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    length = length_of(text_cfg)
    name = text_cfg.get("hf_tokenizer_name")
    if not name:
        simple = SimpleTokenizer(context_length=length, **options)
        return ClipTokenizer(simple, lambda ids: _up_to(ids, simple.eot_token_id), length)
    if is_offline():
        options["local_files_only"] = True
    mode = text_cfg.get("tokenizer_mode")
    try:
        hub = HFTokenizer(name, context_length=length, tokenizer_mode=mode, **options)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot get the tokenizer {name}: {first_line(error)}") from error
    padding = hub.tokenizer.pad_token_id
    return ClipTokenizer(hub, lambda ids: ids != padding, length, may_shorten=False)


def own_tokenizer(
    vocabulary: str, text_cfg: Mapping[str, Any]
) -> tuple[ClipTokenizer, dict[str, Any]]:
    """A tokenizer with a WordPiece vocabulary, and ``text_cfg`` as it fits.

    Args:
        vocabulary: A file, one token a line.
    """
    words = Tokenizer(resolve(vocabulary))

    def encode(texts: list[str], limit: int) -> Tensor:
        return words(texts, max_length=limit, pad_to=limit).input_ids

    fields = {"vocab_size": len(words), "pool_type": "eos", "eos_id": words.sep_id}
    fields["pad_id"] = words.pad_id
    tokenizer = ClipTokenizer(encode, lambda ids: _up_to(ids, words.sep_id), length_of(text_cfg))
    return tokenizer, {**text_cfg, **fields}


def length_of(text_cfg: Mapping[str, Any]) -> int:
    """T"""
    length: int = text_cfg.get("context_length", open_clip.CLIPTextCfg.context_length)
    return length


def _up_to(ids: Tensor, end: int) -> Tensor:
    """True up to the first ``end`` of each row."""
    places = torch.arange(ids.shape[1], device=ids.device)
    return places[None] <= (ids == end).int().argmax(dim=1, keepdim=True)
