"""Time image-text matching against scoring pair by pair, in one process.

    python benchmarks/matching.py [--repeats 3] [--csv benchmarks/results/matching.csv]

BLIP of base size (ViT-B/16 at 384 px, 12 text layers) with random weights, in fp32 on two threads.
Two jobs: one image against 256 captions, and the retrieval evaluation of a split of 64 images and
320 captions that re-ranks 32 candidates of each. Pair by pair means as LAVIS does it: each text
is padded to 35 tokens, each pair has a copy of the image's tokens, and a pair that both directions
ask for is judged twice. That takes too long to be run on the whole split: the split's time is that
of encoding plus the pairs' at the rate of the first job, and the CSV says so.

Peak memory is what the process holds at most during a job, the weights included.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from report import circumstances, write_csv
from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.models.outputs import TextEmbeddings
from lavis_clone.models.tokenizers import TokenBatch
from lavis_clone.tasks.matching import score_pairs

THREADS, IMAGE_SIZE, PADDED = 2, 384, 35
NUM_IMAGES, NUM_TEXTS, K_TEST, BATCH = 64, 320, 32, 32
CAPTIONS = (
    "a man riding a wave on top of a surfboard",
    "two dogs are playing with a red ball in the snow",
    "a kitchen with a stove a sink and a wooden table next to a window",
    "people walk along a busy street in the rain",
    "a close up of a plate of food",
    "a little girl in a yellow dress is sitting on a bench and eating an ice cream cone",
)
"""Of 7 to 19 words, as COCO's mostly are."""


class Split:
    """Batches of pictures of noise, and texts."""

    def __init__(self, num_images: int, num_texts: int) -> None:
        self.text = [f"{CAPTIONS[i % len(CAPTIONS)]} {i}" for i in range(num_texts)]
        self._images = torch.randn(num_images, 3, IMAGE_SIZE, IMAGE_SIZE)

    @property
    def dataset(self) -> Split:
        return self

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self), BATCH):
            images = self._images[start : start + BATCH]
            yield {"image": images, "index": torch.arange(start, start + len(images))}


def pair_by_pair(model: Any, tokens: Tensor, texts: TextEmbeddings) -> Tensor:
    """One image ``(N, E)`` against K padded texts, with a copy of its tokens for each."""
    scores = []
    for start in range(0, len(texts), BATCH):
        ids, mask = (x[start : start + BATCH, :PADDED] for x in (texts.input_ids, texts.mask))
        copies = tokens[None].repeat(len(ids), 1, 1)
        states = model.fuse(model.bert, TokenBatch(ids, mask), model.bert.see(copies))
        scores.append(model.itm_head(states[:, 0])[:, 1])
    return torch.cat(scores)


def measure(job: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, peak memory in GB, and the result."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    start = time.perf_counter()
    with torch.no_grad():
        result = job()
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return seconds, peak * 1024 / 1e9, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]  # the docstring is above
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    block = {"vit_type": "base", "image_size": IMAGE_SIZE, "med": {"vocab_size": 30524}}
    model = registry.get_model_class("blip_image_text_matching").from_config(block).eval()
    one, split = Split(1, 256), Split(NUM_IMAGES, NUM_TEXTS)
    image = model.embed_images(next(iter(one))["image"]).tokens[0]
    texts = model.embed_texts(one.text)
    times: list[tuple[float, float]] = []
    for _ in range(arguments.repeats):
        ours, ours_gb, found = measure(lambda: model.match_pairs(image, texts))
        theirs, theirs_gb, expected = measure(lambda: pair_by_pair(model, image, texts))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
        times.append((ours, theirs))
    ours, theirs = (statistics.median(t) for t in zip(*times, strict=True))
    rows = [row("1 image x 256 texts", 256, (ours, ours_gb), (theirs, theirs_gb), "measured")]
    encode, _, _ = measure(lambda: score_pairs(model, split, RetrievalOptions(k_test=1)))
    options = RetrievalOptions(k_test=K_TEST)
    whole, whole_gb, _ = measure(lambda: score_pairs(model, split, options))
    pairs = NUM_IMAGES * K_TEST + NUM_TEXTS * K_TEST
    scaled = encode + pairs * theirs / 256
    split_name = f"{NUM_IMAGES} images x {NUM_TEXTS} texts, k_test {K_TEST}"
    rows.append(
        row(split_name, pairs, (whole, whole_gb), (scaled, theirs_gb), "encoding + pairs, scaled")
    )
    if arguments.csv:
        write_csv(arguments.csv, rows)


def row(
    job: str, pairs: int, ours: tuple[float, float], theirs: tuple[float, float], how: str
) -> dict[str, Any]:
    """A line of the CSV, which is also printed."""
    ratio = theirs[0] / ours[0]
    sys.stdout.write(
        f"{job}: {pairs / ours[0]:.1f} pairs/s ({ours[0]:.1f} s, {ours[1]:.1f} GB), pair by pair "
        f"{pairs / theirs[0]:.1f} ({theirs[0]:.1f} s, {theirs[1]:.1f} GB), ratio {ratio:.1f}\n"
    )
    return {
        "job": job,
        "pairs": pairs,
        "lavis_clone_s": round(ours[0], 2),
        "pair_by_pair_s": round(theirs[0], 2),
        "pair_by_pair_is": how,
        "ratio": round(ratio, 1),
        "lavis_clone_peak_gb": round(ours[1], 2),
        "pair_by_pair_peak_gb": round(theirs[1], 2),
        **circumstances(),
    }


if __name__ == "__main__":
    main()
