"""Checks the data of a YAML file: builds its data sets, finds its tokenizer, looks at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lavis_clone.common.config import load_data_blocks
from lavis_clone.common.reading import first_line, read
from lavis_clone.common.registry import registry
from lavis_clone.datasets.builders.base import ANSWER_CLASSES, TRAIN
from lavis_clone.datasets.check import CheckOptions, Part, Report, check_parts
from lavis_clone.job import build_datasets
from lavis_clone.models.clip.config import ClipConfig
from lavis_clone.models.clip.tokens import ClipTokenizer, build_tokenizer, own_tokenizer
from lavis_clone.models.config import TextConfig
from lavis_clone.models.tokenizers import Tokenizer

logger = logging.getLogger(__name__)

UNREADABLE = (ValueError, LookupError, OSError, ImportError)
"""What a builder raises when a split cannot be had."""
PLENTY = 1_024
"""Tokens to which texts are encoded when they are counted by a tokenizer that cuts them."""


def check_file(
    path: str | Path, overrides: Sequence[str] = (), options: CheckOptions | None = None
) -> Report:
    """Check all data sets of a run's YAML file, or of a file of data sets alone.

    Args:
        overrides: Changes, e.g. ``["datasets.own.images=pictures"]``.
        options: How to look; the tokenizer is the model's unless they have one.

    Raises:
        ConfigError: the file does not fit.
    """
    merged = load_data_blocks(path, overrides)
    options = options or CheckOptions()
    if options.count_tokens is None and merged["model"]:
        options = _with_tokenizer(options, merged["model"])
    trained = merged["run"].get("train_splits") or [TRAIN]
    parts, unreadable = build_parts(merged["datasets"], trained)
    return check_parts(parts, options, unreadable)


def build_parts(
    blocks: Mapping[str, Mapping[str, Any]], trained: Sequence[str] = (TRAIN,)
) -> tuple[list[Part], dict[str, str]]:
    """Every split of some data sets, and why others could not be built, by data set and split.

    Args:
        trained: The splits that are trained on.
    """
    parts: list[Part] = []
    unreadable: dict[str, str] = {}
    for name, block in blocks.items():
        listed = (block.get("build_info") or {}).get("annotations") or {}
        splits = [s for s, entry in listed.items() if entry is not None and s != ANSWER_CLASSES]
        for split in splits or [None]:
            try:
                wanted = None if split is None else [split]
                found = build_datasets({name: block}, wanted)[name]
            except UNREADABLE as error:
                unreadable[f"{name}/{split}" if split else name] = first_line(error)
                continue
            parts += [Part(name, s, dataset, s in trained) for s, dataset in found.items()]
    return parts, unreadable


@dataclass(frozen=True)
class TokenCount:
    """Counts the tokens of a text; worker processes can have it."""

    tokenizer: Tokenizer | ClipTokenizer

    def __call__(self, text: str) -> int:
        return int(self.tokenizer([text]).mask.sum())


def tokens_of(block: Mapping[str, Any]) -> tuple[TokenCount, int] | None:
    """How a ``model:`` block counts tokens, and how many of a text it reads; None if unknown.

    Raises:
        ConfigError: the block does not fit.
        FileError: the tokenizer's files cannot be had.
    """
    config_class = getattr(registry.get_model_class(block["arch"]), "Config", None)
    if config_class is None:
        return None
    config = read(config_class, block, where="model")
    if isinstance(config, TextConfig):
        return TokenCount(config.tokenizer()), config.max_txt_len
    if isinstance(config, ClipConfig):
        text = config.architecture()["text_cfg"]
        own = config.vocabulary
        clip = build_tokenizer(text) if own is None else own_tokenizer(own, text)[0]
        return TokenCount(replace(clip, length=PLENTY)), clip.length
    return None


def _with_tokenizer(options: CheckOptions, block: Mapping[str, Any]) -> CheckOptions:
    try:
        found = tokens_of(block)
    except UNREADABLE as error:
        logger.warning("tokens are not counted: %s", first_line(error))
        return options
    if found is None:
        logger.warning("tokens are not counted: %s has no tokenizer of its own", block.get("arch"))
        return options
    count, limit = found
    return replace(options, count_tokens=count, max_tokens=options.max_tokens or limit)
