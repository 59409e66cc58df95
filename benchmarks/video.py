"""Time reading a video and making a model's tensor of it: clips a second, by decord and by PyAV.

    python benchmarks/video.py [--seconds 30] [--height 720] [--frames 8] [--repeats 20]
        [--csv benchmarks/results/video.csv]

The file is H.264 as x264's ``medium`` preset makes it (B-frames, a key frame every 250 frames at
most), of noise that moves, so that every frame has something to decode. Ways: ``decord`` and
``pyav`` through ``load_video``, which goes to key frames, and ``pyav, all frames``, which decodes
the whole file and keeps what it wants. All take turns; the median of each counts. The processor is
``alpro_video_eval`` at 224 pixels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from report import circumstances, write_csv
from tqdm import tqdm

from lavis_clone.processors.frames import Size, Timeline, has_decord, read_with_pyav, scan
from lavis_clone.processors.video import (
    AlproVideoEvalProcessor,
    Backend,
    load_video,
    sample_frames,
)

IMAGE_SIZE, RATE, THREADS = 224, 25, 2


def write_file(path: Path, *, seconds: float, height: int) -> None:
    """A video of blurred noise that drifts, 16 by 9."""
    width = height * 16 // 9 // 2 * 2
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8 + 64, 3), np.uint8)
    texture = np.kron(noise, np.ones((8, 8, 1), np.uint8))  # wider than a frame
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in tqdm(range(round(seconds * RATE)), desc="writing", file=sys.stderr):
            shift = 3 * number % (texture.shape[1] - width)
            picture = np.ascontiguousarray(texture[:height, shift : shift + width])
            frame = np.zeros((height, width, 3), np.uint8)
            frame[: len(picture)] = picture
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))


def ways(path: Path, num_frames: int) -> dict[str, Callable[[], torch.Tensor]]:
    """What is timed, by name; each gives ``(3, T, S, S)`` float32."""
    processor = AlproVideoEvalProcessor(IMAGE_SIZE, n_frms=num_frames)
    size = (IMAGE_SIZE, IMAGE_SIZE)

    def by(backend: Backend) -> torch.Tensor:
        return processor.transform(load_video(path, num_frames, *size, backend=backend))

    def all_frames() -> torch.Tensor:
        count = scan(path).count
        counted = Timeline(count, None, (), decord_agrees=False)
        found = read_with_pyav(path, counted, sample_frames(count, num_frames), Size(*size))
        return processor.transform(torch.from_numpy(found).permute(3, 0, 1, 2))

    decord = {"decord": lambda: by("decord")} if has_decord() else {}
    return {**decord, "pyav": lambda: by("pyav"), "pyav, all frames": all_frames}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_file(path, seconds=arguments.seconds, height=arguments.height)
        timed = ways(path, arguments.frames)
        clips = [way() for way in timed.values()]  # warm up
        apart = max((clip - clips[0]).abs().max().item() for clip in clips)
        times: dict[str, list[float]] = {name: [] for name in timed}
        for _ in tqdm(range(arguments.repeats), desc="reading", file=sys.stderr):
            for name, way in timed.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
        key_frames, megabytes = len(scan(path).keys), path.stat().st_size / 2**20
    rows = []
    for name, found in times.items():
        median = statistics.median(found)
        rows.append(
            {
                "way": name,
                "clips_per_s": round(1 / median, 2),
                "ms_per_clip": round(1000 * median, 1),
                "frames": arguments.frames,
                "video_s": arguments.seconds,
                "height": arguments.height,
                "key_frames": key_frames,
                "megabytes": round(megabytes, 1),
                "largest_difference": round(apart, 4),
                "repeats": arguments.repeats,
                **circumstances(),
            }
        )
        sys.stdout.write(f"{name}: {1 / median:.2f} clips/s ({1000 * median:.0f} ms)\n")
    if arguments.csv:
        write_csv(arguments.csv, rows)


if __name__ == "__main__":
    main()
