"""``lavis-clone caption``: pictures from files, folders and URLs to captions, in batches."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from PIL import Image
from tqdm import tqdm

from lavis_clone.common.context import choose_device
from lavis_clone.common.files import FileError, fetch, is_url
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.models import load_model_and_preprocess
from lavis_clone.models.capabilities import Captions, require
from lavis_clone.models.generation.options import GenerationOptions
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.pictures import ImageError, load_image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MAX_BYTES = 64 * 2**20
"""Of a picture behind a URL."""


@dataclass(frozen=True)
class Request:
    """What to describe, and with what."""

    sources: Sequence[str]
    model: str
    model_type: str
    """A type of the model, or a folder that ``save_pretrained`` wrote."""
    device: str
    options: Mapping[str, Any]
    """Arguments of ``generate``."""
    batch_size: int = 8
    output: Path | None = None
    """Where to write JSON lines."""


@dataclass(frozen=True)
class Count:
    """How many pictures there were."""

    described: int
    failed: int


def describe(request: Request) -> Count:
    """Print a line per caption, and write them to ``request.output``.

    A picture that cannot be read is told on standard error, and the rest goes on; the model is
    loaded when there is a first picture to describe.

    Raises:
        ImageError, FileError, LookupError, TypeError, ValueError: before any work.
    """
    _check(request)
    names = list(find_pictures(request.sources))
    writer = _Writer(request)
    failed = 0
    with tqdm(total=len(names), disable=None, unit="picture", leave=False) as bar:
        for batch in _batches(names, request.batch_size):
            pictures: list[tuple[str, Image.Image]] = []
            for name in batch:
                try:
                    pictures.append((name, read_picture(name)))
                except (ImageError, FileError) as error:
                    failed += 1
                    bar.write(f"error: {error}", file=sys.stderr)
            for row in writer.describe(pictures) if pictures else ():
                bar.write(f"{row['image']}: {row['caption']} ({row['confidence']:.2f})")
            bar.update(len(batch))
    writer.close()
    return Count(described=len(names) - failed, failed=failed)


def find_pictures(sources: Sequence[str]) -> Iterator[str]:
    """Files and URLs as they are; of a folder every picture in it, sorted.

    Raises:
        ImageError: A folder holds no picture.
    """
    for source in sources:
        if is_url(source) or not Path(source).is_dir():
            yield source
            continue
        found = sorted(p for p in Path(source).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise ImageError(f"{source}: the folder holds no picture")
        yield from map(str, found)


def read_picture(name: str) -> Image.Image:
    """Load a picture from a file or a URL.

    Raises:
        ImageError, FileError: in one line that names it.
    """
    return load_image(fetch(name, max_bytes=MAX_BYTES) if is_url(name) else name)


class _Writer:
    """The model and the output file, opened at the first pictures."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._device = choose_device(request.device)
        self._model: Any = None
        self._process: Any = None
        self._file: IO[str] | None = None

    def describe(self, pictures: Sequence[tuple[str, Image.Image]]) -> list[dict[str, Any]]:
        """A row for each caption of each picture."""
        if self._model is None:
            self._open()
        images = torch.stack([self._process(picture) for _, picture in pictures])
        samples = {"image": images.to(self._device)}
        written = self._model.generate_with_confidence(samples, **self._request.options)
        per_picture = len(written.text) // len(pictures)
        names = [name for name, _ in pictures for _ in range(per_picture)]
        confidences = written.confidence.tolist()
        rows = [
            {"image": name, "caption": text, "confidence": round(confidence, 4)}
            for name, text, confidence in zip(names, written.text, confidences, strict=True)
        ]
        if self._file is not None:
            self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            self._file.flush()  # so that nothing is lost when it is stopped
        return rows

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        model_type = _folder_or_type(self._request)
        self._model, processors, _ = load_model_and_preprocess(
            self._request.model, model_type, is_eval=True, device=self._device
        )
        self._process = processors["eval"]
        if type(self._process) is BaseProcessor:
            raise ConfigError(f"{model_type}: preprocess.vis_processor.eval: not given")
        if self._request.output is not None:
            self._file = self._request.output.open("w", encoding="utf-8")


def _check(request: Request) -> None:
    """Look at all that can be wrong before weights are loaded."""
    model_class = registry.get_model_class(request.model)
    require(model_class.__new__(model_class), Captions, task="caption")
    given = request.options
    GenerationOptions(
        num_beams=given["num_beams"],
        max_length=given["max_length"],
        min_length=given["min_length"],
        num_return=given["num_captions"],
        sample=given["use_nucleus_sampling"],
    )
    output = request.output
    if output is not None and output.is_dir():
        raise FileError(f"cannot write {output}: it is a folder")
    if output is not None and not output.parent.is_dir():
        raise FileError(f"cannot write {output}: there is no folder {output.parent}")


def _folder_or_type(request: Request) -> str:
    """The model's type; a folder is known by the separator in its path."""
    types = registry.get_model_class(request.model).PRETRAINED_MODEL_CONFIG_DICT
    path = Path(request.model_type)
    is_folder = request.model_type not in types and path.is_dir()
    return str(path.absolute()) if is_folder else request.model_type


def _batches(names: Sequence[str], size: int) -> Iterator[list[str]]:
    iterator = iter(names)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
