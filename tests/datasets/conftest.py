"""A small data set on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, from which nothing may be downloaded."""
    root = tmp_path / "cache"
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(root))
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    return root


@pytest.fixture
def shapes(cache) -> Path:
    """Ten pictures, 8 pixels wide, and their captions, as ``shapes/`` in the cache."""
    root = cache / "shapes"
    (root / "images").mkdir(parents=True)
    records = []
    for i in range(10):
        Image.new("RGB", (8, 6), (25 * i, 0, 0)).save(root / "images" / f"shape_{i:03}.png")
        records.append(
            {
                "image": f"shape_{i:03}.png",
                "caption": [f"Shape {i}.", f"Number {i}!", f"{i}"],
                "image_id": f"s{i // 2}",
            }
        )
    (root / "train.json").write_text(json.dumps(records))
    for record in records:
        del record["image_id"]
    (root / "val.json").write_text(json.dumps(records[:5]))
    return root
