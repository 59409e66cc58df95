"""Time loading training pictures, and starting on an annotation of millions of rows.

    python benchmarks/loading.py [--sides 640 2000] [--workers 0 1 2] [--pictures 64] [--repeats 5]
        [--rows 5000000] [--csv benchmarks/results/loading.csv]

Pictures: JPEG files of clouds in colour, made on the fly, to 384 px training input. The plain way
decodes in full with PIL, crops and resizes with PIL, changes the picture with OpenCV (RandAugment's
operations by tables and ``warpAffine``), and uses torchvision's v1 transforms; the library's is
``blip_image_train``, and the same with ``fast_decode``. Both draw the same random numbers for the
crop and mirror, and the largest difference of a pixel (of 255, without RandAugment) is told. The
ways take turns; the median of each counts. Per core: samples a second by the CPU time of all
processes, beside those by the clock.

Annotation: a ``.jsonl`` of as many rows, read by the kind ``caption`` twice, each time by a new
process with 2 workers: the first start makes the Arrow file, the second finds it. Told are the
seconds from the start until the first batch, without importing torch, and the memory of all
processes together (proportional set size) beyond that of as many that have imported torch alone.

Needs OpenCV, which the library does not: pip install opencv-python-headless
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from report import circumstances, write_csv
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from tqdm import tqdm

from lavis_clone.processors.augment import FILL, MAX_LEVEL, MAX_TRANSLATE, RandomAugment
from lavis_clone.processors.image import MEAN, STD, BlipImageTrainProcessor

SIZE, LEVEL, BATCH = 384, 5, 16
SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
RAW = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "randaugment_ops": 0}
"""To compare pictures, in levels of 255."""


def write_pictures(folder: Path, *, side: int, count: int) -> list[Path]:
    """JPEG files with the larger side ``side``, 4 by 3, and the detail of photographs."""
    rng = np.random.default_rng(side)
    paths = []
    for number in tqdm(range(count), desc=f"writing {side} px", file=sys.stderr, leave=False):
        size = (side, side * 3 // 4)
        layers = np.zeros((size[1], size[0], 3), np.float32)
        for grain in (2, 8, 32, 128):
            noise = rng.integers(0, 256, (size[1] // grain + 2, size[0] // grain + 2, 3), np.uint8)
            layer = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
            layers += np.asarray(layer, np.float32) * grain**0.5
        layers = (layers - layers.mean()) / layers.std() * 50 + 128
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(layers.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def _plain_operations() -> dict[str, Callable[[Any, int], Any]]:
    """RandAugment's operations on arrays, by OpenCV; at level 5 three of them change nothing."""
    try:
        import cv2
    except ImportError:
        raise SystemExit("needs OpenCV: pip install opencv-python-headless") from None
    cv2.setNumThreads(1)
    strength = LEVEL / MAX_LEVEL

    def by_tables(pixels: Any, table_of: Callable[[Any], Any]) -> Any:
        channels = []
        for channel in cv2.split(pixels):
            counts = cv2.calcHist([channel], [0], None, [256], [0, 256]).ravel()
            channels.append(table_of(counts)[channel])
        return cv2.merge(channels)

    def contrast(counts: Any) -> Any:
        used = np.flatnonzero(counts)
        low, high = int(used[0]), int(used[-1])
        scale = 255.0 / max(high - low, 1)
        return ((np.arange(256) - low) * scale).clip(0, 255).astype(np.uint8)

    def equal(counts: Any) -> Any:
        used = counts[counts != 0]
        step = max((counts.sum() - used[-1]) // 255, 1)
        sums = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return ((sums + step // 2) // step).clip(0, 255).astype(np.uint8)

    def warped(matrix: Callable[[int, tuple[int, ...]], Any]) -> Callable[[Any, int], Any]:
        def apply(pixels: Any, sign: int) -> Any:
            size = (pixels.shape[1], pixels.shape[0])
            affine = np.asarray(matrix(sign, size), np.float32)
            return cv2.warpAffine(pixels, affine, size, borderValue=FILL, flags=cv2.INTER_LINEAR)

        return apply

    shear, shift = 0.3 * strength, MAX_TRANSLATE * strength
    middle = SIZE / 2
    return {
        "Identity": lambda pixels, _sign: pixels,
        "AutoContrast": lambda pixels, _sign: by_tables(pixels, contrast),
        "Brightness": lambda pixels, _sign: np.arange(256, dtype=np.uint8)[pixels],
        "Sharpness": lambda pixels, _sign: cv2.filter2D(pixels, -1, np.ones((1, 1), np.float32)),
        "Equalize": lambda pixels, _sign: by_tables(pixels, equal),
        "ShearX": warped(lambda sign, _size: [[1, sign * shear, 0], [0, 1, 0]]),
        "ShearY": warped(lambda sign, _size: [[1, 0, 0], [sign * shear, 1, 0]]),
        "TranslateX": warped(lambda sign, _size: [[1, 0, -sign * shift], [0, 1, 0]]),
        "TranslateY": warped(lambda sign, _size: [[1, 0, 0], [0, 1, -sign * shift]]),
        "Rotate": warped(
            lambda sign, _size: cv2.getRotationMatrix2D((middle, middle), sign * 30 * strength, 1)
        ),
    }


class PlainWay:
    """PIL, OpenCV and torchvision's v1 transforms, one after another."""

    def __init__(self, *, is_raw: bool = False) -> None:
        self._operations = {} if is_raw else _plain_operations()
        self._crop = transforms.RandomResizedCrop(
            SIZE, scale=SCALE, ratio=RATIO, interpolation=transforms.InterpolationMode.BICUBIC
        )
        self._flip = transforms.RandomHorizontalFlip()
        mean, std = (RAW["mean"], RAW["std"]) if is_raw else (MEAN, STD)
        self._finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __call__(self, path: Path) -> torch.Tensor:
        with Image.open(path) as file:
            picture = self._flip(self._crop(file.convert("RGB")))
        if not self._operations:
            return self._finish(picture)
        pixels = np.array(picture)
        for index in torch.randint(len(self._operations), (2,)).tolist():
            chance, sign = torch.rand(2).tolist()
            if chance <= RandomAugment.p:
                operation = list(self._operations.values())[index]
                pixels = operation(pixels, 1 if sign < 0.5 else -1)
        return self._finish(Image.fromarray(pixels))


class Pictures(Dataset[torch.Tensor]):
    def __init__(self, paths: list[Path], way: Callable[[Path], torch.Tensor]) -> None:
        self.paths, self.way = paths, way

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        torch.manual_seed(index)
        return self.way(self.paths[index])


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(dataset: Pictures, num_workers: int) -> tuple[float, float]:
    """Seconds by the clock and by the CPUs for going through it once."""
    start, cpu = time.perf_counter(), _cpu_seconds()
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=num_workers)
    count = sum(len(batch) for batch in loader)
    del loader
    assert count == len(dataset)
    return time.perf_counter() - start, _cpu_seconds() - cpu


def picture_rows(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each size, number of workers and way."""
    for side in arguments.sides:
        place = folder / str(side)
        place.mkdir()
        paths = write_pictures(place, side=side, count=arguments.pictures)
        apart = differences(paths[:4])
        ways: dict[str, Callable[[Path], torch.Tensor]] = {
            "plain": PlainWay(),
            "lavis_clone": BlipImageTrainProcessor(),
            "lavis_clone, fast_decode": BlipImageTrainProcessor(fast_decode=True),
        }
        for num_workers in arguments.workers:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for way in ways.values():
                way(paths[0])  # warm up
            for _ in tqdm(
                range(arguments.repeats), desc=f"{side} px", file=sys.stderr, leave=False
            ):
                for name, way in ways.items():
                    found[name].append(timed(Pictures(paths, way), num_workers))
            medians = {
                n: [statistics.median(t) for t in zip(*f, strict=True)] for n, f in found.items()
            }
            for name, (clock, cpu) in medians.items():
                yield {
                    "what": "pictures",
                    "way": name,
                    "side": side,
                    "workers": num_workers,
                    "samples_per_s": round(len(paths) / clock, 1),
                    "samples_per_core_s": round(len(paths) / cpu, 1),
                    "ratio": round(medians["plain"][0] / clock, 2),
                    "ratio_per_core": round(medians["plain"][1] / cpu, 2),
                    **apart[name],
                }


def differences(paths: list[Path]) -> dict[str, dict[str, float]]:
    """How far pictures are from the plain way's, in levels of 255, without RandAugment."""
    found = {}
    for name, way in {
        "plain": PlainWay(is_raw=True),
        "lavis_clone": BlipImageTrainProcessor(**RAW),
        "lavis_clone, fast_decode": BlipImageTrainProcessor(**RAW, fast_decode=True),
    }.items():
        whole, plain = (Pictures(paths, each) for each in (way, PlainWay(is_raw=True)))
        apart = torch.stack([(whole[i] - plain[i]).abs() for i in range(len(paths))])
        found[name] = {
            "largest_difference": round(float(apart.max()), 2),
            "mean_difference": round(float(apart.mean()), 3),
        }
    return found


# --- the annotation -----------------------------------------------------------------------------


def start_row(path: Path, *, rows: int, start: str) -> dict[str, Any]:
    """Have a new process read the annotation and load a batch."""
    command = [sys.executable, __file__, "--start-on", str(path)]
    out = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    found = json.loads(out.stdout.splitlines()[-1])
    return {"what": "annotation", "way": start, "rows": rows, **found}


def start_on(path: Path) -> None:
    """In a process of its own: read, load a batch with 2 workers, and tell what it took."""
    bare = [_memory(pid) for pid in _processes(_Idle())]
    began = time.perf_counter()
    from lavis_clone.datasets.kinds.caption import CaptionDataset
    from lavis_clone.datasets.loaders import build_loader

    dataset = CaptionDataset(BlipImageTrainProcessor(), vis_root=path.parent, ann_paths=[path])
    loader = build_loader(dataset, batch_size=8, is_train=True, num_workers=2)
    batch = next(iter(loader))
    seconds = time.perf_counter() - began
    assert batch["image"].shape == (8, 3, SIZE, SIZE)
    memory = [_memory(pid) for pid in _all_processes()]
    told = {
        "first_batch_s": round(seconds, 2),
        "megabytes": round(sum(memory) - sum(bare)),
        "processes": len(memory),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the workers end with it


class _Idle(Dataset[int]):
    """What workers that do nothing are made of."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return index


def _processes(dataset: Dataset[int]) -> Iterator[int]:
    """This process and 2 workers that have imported torch and do nothing."""
    loader = DataLoader(dataset, num_workers=2, batch_size=1, persistent_workers=True)
    for _ in loader:
        pass
    yield from _all_processes()


def _all_processes() -> list[int]:
    task = Path(f"/proc/{os.getpid()}/task")
    children = [(each / "children").read_text().split() for each in task.iterdir()]
    return [os.getpid(), *(int(pid) for found in children for pid in found)]


def _memory(pid: int) -> float:
    """MB that a process has, its part of what it shares with others included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def write_annotation(folder: Path, rows: int) -> Path:
    """A table of as many captions; the pictures that it names are all one."""
    Image.new("RGB", (640, 480), "red").save(folder / "a.jpg")
    path = folder / "captions.jsonl"
    with path.open("w") as file:
        for number in tqdm(range(rows), desc="writing rows", file=sys.stderr, leave=False):
            row = {"image": "a.jpg", "caption": f"a caption of number {number}", "image_id": number}
            file.write(json.dumps(row) + "\n")
    return path


def annotation_rows(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for the first start, and one for the second."""
    os.environ["LAVIS_CLONE_CACHE"] = str(folder / "cache")
    path = write_annotation(folder, arguments.rows)
    for start in ("first start", "second start"):
        yield start_row(path, rows=arguments.rows, start=start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="*", default=[640, 2000])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=5_000_000, help="0 for no annotation")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--start-on", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.start_on:
        start_on(arguments.start_on)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for make in (picture_rows, annotation_rows if arguments.rows else lambda *_: ()):
            for row in make(Path(folder), arguments):
                rows.append(row)
                sys.stdout.write(", ".join(f"{k} {v}" for k, v in row.items()) + "\n")
    if arguments.csv:
        columns = dict.fromkeys(key for row in rows for key in row)
        told = circumstances()
        write_csv(arguments.csv, [{k: row.get(k, "") for k in columns} | told for row in rows])


if __name__ == "__main__":
    main()
