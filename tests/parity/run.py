"""Runs reference cases of LAVIS 1.0.2 through the ordinary public path.

    python -m tests.parity.run FOLDER

prints a line per run: ``ok``, ``FAILED`` with the first difference, ``skipped`` for what depends
on a random stream, or ``not yet`` for a model that the library does not have. Exits 1 on a failure.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import RetrievalOptions
from lavis_clone.models.heads.gradcam import compute_gradcam
from lavis_clone.processors import load_processor
from lavis_clone.tasks.matching import score_pairs
from tests.parity import synthetic

ABSOLUTE, RELATIVE = 1e-4, 1e-3

SEED = 1234
"""Of torch, before each run: what the sampled texts were drawn with."""

SHORT_NAMES = {"blip_itm": "blip_image_text_matching"}
"""Of cases whose name does not start with the model's."""

DEPENDS_ON_RANDOM_STREAM = {
    ("blip_caption", "nucleus"): "draws from torch's random stream, which need not be the same",
}

ZERO_SHOT = (["cat", "fire truck"], ["a photo of a {}.", "a drawing of the {}."])
"""Classes and templates of the runs ``zero_shot_classifier``, which do not state them."""

DRAWN_FIELDS = {"albef_pretrain": ("loss", "loss_mlm")}
"""Outputs that depend on which tokens are masked, and those are drawn from torch's stream."""


@dataclass(frozen=True)
class Result:
    """What became of one run of one case."""

    case: str
    run: str
    status: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.status:8} {self.case}/{self.run}" + (
            f": {self.detail}" if self.detail else ""
        )


def run_folder(folder: Path) -> Iterator[Result]:
    """Run every case in ``folder``."""
    for path in sorted(folder.glob("*.json")):
        case, expected = synthetic.load(folder, path.stem)
        runner = run_processors if "inputs" not in case else run_model
        yield from runner(case, expected)


def run_model(case: dict[str, Any], expected: Mapping[str, Tensor]) -> Iterator[Result]:
    """Build the case's model, load its checkpoint from a file, and compare each run."""
    name = model_name(case["case"])
    if name is None:
        for run in case["inputs"]:
            yield Result(case["case"], run, "not yet")
        return
    model = registry.get_model_class(name).from_config({**case["config"], "arch": name})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        torch.save({"model": synthetic.state_dict(case)}, path)
        model.load_checkpoint(path)
    model.eval()
    for run, given in case["inputs"].items():
        torch.manual_seed(SEED)
        found = call(model, run, synthetic.samples(case, run), given["kwargs"])
        yield verdict(case, run, found, expected, name)
        after = f"after_{run}_buffers"
        if after in case["outputs"]:
            yield verdict(case, after, dict(model.named_buffers()), expected, name)


def verdict(
    case: Mapping[str, Any],
    run: str,
    found: dict[str, Any],
    expected: Mapping[str, Tensor],
    name: str,
) -> Result:
    """Compare a run's outputs with what the case expects."""
    drawn = tuple(f"{run}.{field}" for field in DRAWN_FIELDS.get(name, ()))
    fixed = {key: value for key, value in expected.items() if key not in drawn}
    problem = first_difference(run, found, case["outputs"].get(run, {}), fixed)
    reason = random_reason(name, run)
    if problem and reason:
        return Result(case["case"], run, "skipped", reason)
    return Result(case["case"], run, "FAILED" if problem else "ok", problem or "")


def model_name(case: str) -> str | None:
    """The longest registered name that the case's name starts with."""
    names = [name for name in registry.list_models() if case.startswith(name)]
    short = [name for key, name in SHORT_NAMES.items() if case.startswith(key)]
    return max(names, key=len, default=short[0] if short else None)


def random_reason(name: str, run: str) -> str | None:
    for (model, part), reason in DEPENDS_ON_RANDOM_STREAM.items():
        if model == name and part in run:
            return reason
    return None


