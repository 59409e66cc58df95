"""What the ``model:``, ``datasets:`` and ``env:`` blocks of a YAML file may say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavis_clone.common.own_data import HubBlock, broken_rules
from lavis_clone.common.reading import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelFields:
    """What every model's config has: which model it is, and which weights it starts from."""

    arch: str | None = None
    """A registered model."""
    model_type: str | None = None
    """Which of the model's YAML files gives the defaults; None for none."""
    load_finetuned: bool = True
    finetuned: str | None = None
    """Weights of this very model: a path, URL, ``hf://...`` or ``asset://...``."""
    load_pretrained: bool = True
    pretrained: str | None = None
    """Weights of a pre-trained model to start from, when ``load_finetuned`` gives none."""

    @classmethod
    def weight_keys(cls) -> set[str]:
        """These fields but ``arch``: a model whose sizes are written out needs none of them."""
        return {f.name for f in dataclasses.fields(ModelFields)} - {"arch"}


@dataclass(frozen=True, kw_only=True)
class WeightsBlock(ModelFields):
    """The same keys of the ``model:`` block of a run, which must say what to build."""

    arch: str = field()


@dataclass(frozen=True, kw_only=True)
class AboutBlock:
    """What people should know of a data set, ``datasets.<name>.about``."""

    licence: str
    """Under which terms its makers publish it, in short."""
    homepage: str
    size: dict[str, int] = field(default_factory=dict)
    """Samples of each split, as its makers count them; a split that is not here is not known."""
    media: str
    """Where its pictures or videos come from, in words."""


@dataclass(frozen=True, kw_only=True)
class DatasetBlock:
    """The keys of a block under ``datasets:``, whose name is the builder's."""

    kind: str | None = None
    """What its samples are, e.g. ``caption``."""
    batch_size: int | None = None
    """Samples of one batch in training, which then is of this data set alone; None for
    ``run.batch_size_train``. Not in LAVIS."""
    class_names: list[str] | None = None
    """Of the kind ``classification``: the classes, in the order of their numbers."""
    type: str | None = None
    """Which of the builder's YAML files gives the defaults; None for ``default``."""
    data_type: str | list[str] | None = None
    """``images``, ``videos`` or ``features``."""
    build_info: dict[str, Any] = field(default_factory=dict)
    """``annotations``, by split, and where the files of each data type lie."""
    vis_processor: dict[str, dict[str, Any]] | None = None
    """``train`` and ``eval``, each with the ``name`` of a processor and its fields."""
    text_processor: dict[str, dict[str, Any]] | None = None
    dataset_card: str | None = None
    images: str | None = None
    """Short for ``build_info.images.storage``: the folder of the pictures, relative to the working
    directory. This and the keys below are not in LAVIS."""
    videos: str | None = None
    """Short for ``build_info.videos.storage``."""
    annotations: Any = None
    """Short for ``build_info.annotations``: a file or files by split, or one to be split."""
    split: dict[str, float] | None = None
    """What part of one table or folder each split gets, e.g. ``{train: 0.9, val: 0.1}``; the hash
    of a file's name decides, so that a picture stays where it is when others are added."""
    columns: dict[str, str] | None = None
    """The names that columns have in the annotation files, and those that they have here, e.g.
    ``{file_name: image, text: caption}``."""
    template: str | dict[str, str] | None = None
    """A text put together from columns, e.g. ``"a photo of {caption}"``, or one for each field, by
    its name."""
    hub: HubBlock | None = None
    """A data set of Hugging Face's ``datasets`` in place of annotation files."""
    about: AboutBlock | None = None
    """Licence, homepage, sizes and where the media come from; ``lavis-clone datasets`` shows it."""

    def __post_init__(self) -> None:
        broken = broken_rules(columns=self.columns, template=self.template, split=self.split)
        if broken:
            raise ConfigError.of(broken)


@dataclass(frozen=True, kw_only=True)
class AnnotationBlock:
    """The annotation files of one split, ``build_info.annotations.<split>``."""

    url: str | list[str] | None = None
    """Where they can be downloaded, or a local path to copy from."""
    storage: str | list[str]
    """Where they lie, relative to the cache; one for each URL."""
    md5: str | list[str] | None = None
    sha256: str | list[str] | None = None
    member: str | list[str] | None = None
    """The file inside, where a URL is that of a ``.zip`` or ``.tar`` archive; one for each URL.
    Not in LAVIS."""
    by_hand: str | None = None
    """What has no URL: where to get it and what to make of it, in words. Not in LAVIS."""
    columns: dict[str, str] | None = None
    """The names of this split's columns, in place of the data set's ``columns``. Not in LAVIS."""
    template: str | dict[str, str] | None = None
    """In place of the data set's ``template``. Not in LAVIS."""

    def __post_init__(self) -> None:
        broken = broken_rules(columns=self.columns, template=self.template, split=None)
        if broken:
            raise ConfigError.of(broken)


@dataclass(frozen=True, kw_only=True)
class SourceBlock:
    """A file that holds media of a data set, one of ``build_info.<data type>.sources``."""

    url: str
    sha256: str | None = None
    md5: str | None = None
    bytes: int | None = None
    """Its length, if published; another one is an error."""
    unpack: bool | None = None
    """Whether it is an archive to be unpacked; None goes by its name (.zip, .tar, .tgz, ...)."""
    to: str = "."
    """The folder to put or unpack it in, relative to ``storage``."""
    splits: list[str] | None = None
    """The splits that need it; None for all."""
    holds: dict[str, int] = field(default_factory=dict)
    """What it brings: patterns below ``storage``, each with its number of files. Where they are
    already, nothing is downloaded."""


@dataclass(frozen=True, kw_only=True)
class MediaBlock:
    """Where the media of a data type are, ``build_info.<data type>``."""

    storage: str
    """The folder, relative to the cache."""
    sources: list[SourceBlock] = field(default_factory=list)
    """Where they can be downloaded: ``lavis-clone download NAME --images``. Not in LAVIS."""
    by_hand: str | None = None
    """What cannot be downloaded: where to get it and what to place where, in words; ``{storage}``
    stands for the folder. Not in LAVIS."""
    holds: dict[str, int] = field(default_factory=dict)
    """What must be there when all is done, whatever it came from: patterns below ``storage``, each
    with the least number of files, e.g. ``{"val/*.jpg": 5000, "list.txt": 1}``. Not in LAVIS."""

    def __post_init__(self) -> None:
        patterns = [*self.holds]
        for source in self.sources:
            patterns += [source.to, *source.holds]
        broken = [p for p in patterns if Path(p).is_absolute() or ".." in Path(p).parts]
        if broken:
            raise ValueError(f"must lie below storage: {', '.join(map(repr, broken))}")


@dataclass(frozen=True, kw_only=True)
class EnvBlock:
    """The ``env:`` block."""

    cache_root: Path | None = None
    """For ``${env.cache_root}``; set it through the environment variable ``LAVIS_CLONE_CACHE``."""
