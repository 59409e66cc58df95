"""``lavis-clone index`` and ``search``: pictures found by words, by pictures, or by both.

An index is a folder: ``pictures.json`` says which pictures, by which model, and which file beside
it holds their vectors. It is replaced last and at once, so a run that was killed leaves the index
as it was when it was saved last, and the next run goes on from there.

Shapes: B pictures of a batch, F width of the model's common space.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from lavis_clone.common.files import FileError, atomic_path, is_url, write_atomic
from lavis_clone.inference import (
    Choice,
    Item,
    OpenModel,
    check_texts,
    find_pictures,
    in_batches,
    read_picture,
    rounded,
)
from lavis_clone.models.base import WEIGHTS_NAME
from lavis_clone.models.capabilities import Embeds

CONTENT = "pictures.json"
SECONDS_BETWEEN_SAVES = 20.0
FORMAT = 1
"""Of ``pictures.json``."""
NEGATIVE_SHARE = 0.5
"""How much the words to stay away from count, against those to look for."""

Stamp = list[int]
"""Size in bytes and time of the last change in nanoseconds; nothing of what a URL names."""


@dataclass(frozen=True)
class Query:
    """What to look for."""

    texts: Sequence[str] = ()
    pictures: Sequence[Image.Image] = ()
    without: Sequence[str] = ()
    """Words for what should not be in the pictures."""


@dataclass(frozen=True)
class Found:
    """A picture and how well it fits."""

    name: str
    score: float
    """The cosine with the query."""


@dataclass
class Change:
    """What an update did."""

    added: int = 0
    removed: int = 0
    failed: int = 0
    seconds: float = 0.0
    """That the new pictures took, without loading the model."""


@dataclass
class PictureIndex:
    """Pictures by their vectors.

    Args:
        folder: Where it lies; it need not be there yet.
        choice: The model that makes the vectors; see ``open`` for that of an index on the disk.
    """

    folder: Path
    choice: Choice
    stamps: dict[str, Stamp] = field(default_factory=dict)
    """By the picture's name, in the order of their rows."""

    def __post_init__(self) -> None:
        self._rows: dict[int, str] = {}  # FAISS's number of a picture -> its name
        self._next = 0
        self._vectors: Any = None  # made when their width is known
        self._file: str | None = None

    @classmethod
    def open(cls, folder: str | Path, *, device: str = "auto") -> PictureIndex:
        """The index in a folder.

        Raises:
            FileError: there is none, or its files cannot be used.
        """
        path = Path(folder).expanduser() / CONTENT
        if not path.is_file():
            raise FileError(
                f"{folder}: holds no index; make one with: lavis-clone index PICTURES -o {folder}"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}")
            choice = Choice(content["model"], content["type"], device)
            index = cls(path.parent, choice, content["pictures"])
            index._rows = dict(zip(content["rows"], index.stamps, strict=True))
            index._next, index._file = content["next"], content["vectors"]
            if index._file is not None:
                index._vectors = _faiss().read_index(str(path.parent / index._file))
                if index._vectors.ntotal != len(index._rows):
                    raise ValueError(f"{index._file} holds {index._vectors.ntotal} vectors")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FileError(f"{path}: cannot be used: {error}; delete the folder") from error
        if content["weights"] != _weights(choice):
            raise FileError(
                f"{folder}: the weights of {choice.name} {choice.model_type} have changed since it "
                "was made; delete it, and index the pictures again"
            )
        return index

    def __len__(self) -> int:
        return len(self._rows)

    def update(self, sources: Sequence[str], model: OpenModel, *, batch_size: int = 32) -> Change:
        """Make the index hold the pictures of ``sources``, and nothing else.

        Pictures that are in it already and have not changed are left alone. What cannot be read is
        told, and left out.
        """
        wanted = {name: _stamp(name) for name in find_pictures(sources)}
        stale = {n for n, stamp in self.stamps.items() if wanted.get(n) != stamp}
        self._remove(stale)
        change = Change(removed=len(stale - wanted.keys()))
        saver = _Saver(self)
        todo = [name for name in wanted if name not in self.stamps]
        begin = time.perf_counter()

        def work(items: list[Item[Image.Image]]) -> list[str]:
            vectors = model.model.embed_images(model.images(i.content for i in items)).projected
            self._add([item.name for item in items], vectors, wanted)
            saver.perhaps()
            return []

        count = in_batches(
            list(enumerate(todo)), work, read=read_picture, size=batch_size, before=len(self)
        )
        change.added, change.failed = count.done, count.failed
        change.seconds = time.perf_counter() - begin
        self.save()
        return change

    def search(self, query: Query, model: OpenModel, *, top: int = 10) -> list[Found]:
        """The pictures that fit best, the best first.

        The query's vector is the mean of those of its texts and pictures, minus ``NEGATIVE_SHARE``
        of the mean of those to stay away from.

        Raises:
            ValueError: there is nothing to look for, or no picture to find.
        """
        if not len(self):
            raise ValueError(f"{self.folder}: the index holds no picture")
        vector = query_vector(query, model)
        scores, rows = self._vectors.search(vector[None].numpy(), min(top, len(self)))
        pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return [Found(self._rows[row], rounded(score)) for row, score in pairs]

    def save(self) -> None:
        """Write it to the disk; the old files go when the new ones are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old, self._file = self._file, None
        if self._vectors is not None:
            self._file = f"vectors_{self._next}_{len(self)}_{time.time_ns()}.faiss"
            with atomic_path(self.folder / self._file) as path:
                _faiss().write_index(self._vectors, str(path))
        content = {
            "format": FORMAT,
            "model": self.choice.name,
            "type": self.choice.resolved_type,
            "weights": _weights(self.choice),
            "vectors": self._file,
            "next": self._next,
            "rows": list(self._rows),
            "pictures": self.stamps,
        }
        write_atomic(self.folder / CONTENT, json.dumps(content))
        if old is not None and old != self._file:
            (self.folder / old).unlink(missing_ok=True)

    def _add(self, names: Sequence[str], vectors: Tensor, stamps: Mapping[str, Stamp]) -> None:
        """Put ``(B, F)`` of length 1 each into the index."""
        faiss = _faiss()
        found = vectors.float().cpu().numpy()
        if self._vectors is None:
            self._vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(found.shape[1]))
        rows = range(self._next, self._next + len(names))
        self._vectors.add_with_ids(found, torch.tensor(rows).numpy())
        self._next += len(names)
        for row, name in zip(rows, names, strict=True):
            self._rows[row], self.stamps[name] = name, stamps[name]

    def _remove(self, names: Iterable[str]) -> None:
        gone = set(names)
        if not gone:
            return
        rows = [row for row, name in self._rows.items() if name in gone]
        self._vectors.remove_ids(torch.tensor(rows, dtype=torch.int64).numpy())
        self._rows = {row: name for row, name in self._rows.items() if name not in gone}
        self.stamps = {name: stamp for name, stamp in self.stamps.items() if name not in gone}


class _Saver:
    """Saves an index now and then, so that little is lost when a long run is stopped."""

    def __init__(self, index: PictureIndex) -> None:
        self._index = index
        self._last = time.monotonic()

    def perhaps(self) -> None:
        if time.monotonic() - self._last > SECONDS_BETWEEN_SAVES:
            self._index.save()
            self._last = time.monotonic()


@torch.inference_mode()
def query_vector(query: Query, model: OpenModel) -> Tensor:
    """``(F,)`` of length 1, on the CPU.

    Raises:
        ValueError: there is nothing to look for, or a text is empty.
    """
    wanted = list(_vectors_of(query.texts, query.pictures, model))
    if not wanted:
        raise ValueError("nothing to look for; give a text or a picture")
    vector = torch.cat(wanted).mean(dim=0)
    if unwanted := list(_vectors_of(query.without, (), model)):
        vector = vector - NEGATIVE_SHARE * torch.cat(unwanted).mean(dim=0)
    return functional.normalize(vector, dim=0)


def _vectors_of(
    texts: Sequence[str], pictures: Sequence[Image.Image], model: OpenModel
) -> Iterator[Tensor]:
    if texts:
        check_texts(texts, kind="text")
        yield model.model.embed_texts(model.texts(texts)).projected.float().cpu()
    if pictures:
        yield model.model.embed_images(model.images(pictures)).projected.float().cpu()


# --- the commands -------------------------------------------------------------------------------


def build(sources: Sequence[str], folder: Path, choice: Choice, *, batch_size: int) -> Change:
    """``lavis-clone index``: make an index, or bring one up to date.

    Raises:
        FileError, ImageError, ImportError, LookupError, TypeError, ValueError: before any work.
    """
    _faiss()
    choice.check(Embeds, task="index")
    if not sources:
        raise ValueError("no picture given; give files, folders or URLs")
    next(find_pictures(sources))
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder for an index")
    if (folder / CONTENT).is_file():
        index = PictureIndex.open(folder, device=choice.device)
        made = (index.choice.name, index.choice.resolved_type)
        if made != (choice.name, choice.resolved_type):
            raise FileError(
                f"{folder} was made by {' '.join(map(str, made))}; name that model, or another "
                "folder"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise FileError(f"{folder} is not empty, and holds no index; choose another folder")
    else:
        index = PictureIndex(folder, choice)
    with torch.inference_mode():
        change = index.update(sources, choice.open(), batch_size=batch_size)
    speed = f", {change.added / change.seconds:.1f} pictures/s" if change.added else ""
    sys.stdout.write(
        f"{folder}: {len(index)} pictures ({change.added} added, {change.removed} removed{speed})\n"
    )
    return change


@dataclass(frozen=True)
class SearchRequest:
    """What to look for, and where."""

    folder: Path
    texts: Sequence[str]
    pictures: Sequence[str] = ()
    without: Sequence[str] = ()
    top: int = 10
    device: str = "auto"
    as_json: bool = False


def search(request: SearchRequest) -> None:
    """``lavis-clone search``: print the pictures that fit best.

    Raises:
        FileError, ImageError, ImportError, ValueError: before the model is loaded.
    """
    if not request.texts and not request.pictures:
        raise ValueError("nothing to look for; give a text, or --picture")
    index = PictureIndex.open(request.folder, device=request.device)
    query = Query(request.texts, [read_picture(p) for p in request.pictures], request.without)
    for found in index.search(query, index.choice.open(), top=request.top):
        row = dataclasses.asdict(found)
        line = json.dumps(row, ensure_ascii=False) if request.as_json else _told(found)
        sys.stdout.write(f"{line}\n")


def _told(found: Found) -> str:
    return f"{found.score:7.4f}  {found.name}"


def _stamp(name: str) -> Stamp:
    if is_url(name) or not os.path.exists(name):
        return []
    status = os.stat(name)
    return [status.st_size, status.st_mtime_ns]


def _weights(choice: Choice) -> str:
    """What tells the weights of a folder from those that it had before; a type's do not change."""
    path = Path(choice.resolved_type or "") / WEIGHTS_NAME
    if not path.is_file():
        return ""
    status = path.stat()
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ImportError(
            "an index needs faiss, which is not installed: pip install 'lavis_clone[app]'"
        ) from error
    return faiss
