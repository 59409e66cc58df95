"""A small data set on a web server of this machine, and what downloading it leaves behind."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from lavis_clone.common.transfer import TransferOptions
from lavis_clone.datasets.download import Ways, download_dataset
from lavis_clone.datasets.download_plan import Wish, make_plan
from tests.common.server import Site, serve

RECORDS = [
    {"image": f"{split}/{i}.png", "caption": f"{split} {i}"}
    for split in ("train", "val")
    for i in range(3)
]
IMAGES = {"train": "tr.zip", "val": "va.tar.gz"}


def picture(number: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()


def archive(split: str) -> bytes:
    """Three pictures in a folder that is named after the split, as the archive of ``IMAGES``."""
    data = io.BytesIO()
    files = {f"{split}/{i}.png": picture(i) for i in range(3)}
    if IMAGES[split].endswith(".zip"):
        with zipfile.ZipFile(data, "w") as opened:
            for name, content in files.items():
                opened.writestr(name, content)
    else:
        with tarfile.open(fileobj=data, mode="w:gz") as opened_tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                opened_tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@contextmanager
def serve_toys() -> Iterator[Site]:
    """Serves annotations and pictures of two splits."""
    with serve() as running:
        for split in IMAGES:
            records = [r for r in RECORDS if r["image"].startswith(split)]
            running.bodies[f"/{split}.json"] = json.dumps(records).encode()
            running.bodies[f"/{IMAGES[split]}"] = archive(split)
        yield running


def block(site: Site, **media: Any) -> dict[str, Any]:
    """A data set of that server."""
    sources = [
        {"url": f"{site.url}/{name}", "splits": [split], "holds": {f"{split}/*.png": 3}}
        for split, name in IMAGES.items()
    ]
    annotations = {
        split: {"url": f"{site.url}/{split}.json", "storage": f"toy/{split}.json"}
        for split in IMAGES
    }
    images = {"storage": "toy/images", "sources": sources, **media}
    return {
        "kind": "caption",
        "data_type": "images",
        "build_info": {"annotations": annotations, "images": images},
        "about": {"licence": "CC BY 4.0", "homepage": "https://toy.org", "media": "drawn here"},
    }


FAST = Ways(transfer=TransferOptions(pause=0.001, retries=2))


def get(of: Mapping[str, Any], *splits: str, ways: Ways = FAST, **wish: Any) -> list[str]:
    """What the user is told, with the result last."""
    lines: list[str] = []
    plan = make_plan("toy", of, Wish(splits=splits, **wish))
    lines.append(str(download_dataset(plan, ways, lines.append)))
    return lines


def files_in(folder: Path) -> list[str]:
    """All files but locks and the notes on what was done."""
    found = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    own = (".lock", ".done.json", ".sha256")
    return sorted(
        p.as_posix() for p in found if not p.name.endswith(own) and "checksums" not in p.parts
    )


PICTURES = [f"toy/images/{r['image']}" for r in RECORDS]
EVERYTHING = sorted([*PICTURES, "toy/train.json", "toy/val.json"])
