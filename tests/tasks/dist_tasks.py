"""What test_processes.py runs in each of several processes: every task, on tiny models."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavis_clone.common import dist
from lavis_clone.common.context import RunContext
from lavis_clone.common.schema import read_run
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.skip import SampleError
from lavis_clone.tasks import setup_task
from tests.contract.test_models import ANSWERS, build, dialogue_samples
from tests.models import tiny

COUNT, BAD = 7, 4
WORDS = ("cat", "dog", "bird", "house", "picture", "red cat", "blue dog")


@dataclass(frozen=True)
class Case:
    """A task, the model that it asks, and what a sample has."""

    task: str
    model: str
    sample: Callable[[int], dict[str, Any]]
    options: Mapping[str, Any]
    numbers: tuple[str, ...] = ("confidence",)
    """Fields that are rounded numbers."""


class Samples:
    """A data set of seven samples, of which one cannot be read."""

    name, split = "toys", "test"
    answer_list = ANSWERS

    def __init__(self, case: Case) -> None:
        self.case = case
        self.image = [f"{i}.png" for i in range(COUNT)]
        self.text = [f"the {word}" for word in WORDS] + ["a house", "a bird"]
        self.txt2img = {i: i % COUNT for i in range(len(self.text))}
        self.img2txt = {
            i: [t for t, image in self.txt2img.items() if image == i] for i in range(COUNT)
        }

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == BAD:
            raise SampleError(f"{self.image[index]}: damaged")
        return self.case.sample(index)

    def collater(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        columns = {name: [sample[name] for sample in samples] for name in samples[0]}
        return {
            name: torch.stack(values) if isinstance(values[0], Tensor) else values
            for name, values in columns.items()
        }


def picture(index: int) -> dict[str, Any]:
    image = tiny.images(1, seed=index)[0]
    return {"image": image, "image_id": f"p{index}", "instance_id": index, "index": index}


def question(index: int) -> dict[str, Any]:
    asked = {"question_id": index, "text_input": f"the {WORDS[index]}", "answer": ANSWERS[index]}
    choices = {"choices": ANSWERS[:3], "correct_choice_idx": 1, "direct_answers": ANSWERS[:2]}
    return picture(index) | asked | choices


def pair(index: int) -> dict[str, Any]:
    first, second = tiny.images(1, seed=index)[0], tiny.images(1, seed=9 + index)[0]
    text = {"text_input": f"the {WORDS[index]}", "label": torch.tensor(index % 3)}
    return {"image0": first, "image1": second, "instance_id": index} | text


def turn(index: int) -> dict[str, Any]:
    found = {name: value[index % 3] for name, value in dialogue_samples(3).items()}
    return found | {"instance_id": index, "image_id": f"v{index}"}


WRITES = {"num_beams": 2, "max_len": 8, "min_len": 1}
ANSWERED = {"num_ans_candidates": 4}
CASES = (
    Case("captioning", "blip_caption", picture, WRITES),
    Case("vqa", "blip_vqa", question, ANSWERED),
    Case("vqa", "blip_vqa", question, WRITES | {"inference_method": "generate"}),
    Case("aok_vqa", "albef_vqa", question, ANSWERED, ("confidence", "multiple_choice_confidence")),
    Case("gqa", "albef_vqa", question, ANSWERED),
    Case("multimodal_classification", "blip_nlvr", pair, {}),
    Case("image_text_pretrain", "blip_pretrain", picture, {}),
    Case("dialogue", "gpt_dialogue", turn, WRITES, ("confidence", "loss")),
    Case("retrieval", "blip_retrieval", picture, {"k_test": 3}, ("confidence", "score")),
)


def every_task_has_the_rows_of_one_process() -> None:
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = tiny.write_vocabulary(Path(folder))
        for case in CASES:
            model = build(case.model, vocabulary).eval()
            for size in (1, 4):
                found, scores = rows_of(case, model, size, shared=True)
                wanted, right = rows_of(case, model, 3, shared=False)
                if dist.rank():
                    assert found == []
                    continue
                assert bool(wanted) == (case.task != "image_text_pretrain")
                assert_close(found, wanted, case.numbers)
                assert scores == right or all(abs(scores[n] - right[n]) < 1e-5 for n in right)


@torch.no_grad()
def rows_of(
    case: Case, model: Any, batch_size: int, *, shared: bool
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """All rows and their scores; without ``shared`` every process does all the work."""
    given = {"batch_size_train": 1, "batch_size_eval": batch_size, "num_workers": 0}
    run = read_run({"task": case.task, "test_splits": ["test"], **given, **case.options})
    task = setup_task(run)
    place = (dist.rank(), dist.world_size()) if shared else (0, 1)
    context = RunContext(Path("unused"), torch.device("cpu"), *place)
    data = Samples(case)
    loader = build_loader(data, batch_size=batch_size, is_train=False, context=context)
    rows = task.rows(model, loader) if shared else task.unique(task.evaluation(model, loader))
    keeps_score = case.task in ("retrieval", "gqa", "aok_vqa", "multimodal_classification")
    return rows, task.score(rows, data) if rows and keeps_score else {}


def assert_close(found: Any, wanted: Any, numbers: tuple[str, ...], name: str = "") -> None:
    """Equal, but for numbers, which were rounded to six digits."""
    if isinstance(wanted, list):
        assert len(found) == len(wanted), (name, found, wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other, numbers, name)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_close(found[key], wanted[key], numbers, key)
    elif name in numbers and wanted is not None:
        assert abs(found - wanted) < 5e-6, (name, found, wanted)
    else:
        assert found == wanted, (name, found, wanted)
