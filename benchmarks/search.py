"""Time an index of pictures: how fast it is made, and how fast it answers.

    python benchmarks/search.py data/emoji/images [--csv benchmarks/results/search.csv]

blip_feature_extractor/tiny_emoji on two threads, fp32; the folder is the emoji set's, 10,193
drawings of 128 px (projects/emoji/build.py). An answer is a text turned into a vector and compared
with all pictures; the median of 50 different ones counts, the first one left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import circumstances, write_csv

from lavis_clone.inference import Choice
from lavis_clone.search import PictureIndex, Query

THREADS = 2
NAME, TYPE = "blip_feature_extractor", "tiny_emoji"
WORDS = ("cat", "dog", "apple", "rocket", "house", "hand", "heart", "ship", "guitar", "snow")
KINDS = ("red", "smiling", "flying", "old", "small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="pictures")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    choice = Choice(NAME, TYPE, "cpu")
    model = choice.open()
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        index = PictureIndex(Path(place), choice)
        change = index.update([arguments.folder], model)
        seconds = []
        for text in [f"{kind} {word}" for kind in KINDS for word in WORDS]:
            begin = time.perf_counter()
            index.search(Query([text]), model)
            seconds.append(time.perf_counter() - begin)
    row = {
        "pictures": len(index),
        "pictures_per_second": round(change.added / change.seconds, 1),
        "milliseconds_per_query": round(1000 * statistics.median(seconds[1:]), 2),
        "slowest_query": round(1000 * max(seconds[1:]), 2),
        **circumstances(),
    }
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in row.items()))
    if arguments.csv is not None:
        write_csv(arguments.csv, [row])


if __name__ == "__main__":
    main()
