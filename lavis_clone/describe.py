"""``lavis-clone caption``: pictures from files, folders and URLs to captions, in batches."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lavis_clone.inference import (
    Choice,
    Count,
    Item,
    OpenModel,
    Printing,
    Row,
    Rows,
    check_output,
    find_pictures,
    in_batches,
    read_picture,
    rounded,
)
from lavis_clone.models.capabilities import Captions
from lavis_clone.models.generation.options import GenerationOptions


@dataclass(frozen=True)
class Request:
    """What to describe, and with what."""

    sources: Sequence[str]
    choice: Choice
    options: Mapping[str, Any]
    """Arguments of ``generate``."""
    batch_size: int = 8


def describe(request: Request, printing: Printing) -> Count:
    """Print a line per caption, and write them to a file if there should be one.

    A picture that cannot be read is told on standard error, and the rest goes on; the model is
    loaded when there is a first picture to describe.

    Raises:
        ImageError, FileError, LookupError, TypeError, ValueError: before any work.
    """
    _check(request)
    check_output(printing.output)
    names = list(enumerate(find_pictures(request.sources)))
    opened = functools.cache(request.choice.open)
    with Rows(_told, printing) as rows:

        def work(items: list[Item[Image.Image]]) -> list[str]:
            return rows.add(_captions(opened(), items, request.options))

        return in_batches(names, work, read=read_picture, size=request.batch_size)


def _captions(
    opened: OpenModel, items: Sequence[Item[Image.Image]], options: Mapping[str, Any]
) -> list[Row]:
    """A row for each caption of each picture."""
    samples = {"image": opened.images(item.content for item in items)}
    written = opened.model.generate_with_confidence(samples, **options)
    per_picture = len(written.text) // len(items)
    names = [item.name for item in items for _ in range(per_picture)]
    return [
        {"image": name, "caption": text, "confidence": rounded(confidence)}
        for name, text, confidence in zip(
            names, written.text, written.confidence.tolist(), strict=True
        )
    ]


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['image']}: {row['caption']} ({row['confidence']:.2f})"


def _check(request: Request) -> None:
    """Look at all that can be wrong before weights are loaded."""
    request.choice.check(Captions, task="caption")
    given = request.options
    GenerationOptions(
        num_beams=given["num_beams"],
        max_length=given["max_length"],
        min_length=given["min_length"],
        num_return=given["num_captions"],
        sample=given["use_nucleus_sampling"],
    )
