"""Keep the scores of a job: writes what its evaluate.txt says to results.csv, beside this file.

    python projects/emoji/results.py WEIGHTS DRAWINGS JOB

e.g. ``blip_vqa/tiny_emoji "full set" output/emoji_vqa/20261125120000``. Rows of the same weights,
drawings and split are replaced.
"""

from __future__ import annotations

import csv
import json
import platform
import sys
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = ("weights", "drawings", "split", "metric", "value", "torch", "threads", "machine")


def main() -> None:
    weights, drawings, job = sys.argv[1:]
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    circumstances = (torch.__version__, str(torch.get_num_threads()), machine)
    new = [
        (weights, drawings, split, metric, str(round(value, 4)), *circumstances)
        for line in (Path(job) / "evaluate.txt").read_text().splitlines()
        for split, scores in json.loads(line).items()
        for metric, value in scores.items()
    ]
    with RESULTS.open(newline="") as file:
        kept = [tuple(row) for row in list(csv.reader(file))[1:]]
    replaced = {row[:3] for row in new}
    rows = sorted([*(row for row in kept if row[:3] not in replaced), *new])
    with RESULTS.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
