"""What open_clip knows by name: architectures, published weights, and how their pictures are made.

A name is an architecture (``ViT-B-32``), one with the tag of its weights
(``ViT-B-16-SigLIP:webli``), a model of the Hugging Face hub in open_clip's format
(``hf-hub:org/name``), or a folder in that format (``local-dir:/path``).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from lavis_clone.common.files import FileError, download, resolve
from lavis_clone.common.names import suggest
from lavis_clone.common.reading import ConfigError

HUB, FOLDER = "hf-hub:", "local-dir:"
ALIASES = {"base": "ViT-B-32"}
"""Model types of LAVIS that are no names of open_clip."""
CONFIG_NAME = "open_clip_config.json"
WEIGHT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Of published weights, in the order in which they are looked for."""
OPENAI = "https://openaipublic."
"""OpenAI's files carry their sha256 in the path, and were trained with QuickGELU."""
PROCESSORS = {"shortest": "clip_image_eval", "squash": "blip_image_eval"}
"""By how open_clip says that a picture gets its size."""
SCALARS = ("embed_dim", "quick_gelu", "init_logit_scale", "init_logit_bias")
"""Keys of an architecture beside those of its two towers; others belong to a decoder."""


@dataclass(frozen=True)
class Published:
    """A model that open_clip has a name for."""

    model: Mapping[str, Any]
    """Arguments of open_clip's model classes: ``embed_dim``, ``vision_cfg``, ``text_cfg``, ..."""
    custom_text: bool
    """Whether its text tower's weights stand under ``text.``."""
    pictures: Mapping[str, Any]
    """``size``, ``mean``, ``std``, ``interpolation``, ``resize_mode``, as far as they are known."""
    weights: tuple[str, ...] = ()
    """Where its weights may lie, the first choice first; empty when there are none."""


def find(name: str) -> Published | None:
    """The model of that name, or None when open_clip knows none.

    Raises:
        FileError: a hub's or a folder's files cannot be had.
        ConfigError: they are not in open_clip's format.
    """
    if name.startswith((HUB, FOLDER)):
        return None if name.count(":") > 1 else _of_files(name)
    architecture, _, tag = name.replace("/", "-").partition(":")
    architecture = ALIASES.get(architecture, architecture)
    config = open_clip.get_model_config(architecture)
    if config is None or (tag and not open_clip.is_pretrained_cfg(architecture, tag)):
        return None
    found = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    model = dict(config)
    model["quick_gelu"] = bool(config.get("quick_gelu") or found.get("quick_gelu"))
    return _published(model, found, weights=_places(found))


def first_tag(name: str) -> str | None:
    """The tag of the weights that open_clip lists first for an architecture."""
    tags = open_clip.list_pretrained_tags_by_model(ALIASES.get(name, name).replace("/", "-"))
    return tags[0] if tags else None


def hint(name: str) -> str:
    """``"; did you mean ...?"`` when open_clip has a name like this."""
    tagged = open_clip.list_pretrained(as_str=True)
    return suggest(name, tagged if ":" in name else open_clip.list_models())


def weights_file(location: str, model_type: str | None) -> str:
    """Where weights lie: a tag of the architecture ``model_type``, or a hub's name, as a file.

    Any other location is itself.

    Raises:
        FileError: none of the places where they should be has them.
    """
    if location.startswith(OPENAI):
        return str(download(location, sha256=location.split("/")[-2]))
    if location.startswith((HUB, FOLDER)):
        found = find(location)
    else:
        architecture = (model_type or "").partition(":")[0]
        found = find(f"{architecture}:{location}") if architecture and location else None
    return location if found is None else _first_there(found.weights, location)


def preprocess(found: Published) -> dict[str, Any]:
    """The ``preprocess:`` block that makes pictures as the model was trained on them.

    Raises:
        ConfigError: none of our processors does it.
    """
    given = dict(found.pictures)
    sizes = given.get("size") or found.model["vision_cfg"].get("image_size", 224)
    sides = set(sizes) if isinstance(sizes, Sequence) else {sizes}
    mode = given.get("resize_mode", "shortest")
    if len(sides) > 1 or mode not in PROCESSORS:
        raise ConfigError(f"preprocess: there is no processor for size {sizes} by {mode!r}")
    common = {"image_size": sides.pop()}
    common |= {key: list(given[key]) for key in ("mean", "std") if given.get(key)}
    how = {"interpolation": given["interpolation"]} if given.get("interpolation") else {}
    return {
        "vis_processor": {
            "train": {"name": "clip_image_train", **common},
            "eval": {"name": PROCESSORS[mode], **common, **how},
        }
    }


def _published(
    config: Mapping[str, Any], pictures: Mapping[str, Any], *, weights: tuple[str, ...]
) -> Published:
    text = dict(config["text_cfg"])
    custom = bool(config.get("custom_text") or text.get("hf_model_name"))
    custom = custom or "multimodal_cfg" in config
    own = {key: config[key] for key in (*SCALARS, "vision_cfg", "text_cfg") if key in config}
    return Published(own, custom, dict(pictures), weights)


@functools.lru_cache
def _of_files(name: str) -> Published:
    """A model in open_clip's format, from the hub or a folder."""
    is_hub = name.startswith(HUB)
    place = f"hf://{name.removeprefix(HUB)}" if is_hub else name.removeprefix(FOLDER)
    path = resolve(f"{place}/{CONFIG_NAME}")
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        config = document["model_cfg"]
        if not is_hub and config["text_cfg"].get("hf_tokenizer_name"):
            config["text_cfg"]["hf_tokenizer_name"] = place  # its files lie beside the config
        weights = tuple(f"{place}/{file}" for file in WEIGHT_NAMES)
        return _published(config, document.get("preprocess_cfg") or {}, weights=weights)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not a config of open_clip: {error!r}") from error


def _places(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the weights of a tag."""
    if found.get("url"):
        return (found["url"],)
    hub = found.get("hf_hub", "")
    if not hub:
        return ()
    return tuple(f"hf://{hub}{n}" for n in WEIGHT_NAMES) if hub.endswith("/") else (f"hf://{hub}",)


def _first_there(places: Sequence[str], name: str) -> str:
    problems = []
    for place in places:
        try:
            is_openai = place.startswith(OPENAI)
            return weights_file(place, None) if is_openai else str(resolve(place))
        except FileError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    raise FileError(f"{name}: open_clip names no weights")
