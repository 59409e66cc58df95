"""Time beam-search captioning against transformers' BLIP, in one process.

    python benchmarks/caption.py [--batch 1 8] [--repeats 5] [--csv benchmarks/results/caption.csv]

Both models have base size (ViT-B/16 at 384 px, 12 decoder layers) and random weights, in fp32 on
two threads, and write exactly 20 new tokens behind the same prompt length with 3 beams. The two
take turns, so that a slow moment of the machine hits both; the median of each counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from report import circumstances, write_csv
from tqdm import tqdm

from lavis_clone.models import BlipCaption

NEW_TOKENS, NUM_BEAMS, THREADS, IMAGE_SIZE = 20, 3, 2, 384
PROMPT = "a picture of "


def ours() -> Callable[[torch.Tensor], object]:
    block = {"vit_type": "base", "image_size": IMAGE_SIZE, "prompt": PROMPT}
    model = BlipCaption.from_config({**block, "med": {"vocab_size": 30524}}).eval()
    length = model.prompt_length + NEW_TOKENS

    def caption(images: torch.Tensor) -> object:
        return model.generate(
            {"image": images}, num_beams=NUM_BEAMS, max_length=length, min_length=length
        )

    return caption


def theirs(prompt_length: int) -> Callable[[torch.Tensor], object]:
    config = transformers.BlipConfig(
        vision_config={"image_size": IMAGE_SIZE, "initializer_range": 0.02},
        text_config={"num_attention_heads": 12, "vocab_size": 30524, "encoder_hidden_size": 768},
    )
    model = transformers.BlipForConditionalGeneration(config).eval()
    prompt = torch.full((1, prompt_length + 1), 2000)  # the last id, [SEP], is cut off inside
    prompt[0, 0] = 30522

    def caption(images: torch.Tensor) -> object:
        return model.generate(
            pixel_values=images,
            input_ids=prompt.repeat(len(images), 1),
            num_beams=NUM_BEAMS,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
        )

    return caption


def seconds(function: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        function(images)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]  # the docstring is above
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    mine = ours()
    other = theirs(prompt_length=4)
    rows = []
    for batch in arguments.batch:
        images = torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE)
        seconds(mine, images), seconds(other, images)  # warm up
        times: list[tuple[float, float]] = []
        for _ in tqdm(range(arguments.repeats), desc=f"batch {batch}", file=sys.stderr):
            times.append((seconds(mine, images), seconds(other, images)))
        ours_s, theirs_s = (statistics.median(t) for t in zip(*times, strict=True))
        rows.append(
            {
                "batch": batch,
                "lavis_clone_s": round(ours_s, 3),
                "transformers_s": round(theirs_s, 3),
                "ratio": round(theirs_s / ours_s, 2),
                "repeats": arguments.repeats,
                "transformers": transformers.__version__,
                **circumstances(),
            }
        )
        sys.stdout.write(
            f"batch {batch}: {ours_s:.2f} s, transformers {theirs_s:.2f} s, "
            f"ratio {theirs_s / ours_s:.2f}\n"
        )
    if arguments.csv:
        write_csv(arguments.csv, rows)


if __name__ == "__main__":
    main()
