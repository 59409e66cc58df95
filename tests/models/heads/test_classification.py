"""Classifiers of one image and of two: losses, momentum copies, answers and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lavis_clone.common.progress import Progress
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.models.heads.classification import ClassifierModel
from lavis_clone.models.outputs import ClassOutput
from lavis_clone.models.weights import WeightError
from tests.models import tiny

RAMPS = {"albef_classification": 1, "blip_classification": 1, "albef_nlvr": 2}
NAMES = (*RAMPS, "blip_nlvr")
TEXTS = ["a red cat", "the dog runs on and on", "blue birds", "a house"]


def model_of(name: str, vocabulary: Path, *, seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    block = tiny.block(name, num_classes=3, med=tiny.text_block(num_hidden_layers=3))(vocabulary)
    block |= {"merge_from": 1} if name == "blip_nlvr" else {}
    model = registry.get_model_class(name).from_config(block | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def samples(name: str, count: int, *, labels: Any = (0, 2, 1, 1)) -> dict[str, Any]:
    keys = ("image0", "image1") if name.endswith("nlvr") else ("image",)
    images = {key: tiny.images(count, seed=seed) for seed, key in enumerate(keys)}
    return {**images, "text_input": TEXTS[:count], "label": torch.tensor(labels[:count])}


def by_hand(model: Any, batch: dict[str, Any], row: int) -> Tensor:
    """The logits of one sample, without padding and without the other samples."""
    images = torch.cat([batch[key][row : row + 1] for key in model.IMAGES])
    bert, text = model.text_encoder, model.tokenize([batch["text_input"][row]])
    seen = bert.see(model.visual_encoder(images))
    first = model.fuse(bert, text, seen)[0, 0]
    hidden = F.relu(F.linear(first, model.cls_head[0].weight, model.cls_head[0].bias))
    return F.linear(hidden, model.cls_head[2].weight, model.cls_head[2].bias)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_head_s_of_the_first_token(name: str, vocabulary: Path) -> None:
    model, batch = model_of(name, vocabulary), samples(name, 3)
    with torch.no_grad():
        found = model.predict(batch)
        rows = [by_hand(model, batch, row) for row in range(3)]
    torch.testing.assert_close(found.predictions, torch.stack(rows))
    likeliest = torch.stack([row.exp().max() / row.exp().sum() for row in rows])
    torch.testing.assert_close(found.confidence, likeliest)
    assert found.targets.equal(batch["label"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 4])
def test_without_copies_the_loss_is_the_cross_entropy(
    name: str, count: int, vocabulary: Path
) -> None:
    model, batch = model_of(name, vocabulary, use_distill=False), samples(name, count)
    output = model(batch)
    chosen = output.logits.log_softmax(dim=1)[torch.arange(count), batch["label"]]
    torch.testing.assert_close(output.loss, -chosen.mean())
    assert not any(key.partition(".")[0].endswith("_m") for key in model.state_dict())
    assert {"logits_m", "intermediate_output"} & set(output.keys()) == {"intermediate_output"}
    assert "encoder_output_m" not in output.intermediate_output


@pytest.mark.parametrize("name", NAMES)
def test_predicting_needs_no_label_and_moves_no_copy(name: str, vocabulary: Path) -> None:
    model, batch = model_of(name, vocabulary, use_distill=True), samples(name, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = model.predict(batch).predictions
    for label in ({}, {"label": None}):
        unlabelled = {key: value for key, value in batch.items() if key != "label"} | label
        found = model.predict(unlabelled)
        assert found.targets is None
        assert "targets" not in found
        assert found.predictions.equal(expected)
        assert model(unlabelled, is_train=False).predictions.equal(expected)
    assert isinstance(model(batch, is_train=False), ClassOutput)
    assert model.predict(batch | {"label": [0, 2]}).targets.tolist() == [0, 2]
    for key, value in model.state_dict().items():
        assert value.equal(before[key]), key


@pytest.mark.parametrize(("name", "epochs"), RAMPS.items())
@pytest.mark.parametrize(("step", "done"), [(0, 0.0), (5, 0.5), (10, 1.0), (33, 3.3)])
def test_the_copies_opinion_counts_more_and_more(
    name: str, epochs: int, step: int, done: float, vocabulary: Path
) -> None:
    model, batch = model_of(name, vocabulary), samples(name, 3)
    told = Progress(step=step, steps_per_epoch=10, total_steps=40)
    written = {"epoch": step // 10, "iters": step % 10, "num_iters_per_epoch": 10}
    alpha = 0.4 * min(1.0, done / epochs)
    for progress, more in ((told, {}), (None, written)):
        output = copy.deepcopy(model)(batch | more, progress)
        logs = output.logits.log_softmax(dim=1)
        hard = -logs[torch.arange(3), batch["label"]].mean()
        soft = -(output.logits_m.softmax(dim=1) * logs).sum(dim=1).mean()
        torch.testing.assert_close(output.loss, (1 - alpha) * hard + alpha * soft)


@pytest.mark.parametrize("name", [*RAMPS, "blip_nlvr"])
def test_copies_follow_and_then_teach(name: str, vocabulary: Path) -> None:
    changes = {"copied_tower_teaches": True} if name == "albef_nlvr" else {}
    model = model_of(name, vocabulary, use_distill=True, momentum=0.75, **changes)
    batch, before = samples(name, 2), {k: v.clone() for k, v in model.state_dict().items()}
    output = model(batch)
    output.loss.backward()
    for key in ("visual_encoder_m.norm.weight", "cls_head_m.2.bias"):
        own = before[key.replace("_m.", ".")]
        torch.testing.assert_close(model.state_dict()[key], 0.75 * before[key] + 0.25 * own)
    taught = copy.deepcopy(model)  # the copies in the places of the parts
    for part in model.copied:
        setattr(taught, part, getattr(model, f"{part}_m"))
    torch.testing.assert_close(output.logits_m, taught.predict(batch).predictions)
    inner = output.intermediate_output
    assert inner.image_embeds_m.shape == inner.image_embeds.shape
    assert not output.logits_m.requires_grad
    assert all(p.grad is None for n, p in model.named_parameters() if "_m." in n)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str, vocabulary: Path) -> None:
    model, batch = model_of(name, vocabulary), samples(name, 2)
    longer = batch | {"text_input": [*TEXTS[:1], "a " * 20]}
    first, second = (model.predict(given).predictions[0] for given in (batch, longer))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused_in_one_line(name: str, vocabulary: Path) -> None:
    model, batch = model_of(name, vocabulary), samples(name, 2)
    key = model.IMAGES[-1]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"label": torch.tensor([0, 3])}, "label 3 is not in 0 to 2"),
        ({"label": [-1, 0]}, "label -1 is not in 0 to 2"),
        ({"label": [1]}, r"for each of the 2 samples, got torch.int64 of shape \(1,\)"),
        ({"label": 1}, r"for each of the 2 samples, got torch.int64 of shape \(\)"),
        ({"label": [[1], [0]]}, r"of shape \(2, 1\)"),
        ({"label": [0.0, 1.0]}, "got torch.float32"),
        ({"text_input": TEXTS[:3]}, "2 images but 3 texts"),
        ({"text_input": "a cat"}, "2 images but 1 texts"),
        ({key: tiny.images(2) * torch.nan}, "images hold NaN"),
    ]
    for change, message in wrong:
        for act in (model, model.predict):
            with pytest.raises(ValueError, match=message) as error:
                act(batch | change)
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"training needs samples\['label'\]"):
        model({k: v for k, v in batch.items() if k != "label"})
    with pytest.raises(ValueError, match=rf"needs samples\['{key}'\]"):
        model({k: v for k, v in batch.items() if k != key})


@pytest.mark.parametrize("name", ["albef_nlvr", "blip_nlvr"])
def test_a_second_image_of_another_number_or_size_is_refused(name: str, vocabulary: Path) -> None:
    model, batch = model_of(name, vocabulary), samples(name, 2)
    for image in (tiny.images(1), tiny.images(2, size=24)):
        with pytest.raises(ValueError, match="the images of a batch must have one shape, got "):
            model.predict(batch | {"image1": image})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "model.num_classes: required, but not given"),
        ({"num_classes": 1}, r"num_classes \(1\) must be at least 2"),
        ({"num_classes": 3, "alpha": 1.5}, r"alpha \(1.5\) must lie in \[0, 1\]"),
        ({"num_classes": 3, "nun_classes": 3}, "unknown key; did you mean 'num_classes'"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(
    block: dict[str, Any], message: str, vocabulary: Path
) -> None:
    given = tiny.block("blip_classification")(vocabulary) | block
    with pytest.raises(ConfigError, match=message):
        registry.get_model_class("blip_classification").from_config(given)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_copies_fits_a_model_without_and_the_other_way(
    name: str, vocabulary: Path, tmp_path: Path
) -> None:
    taught = model_of(name, vocabulary, use_distill=True)
    alone = model_of(name, vocabulary, seed=1, use_distill=False)
    torch.save({"model": taught.state_dict()}, tmp_path / "taught.pth")
    alone.load_checkpoint(tmp_path / "taught.pth")
    batch = samples(name, 2)
    assert alone.predict(batch).predictions.equal(taught.predict(batch).predictions)
    torch.save({"model": alone.state_dict()}, tmp_path / "alone.pth")
    again = model_of(name, vocabulary, seed=2, use_distill=True)
    again.load_checkpoint(tmp_path / "alone.pth")
    for key, value in alone.state_dict().items():
        part, _, rest = key.partition(".")
        assert again.state_dict()[f"{part}_m.{rest}"].equal(value), key


@pytest.mark.parametrize("name", NAMES)
def test_a_head_for_other_classes_is_learned_anew_from_a_start(
    name: str, vocabulary: Path, tmp_path: Path
) -> None:
    source = model_of(name, vocabulary, use_distill=True)
    torch.save({"model": source.state_dict()}, tmp_path / "three.pth")
    other = model_of(name, vocabulary, seed=1, use_distill=True, num_classes=5)
    with pytest.raises(WeightError, match=r"of another shape: cls_head\.2\.weight"):
        other.load_checkpoint(tmp_path / "three.pth")
    before = other.cls_head[2].weight.clone()
    report = other.load_from_pretrained(tmp_path / "three.pth")
    assert {key.replace("_m.", ".") for key in report.left_at_init} == {
        "cls_head.2.weight",
        "cls_head.2.bias",
    }
    assert other.cls_head[2].weight.equal(before)
    assert other.cls_head_m[2].weight.equal(before)
    assert other.cls_head[0].weight.equal(source.cls_head[0].weight)
    assert other.visual_encoder_m.norm.bias.equal(source.visual_encoder_m.norm.bias)


@pytest.mark.parametrize("name", NAMES)
def test_the_classes_of_the_library_are_classifiers(name: str) -> None:
    assert issubclass(registry.get_model_class(name), ClassifierModel)
