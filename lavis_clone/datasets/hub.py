"""Data sets of Hugging Face's package ``datasets``: from its hub, from folders and from files.

Their rows stay in the Arrow files that the package maps into memory. Pictures are read out of them
when a sample needs them, and decoded as all other pictures are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lavis_clone.common.files import FileError, is_offline
from lavis_clone.common.names import suggest
from lavis_clone.common.own_data import HubBlock
from lavis_clone.common.reading import ConfigError, first_line

SAVED = ("dataset_dict.json", "state.json")
"""Which of these files a folder has that ``save_to_disk`` wrote."""
PLAIN = (str, int, float, bool, list, dict, type(None))
NOT_READ = ("Video", "Audio", "Pdf", "Nifti")
"""Features that would be decoded with each row, and that no kind of sample uses."""


@dataclass(frozen=True)
class HubSplit:
    """One split."""

    rows: Any
    """A ``datasets.Dataset`` that gives pictures as their files' bytes or paths."""
    label: str
    """What to call it in messages."""

    @cached_property
    def picture_columns(self) -> tuple[str, ...]:
        """The columns whose cells are pictures."""
        return tuple(n for n, f in self.rows.features.items() if type(f).__name__ == "Image")

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows; in place of a picture stands its name, ``column/number``."""
        features = self.rows.features
        plain = [name for name, feature in features.items() if not _holds_media(feature)]
        names = self.picture_columns
        for number, row in enumerate(self.rows.select_columns(plain)):
            record = {k: v if isinstance(v, PLAIN) else str(v) for k, v in row.items()}
            yield {**record, **{name: f"{name}/{number}" for name in names}}

    def class_names(self, column: str) -> list[str] | None:
        """The names of the classes of a column that holds their numbers, if it has any."""
        names = getattr(self.rows.features.get(column), "names", None)
        return list(names) if names else None

    def open(self, name: str) -> io.BytesIO | Path:
        """The file of a picture.

        Args:
            name: ``column/number``, as ``records`` gives it.
        """
        column, _, number = name.rpartition("/")
        cell = self._columns[column][int(number)][column]
        if cell is None:
            cell = {"bytes": b""}  # told as an empty picture
        if cell.get("bytes") is None:
            return Path(cell["path"])
        file = io.BytesIO(cell["bytes"])
        file.name = f"{self.label}, {name}"
        return file

    @cached_property
    def _columns(self) -> dict[str, Any]:
        return {name: self.rows.select_columns([name]) for name in self.picture_columns}


def hub_splits(
    block: HubBlock, *, where: str, wanted: Sequence[str] | None = None
) -> dict[str, HubSplit]:
    """The splits of a data set, under our names.

    Args:
        where: Dotted place of ``block`` in the config, for messages.
        wanted: The only ones that are needed; None for all.

    Raises:
        ImportError: the package is not installed; says how to.
        FileError: there is no such data set, or it cannot be had.
        ConfigError: it has no such split.
    """
    found = _loaded(block, where=where, wanted=wanted)
    image = _package().Image(decode=False)
    splits: dict[str, HubSplit] = {}
    for name, rows in found.items():
        undecoded = rows
        for column, feature in rows.features.items():
            if type(feature).__name__ == "Image":
                undecoded = undecoded.cast_column(column, image)
        splits[name] = HubSplit(undecoded, f"{block.path} ({name})")
    return splits


def _loaded(block: HubBlock, *, where: str, wanted: Sequence[str] | None) -> Mapping[str, Any]:
    """A ``datasets.Dataset`` for each of our splits."""
    datasets = _package()
    theirs = None
    if block.splits is not None:
        theirs = {o: t for o, t in block.splits.items() if wanted is None or o in wanted}
    is_saved = any((Path(block.path) / name).is_file() for name in SAVED)
    try:
        if is_saved:
            found = datasets.load_from_disk(block.path)
        else:
            found = datasets.load_dataset(
                block.path,
                block.name,
                data_dir=block.data_dir,
                data_files=block.data_files,
                revision=block.revision,
                split=None if theirs is None else list(theirs.values()),
                download_config=datasets.DownloadConfig(local_files_only=is_offline()),
            )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise FileError(f"{where}: cannot load {block.path}: {first_line(error)}") from error
    if isinstance(found, list):
        return dict(zip(theirs or (), found, strict=True))
    if not isinstance(found, Mapping):
        found = {str(found.split or "train"): found}
    if theirs is None:
        return {o: rows for o, rows in found.items() if wanted is None or o in wanted}
    for split in theirs.values():
        if split not in found:
            raise ConfigError(
                f"{where}.splits: {block.path} has no split {split!r}{suggest(split, found)} "
                f"({', '.join(found)})"
            )
    return {ours: found[split] for ours, split in theirs.items()}


def _holds_media(feature: Any) -> bool:
    """Whether cells of a feature hold what has to be decoded."""
    if isinstance(feature, Mapping):
        return any(map(_holds_media, feature.values()))
    if isinstance(feature, list):
        return any(map(_holds_media, feature))
    if hasattr(feature, "feature"):
        return _holds_media(feature.feature)
    return type(feature).__name__ in ("Image", *NOT_READ)


def _package() -> Any:
    """The package ``datasets``."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "hub: needs the package datasets, which is not installed: "
            "pip install 'lavis_clone[data]'"
        ) from error
    return datasets
