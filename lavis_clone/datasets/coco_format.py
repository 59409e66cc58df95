"""Captions in COCO's own format: pictures and captions in lists of their own, which ids join.

Such a file is ``{"images": [{"id": 7, "file_name": "7.jpg"}, ...], "annotations": [{"image_id": 7,
"caption": "text"}, ...]}`` (https://cocodataset.org/#format-data, "Image Captioning"). COCO,
NoCaps, VizWiz-Captions and many later sets are published in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lavis_clone.datasets.annotations import AnnotationError, read_json

HEAD = 2**16
"""Characters of a file by which its format is told."""
_IMAGES = re.compile(r'"images"\s*:\s*\[\s*(\{[^{}]*"file_name"|\])')
REFUSED = ("is_rejected", "is_precanned")
"""Marks of VizWiz on captions that do not describe the picture."""


def is_coco_format(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as one of COCO's does."""
    path = Path(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(HEAD).lstrip()
    return head.startswith("{") and _IMAGES.search(head) is not None


def read_coco_format(path: str | os.PathLike[str], *, is_split: bool) -> list[dict[str, Any]]:
    """Records of ``image`` (its file name), ``image_id`` and ``caption``.

    Captions that VizWiz marks as rejected, or as chosen in place of a description, are left out.

    Args:
        is_split: One record for each caption, and none for pictures without; otherwise one for each
            picture, with a list of captions where there are any.

    Raises:
        AnnotationError: the lists do not fit each other.
    """
    path = Path(path)
    content = read_json(path)
    try:
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        captions = list(_captions(content.get("annotations") or []))
        if unknown := [image_id for image_id, _ in captions if image_id not in files]:
            raise AnnotationError(f"{path}: annotations name no image that has the id {unknown[0]}")
    except (KeyError, TypeError, AttributeError) as error:
        raise AnnotationError(f"{path}: not as COCO writes captions: {error!r}") from error
    if is_split:
        return [{"image": files[i], "image_id": i, "caption": text} for i, text in captions]
    found: dict[Any, list[str]] = {image_id: [] for image_id in files}
    for image_id, text in captions:
        found[image_id].append(text)
    return [
        {"image": files[i], "image_id": i} | ({"caption": texts} if texts else {})
        for i, texts in found.items()
    ]


def _captions(annotations: list[Mapping[str, Any]]) -> Iterator[tuple[Any, str]]:
    for annotation in annotations:
        if not any(annotation.get(mark) for mark in REFUSED):
            yield annotation["image_id"], annotation["caption"]
