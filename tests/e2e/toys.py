"""A captioner, pictures and recipes so small that a user's day takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from typer.testing import CliRunner

from lavis_clone.cli import app
from tests.models import tiny

ROOT = Path(__file__).parents[2]
COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "grey": (120,) * 3}
THINGS = ("cat", "dog", "bird", "house")
ALONE = {"LAVIS_CLONE_OFFLINE": "1", "PATH": str(Path(sys.executable).parent)}
SIZES = {"train": 16, "val": 6, "test": 6}

EVAL = {"name": "blip_image_eval", "image_size": tiny.IMAGE_SIZE}
VIS = {"train": {**EVAL, "name": "blip_image_train"}, "eval": EVAL}
TEXT = {"train": {"name": "blip_caption"}, "eval": {"name": "blip_caption"}}


def write_pictures(folder: Path) -> Path:
    """Half-coloured squares with captions as ``train.json``, ``val.json`` and ``test.json``."""
    (folder / "images").mkdir(parents=True)
    for split, count in SIZES.items():
        records = []
        for index in range(count):
            color, thing = list(COLORS)[index % 4], THINGS[index // 4 % 4]
            picture = Image.new("RGB", (24, 20), "white")
            picture.paste(COLORS[color], (2 * (index // 4), 0, 12 + 2 * (index // 4), 20))
            picture.save(folder / "images" / f"{split}_{index:02}.png")
            caption = f"the {color} {thing}"
            records.append(
                {
                    "image": f"{split}_{index:02}.png",
                    "caption": caption if split == "train" else [caption, f"a {color} {thing}"],
                    "image_id": f"{split}_{index}",
                    "color": color,
                }
            )
        (folder / f"{split}.json").write_text(json.dumps(records))
    return folder


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """A captioner with random weights and its processors, as ``save_pretrained`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = tiny.write_vocabulary(folder)
    model = tiny.caption_model(vocabulary, seed=seed, prompt="")
    return model.save_pretrained(folder, preprocess={"vis_processor": VIS, "text_processor": TEXT})


def recipe(data: Path, vocabulary: Path, output: Path, **run: Any) -> dict[str, Any]:
    """What a run's YAML file says: two epochs on the pictures of ``write_pictures``."""
    annotations = {split: {"storage": str(data / f"{split}.json")} for split in SIZES}
    return {
        "model": tiny.caption_block(vocabulary, prompt="") | {"arch": "blip_caption"},
        "datasets": {
            "emoji_caption": {
                "vis_processor": VIS,
                "text_processor": TEXT,
                "build_info": {
                    "annotations": annotations,
                    "images": {"storage": str(data / "images")},
                },
            }
        },
        "run": {
            "task": "captioning",
            "lr_sched": "linear_warmup_cosine_lr",
            "init_lr": 2e-2,
            "min_lr": 0,
            "weight_decay": 0.05,
            "max_epoch": 2,
            "batch_size_train": 4,
            "batch_size_eval": 4,
            "num_workers": 0,
            "num_beams": 2,
            "max_len": 8,
            "min_len": 1,
            "train_splits": ["train"],
            "valid_splits": ["val"],
            "test_splits": ["test"],
            "output_dir": str(output),
            "device": "cpu",
            **run,
        },
    }


def write_recipe(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def the_job(output: Path) -> Path:
    """The only job in ``output``."""
    (job,) = output.iterdir()
    return job


def log_entries(job: Path) -> list[dict[str, Any]]:
    """The JSON lines of a job's log.txt, below the config."""
    text = (job / "log.txt").read_text()
    _, end = json.JSONDecoder().raw_decode(text)
    return [json.loads(line) for line in text[end:].splitlines() if line]


def invoke(*arguments: Any) -> Any:
    """Call ``lavis-clone`` in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: Any) -> list[str]:
    """The error lines of a command that must end with status 2 and no traceback."""
    done = invoke(*arguments)
    assert done.exit_code == 2, (done.stdout, done.stderr, done.exception)
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def start(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with ``command`` in another directory, on one thread."""
    return subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=cwd,
        env={**os.environ, **ALONE, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def json_head(path: Path) -> Any:
    """The config at the head of a log.txt."""
    return json.JSONDecoder().raw_decode(path.read_text())[0]