def call(
    model: Any, run: str, samples: dict[str, Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Call the method that a run stands for, and name what it returns as the case does."""
    if run.startswith("forward") or "match_head" in kwargs:
        with torch.no_grad():
            return {"": model(samples, **kwargs)}
    if run.startswith("predict"):
        return {"": model.predict(samples)}
    if run == "tokens":
        return {"": model.tokenize(samples["text_input"]).input_ids}
    if run == "zero_shot_classifier":
        return {"": model.zero_shot_classifier(*ZERO_SHOT)}
    if "mode" in kwargs or run.startswith("extract_features"):
        return {"": model.extract_features(samples, **kwargs)}
    if run.startswith("video_features"):
        return {"": model.extract_features(samples, mode="image").image_embeds}
    if "k_test" in kwargs:
        return score_matrices(model, samples, **kwargs)
    if "block_num" in kwargs:
        texts = samples["text_input"]
        tokens = model.tokenize(texts)
        return {"": compute_gradcam(model, samples["image"], texts, tokens, **kwargs)}
    if hasattr(model, "predict_answers"):
        return answers(model, samples, kwargs)
    output = model.generate_with_confidence(samples, **kwargs)
    torch.manual_seed(SEED)
    assert model.generate(samples, **kwargs) == output.text
    return {"captions": output.text, "token_ids": output.token_ids}


def answers(model: Any, samples: dict[str, Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Written answers are named captions in the cases."""
    output = model.predict_answers_with_confidence(samples, **kwargs)
    assert model.predict_answers(samples, **kwargs) == output.text
    return {"answers": output.text, "captions": output.text, "token_ids": output.token_ids}


def score_matrices(model: Any, samples: dict[str, Any], *, k_test: int) -> dict[str, Any]:
    """Every image, or video, against every text, by the retrieval task."""
    seen = samples["video" if "video" in samples else "image"]
    data = RetrievalData(seen, samples["text_input"])
    loader: Any = DataLoader(data, batch_size=3)  # type: ignore[arg-type]  # has what a loader needs
    scores = score_pairs(model, loader, RetrievalOptions(k_test=k_test))
    return {"i2t": scores.i2t, "t2i": scores.t2i, "v2t": scores.i2t, "t2v": scores.t2i}


@dataclass(frozen=True)
class RetrievalData:
    """Images or videos, and the texts to be compared with each of them."""

    image: Tensor
    text: list[str]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key = "video" if self.image.ndim == 5 else "image"
        return {key: self.image[index], "index": index}


def first_difference(
    run: str, found: dict[str, Any], stated: Mapping[str, Any], expected: Mapping[str, Tensor]
) -> str | None:
    """Compare with what the JSON states and with the tensors; None when all is equal."""
    checked = 0
    for key, value in stated.items():
        if isinstance(value, Mapping) and "abs_sum" in value:
            problem = sums_differ(lookup(found, key, run), value)
        else:
            problem = values_differ(lookup(found, key, run), value)
        if problem:
            return f"{key}: {problem}"
        checked += 1
    for key, tensor in expected.items():
        if key == run or key.startswith(f"{run}."):
            value = lookup(found, key, run)
            shape = stated.get(key, {}).get("shape", list(tensor.shape))
            problem = tensors_differ(value, tensor, shape)
            if problem:
                return f"{key}: {problem}"
            checked += 1
    return None if checked else "the case states nothing about this run"


def lookup(found: dict[str, Any], key: str, run: str) -> Any:
    """``forward.intermediate_output.image_embeds`` in nested outputs; ``gradcam.0.1`` in lists."""
    value: Any = found.get("", found)
    for part in filter(None, key.removeprefix(run).split(".")):
        value = value[int(part) if isinstance(value, list | tuple) else part]
    return value


def sums_differ(value: Tensor, stated: Mapping[str, Any]) -> str | None:
    if list(value.shape) != stated["shape"]:
        return f"shape {list(value.shape)}, expected {stated['shape']}"
    for name, number in (("sum", value.double().sum()), ("abs_sum", value.double().abs().sum())):
        slack = 1e-5 * abs(stated["abs_sum"])
        if abs(number.item() - stated[name]) > slack:
            return f"{name} {number.item()}, expected {stated[name]}"
    return None


def values_differ(value: Any, stated: Any) -> str | None:
    return None if value == stated else f"{value!r}, expected {stated!r}"


def tensors_differ(value: Any, expected: Tensor, shape: list[int]) -> str | None:
    value = torch.as_tensor(value)
    if list(value.shape) != shape:
        return f"shape {list(value.shape)}, expected {shape}"
    value = value.flatten()[: expected.numel()].view_as(expected)
    if not expected.is_floating_point():
        return None if value.equal(expected) else f"{value.tolist()}, expected {expected.tolist()}"
    if torch.allclose(value.float(), expected, rtol=RELATIVE, atol=ABSOLUTE):
        return None
    return f"largest difference {(value - expected).abs().max().item():.2e}"


def run_processors(case: dict[str, Any], expected: Mapping[str, Tensor]) -> Iterator[Result]:
    """Compare the text processors' strings and the image processors' pixels."""
    outputs = case["outputs"]
    for name, texts in outputs.items():
        if name != "text":
            yield text_result(case["case"], name, outputs["text"], texts)
    for name, tensor in expected.items():
        if name == "picture":
            continue
        if "_train_" in name:
            yield Result(case["case"], name, "skipped", "draws from random streams")
            continue
        processor, size = name.rsplit("_", 1)
        picture = Image.fromarray(np.asarray(expected["picture"]))
        found = load_processor(processor, {"image_size": int(size)})(picture)
        problem = tensors_differ(found, tensor, list(tensor.shape))
        yield Result(case["case"], name, "FAILED" if problem else "ok", problem or "")


def text_result(case: str, name: str, given: list[str], texts: list[str]) -> Result:
    """``blip_caption`` runs with the prompt that its results show, ``..._max5`` with five words."""
    limit = re.search(r"_max(\d+)$", name)
    processor = name[: limit.start()] if limit else name
    options: dict[str, Any] = {"max_words": int(limit[1])} if limit else {}
    if processor == "blip_caption" and not limit:
        options["prompt"] = "a picture of "
    function = load_processor(processor, options)
    problem = values_differ([function(text) for text in given], texts)
    return Result(case, name, "FAILED" if problem else "ok", problem or "")


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.stderr.write("usage: python -m tests.parity.run FOLDER\n")
        return 2
    results = []
    for result in run_folder(Path(sys.argv[1])):
        sys.stdout.write(f"{result}\n")
        results.append(result)
    counts = {
        s: sum(r.status == s for r in results) for s in ("ok", "FAILED", "skipped", "not yet")
    }
    sys.stdout.write(", ".join(f"{n} {status}" for status, n in counts.items()) + "\n")
    return 1 if counts["FAILED"] or not results else 0


if __name__ == "__main__":
    sys.exit(main())
