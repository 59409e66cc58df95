"""What the commands that run a model share: pictures in batches, the model, rows of results.

Shapes: B pictures of H x W pixels.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lavis_clone.common.context import choose_device
from lavis_clone.common.files import FileError, fetch, is_url
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.models import load_model_and_preprocess
from lavis_clone.models.capabilities import require
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.pictures import ImageError, load_image

T = TypeVar("T")

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MAX_BYTES = 64 * 2**20
"""Of a picture behind a URL."""
READERS = min(8, os.cpu_count() or 1)
"""Threads that read pictures while the model works."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Item(Generic[T]):
    """One of the things that a model is run on."""

    index: int
    """Its place among all that were asked for."""
    name: str
    content: T


@dataclass(frozen=True)
class Count:
    """How many pictures (or texts) there were."""

    done: int
    failed: int


# --- pictures -----------------------------------------------------------------------------------


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


def in_batches(
    names: Sequence[tuple[int, str]],
    work: Callable[[list[Item[T]]], Iterable[str]],
    *,
    read: Callable[[str], T],
    size: int,
    unit: str = "picture",
    before: int = 0,
) -> Count:
    """Read things, hand them to ``work`` in batches, and print the lines that it returns.

    What cannot be read is told on standard error, and the rest goes on; ``work`` is first called
    when something could be read. The next batch is read meanwhile.

    Args:
        names: Each with its index.
        before: How many were done earlier, for the progress bar.
    """
    failed = 0
    total = before + len(names)
    with tqdm(total=total, initial=before, disable=None, unit=unit, leave=False) as bar:
        for batch in _read_ahead(names, read, size):
            items = []
            for index, name, content in batch:
                try:
                    items.append(Item(index, name, content.result()))
                except (ImageError, FileError) as error:
                    failed += 1
                    bar.write(f"error: {error}", file=sys.stderr)
            for line in work(items) if items else ():
                bar.write(line)
            bar.update(len(batch))
    return Count(done=len(names) - failed, failed=failed)


def _read_ahead(
    names: Sequence[tuple[int, str]], read: Callable[[str], T], size: int
) -> Iterator[list[tuple[int, str, Future[T]]]]:
    """Batches that are being read, each begun before the one ahead of it is used up."""
    pool = ThreadPoolExecutor(READERS)
    begun: list[list[tuple[int, str, Future[T]]]] = []
    try:
        for start in range(0, len(names), size):
            batch = names[start : start + size]
            begun.append([(index, name, pool.submit(read, name)) for index, name in batch])
            if len(begun) > 1:
                yield begun.pop(0)
        yield from begun
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# --- the model ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """Which model to run, and where."""

    name: str
    model_type: str | None = None
    """One of its types, or a folder that ``save_pretrained`` wrote; None for the first type."""
    device: str = "auto"

    def check(self, capability: type, *, task: str) -> Any:
        """Find what is wrong before weights are loaded.

        Returns:
            The model's class.

        Raises:
            LookupError, TypeError, ValueError: No such model or device, or the model cannot do it.
        """
        model_class: Any = registry.get_model_class(self.name)
        require(model_class.__new__(model_class), capability, task=task)
        choose_device(self.device)
        return model_class

    @property
    def resolved_type(self) -> str | None:
        """The type's name, or the folder's absolute path, by which it is told from a type."""
        types = registry.get_model_class(self.name).PRETRAINED_MODEL_CONFIG_DICT
        if self.model_type is None:
            return next(iter(types), None)
        is_folder = self.model_type not in types and Path(self.model_type).is_dir()
        return str(Path(self.model_type).absolute()) if is_folder else self.model_type

    def open(self) -> OpenModel:
        """Load the model with its processors.

        Raises:
            ConfigError: It comes without one for pictures.
        """
        device = choose_device(self.device)
        chosen = self.resolved_type
        model, images, texts = load_model_and_preprocess(
            self.name, chosen, is_eval=True, device=device
        )
        if type(images["eval"]) is BaseProcessor:
            raise ConfigError(f"{chosen}: preprocess.vis_processor.eval: not given")
        return OpenModel(model, device, images["eval"], texts["eval"])


