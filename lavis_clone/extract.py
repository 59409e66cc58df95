"""``lavis-clone features``: pictures, texts, or both, to a file of vectors.

Shapes: B rows of a batch, N image tokens, D width, F width of the common space.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lavis_clone.feature_files import RowStore, check_suffix
from lavis_clone.inference import (
    Choice,
    Count,
    Item,
    check_output,
    find_pictures,
    in_batches,
    read_lines,
    read_picture,
)
from lavis_clone.models.base import WEIGHTS_NAME
from lavis_clone.models.capabilities import ExtractsFeatures
from lavis_clone.models.heads.features import MODES
from lavis_clone.models.outputs import FeatureOutput

FIRST_TOKEN = {
    "image": "image_embeds_proj",
    "text": "text_embeds_proj",
    "multimodal": "multimodal_embeds",
}
"""What is kept in each mode, of the first token, which stands for all."""
ALL_TOKENS = "image_embeds"


@dataclass(frozen=True)
class Kept:
    """Which features to keep."""

    mode: str = "image"
    """``image``, ``text`` or ``multimodal``"""
    tokens: bool = False
    """All image tokens, too."""
    half: bool = False
    """As float16."""


@dataclass(frozen=True)
class Request:
    """What to turn into vectors, with what, and where to."""

    sources: Sequence[str]
    texts: Path | None
    """A file with a text on each line; in mode ``multimodal`` one for each picture, in order."""
    output: Path
    choice: Choice
    kept: Kept
    batch_size: int = 8


def extract(request: Request) -> Count:
    """Write the features of all that is given; go on where an earlier run of the same ended.

    Pictures that cannot be read are told, left out of the file, and tried again by the next run
    if this one is stopped.

    Returns:
        How many rows the file has, and how many could not be made.

    Raises:
        ImageError, FileError, ImportError, LookupError, TypeError, ValueError: before any work.
    """
    columns = _check(request)
    store = RowStore(request.output, columns, _settings(request, columns))
    total = len(next(iter(columns.values())))
    finished = store.open()
    if finished is not None:
        sys.stdout.write(f"{request.output}: is there already, with {finished} rows\n")
        return Count(done=finished, failed=total - finished)
    if store.num_done:
        sys.stderr.write(f"going on after {store.num_done} of {total}\n")
    _work_off(request, columns, store)
    if store.num_done:
        store.finish()
        sys.stdout.write(f"{request.output}: {store.num_done} rows\n")
    return Count(done=store.num_done, failed=total - store.num_done)


def _work_off(request: Request, columns: Mapping[str, Sequence[str]], store: RowStore) -> None:
    """Make the rows that are absent."""
    opened = functools.cache(request.choice.open)
    texts = functools.cache(lambda: opened().texts(columns["texts"]))  # told before the first row

    def work(items: list[Item[Image.Image | None]]) -> list[str]:
        rows = [item.index for item in items]
        samples: dict[str, Any] = {}
        if "names" in columns:
            samples["image"] = opened().images(i.content for i in items if i.content is not None)
        if "texts" in columns:
            samples["text_input"] = [texts()[row] for row in rows]
        output = opened().model.extract_features(samples, mode=request.kept.mode)
        store.write(rows, _arrays(output, request.kept))
        return []

    read: Callable[[str], Image.Image | None] = (
        read_picture if "names" in columns else lambda _text: None
    )
    names = next(iter(columns.values()))
    in_batches(
        [(row, names[row]) for row in store.to_do()],
        work,
        read=read,
        size=request.batch_size,
        unit="picture" if "names" in columns else "text",
        before=store.num_done,
    )


def _arrays(output: FeatureOutput, wanted: Kept) -> dict[str, np.ndarray[Any, Any]]:
    """``(B, F)`` or ``(B, D)`` of the first token; ``(B, N, D)`` of all image tokens."""
    key = FIRST_TOKEN[wanted.mode]
    features = output[key]
    found = {key: features if features.ndim == 2 else features[:, 0]}  # CLIP has no tokens
    if wanted.tokens:
        found[ALL_TOKENS] = output[ALL_TOKENS]
    dtype = torch.float16 if wanted.half else torch.float32
    return {name: values.to("cpu", dtype).numpy() for name, values in found.items()}


def _check(request: Request) -> dict[str, Sequence[str]]:
    """Look at all that can be wrong before weights are loaded.

    Returns:
        ``names`` of the pictures and ``texts``, or the one of them that the mode needs.
    """
    mode = request.kept.mode
    _check_mode(mode, request.choice)
    check_output(request.output)
    check_suffix(request.output)
    if request.kept.tokens and mode != "image":
        raise ValueError(f"--tokens keeps image tokens, and needs --mode image, not {mode}")
    if mode != "image" and request.texts is None:
        raise ValueError(f"--mode {mode} needs --texts, a file with a text on each line")
    if mode == "image" and request.texts is not None:
        raise ValueError("--texts needs --mode text or --mode multimodal")
    if mode == "text" and request.sources:
        raise ValueError(f"--mode text takes no pictures, got {request.sources[0]}")
    if mode != "text" and not request.sources:
        raise ValueError("no picture given; give files, folders or URLs")
    columns: dict[str, Sequence[str]] = {}
    if mode != "text":
        columns["names"] = list(find_pictures(request.sources))
    if request.texts is not None:
        columns["texts"] = read_lines(request.texts, kind="text")
    if mode == "multimodal" and len(columns["names"]) != len(columns["texts"]):
        raise ValueError(
            f"--mode multimodal needs a text for each picture, got {len(columns['names'])} "
            f"pictures and {len(columns['texts'])} texts"
        )
    return columns


def _check_mode(mode: str, choice: Choice) -> None:
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; use one of {', '.join(MODES)}")
    model_class = choice.check(ExtractsFeatures, task="features")
    known = getattr(model_class, "FEATURE_MODES", MODES)
    if mode not in known:
        raise ValueError(f"{choice.name} has no mode {mode!r}; use one of {', '.join(known)}")


def _settings(request: Request, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the features depend on; the batch size and the device are not among it."""
    chosen = request.choice.resolved_type
    settings: dict[str, Any] = {
        "model": request.choice.name,
        "type": chosen,
        **dataclasses.asdict(request.kept),
    }
    weights = Path(chosen or "") / WEIGHTS_NAME
    if weights.is_file():  # a folder can be trained again
        found = weights.stat()
        settings["weights"] = f"{found.st_size} bytes of {found.st_mtime_ns}"
    for column, items in columns.items():
        digest = hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()
        settings[column] = f"{len(items)} ({digest[:12]})"
    return settings