@dataclass(frozen=True)
class OpenModel:
    """A model, ready to run."""

    model: Any
    device: torch.device
    process_image: Callable[[Image.Image], Tensor]
    process_text: Callable[[str], str]

    def images(self, pictures: Iterable[Image.Image]) -> Tensor:
        """``(B, 3, H, W)`` as the model takes them."""
        return torch.stack([self.process_image(picture) for picture in pictures]).to(self.device)

    def texts(self, texts: Iterable[str]) -> list[str]:
        """Texts as the model was trained on them.

        Raises:
            ValueError: nothing is left of one.
        """
        cleaned = []
        for text in texts:
            cleaned.append(self.process_text(text))
            if not cleaned[-1].strip():
                raise ValueError(f"{text!r}: holds no words")
        return cleaned


# --- what is given and what comes out -----------------------------------------------------------


def check_texts(texts: Sequence[str], *, kind: str) -> None:
    """Refuse no texts at all, and empty ones.

    Raises:
        ValueError: naming ``kind``.
    """
    if not texts:
        raise ValueError(f"no {kind} given; give at least one")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise ValueError(f"{kind} {number} is empty")


def read_lines(path: str | Path, *, kind: str) -> list[str]:
    """The lines of a text file, empty ones left out.

    Raises:
        FileError: There is no such file, or it is no text.
        ValueError: It holds no line.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, ValueError) else error.strerror
        raise FileError(f"cannot read {kind}s from {path}: {reason}") from error
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise ValueError(f"{path}: holds no {kind}")
    return found


def read_choices(given: str, *, kind: str) -> list[str]:
    """What to choose from: ``a,b,c``, or a file with one a line.

    Raises:
        FileError: ``given`` looks like a file, and there is none.
        ValueError: fewer than two, an empty one, or one twice.
    """
    path = Path(given).expanduser()
    looks_like_file = "," not in given and (path.suffix == ".txt" or os.sep in given)
    if looks_like_file or os.path.isfile(path):
        choices = read_lines(path, kind=kind)
    else:
        choices = [part.strip() for part in given.split(",")]
    if len(choices) < 2:
        raise ValueError(f"{kind}s: give two or more as a,b,c or as a file, got {given!r}")
    if "" in choices:
        raise ValueError(f"{kind}s: number {choices.index('') + 1} of {given!r} is empty")
    counts = Counter(choice.casefold() for choice in choices)
    if twice := [choice for choice in choices if counts[choice.casefold()] > 1]:
        raise ValueError(f"{kind}s: {twice[0]!r} is there more than once")
    return choices


def check_output(path: Path | None) -> None:
    """Refuse a place that no file can be written to.

    Raises:
        FileError
    """
    if path is None:
        return
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: there is no folder {path.parent}")


@dataclass(frozen=True)
class Printing:
    """How rows look on the screen, and where they go besides."""

    as_json: bool = False
    output: Path | None = None
    """Where to write JSON lines."""


class Rows:
    """Turns rows of results into lines to print, and writes them to a file.

    Args:
        told: The line for a row.
        printing: The file is opened at the first row.
    """

    def __init__(self, told: Callable[[Mapping[str, Any]], str], printing: Printing) -> None:
        self._told = told
        self._printing = printing
        self._file: IO[str] | None = None

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, rows: Sequence[Row]) -> list[str]:
        """The lines for ``rows``, which are in the file when it returns."""
        encoded = [json.dumps(row, ensure_ascii=False) for row in rows]
        output = self._printing.output
        if output is not None:
            if self._file is None:
                self._file = output.open("w", encoding="utf-8")
            self._file.writelines(f"{line}\n" for line in encoded)
            self._file.flush()  # so that nothing is lost when it is stopped
        return encoded if self._printing.as_json else [self._told(row) for row in rows]


def rounded(value: float) -> float:
    """A confidence or a cosine as it is written."""
    return round(value, 4)
