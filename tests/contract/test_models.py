"""Every model that can be named keeps the promises that the rest of the library relies on.

A new model needs an entry in ``TINY``: a block that builds within a second, what it trains on, and
what it says about each sample.
"""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from lavis_clone.common.files import config_file
from lavis_clone.common.reading import read
from lavis_clone.common.registry import registry
from lavis_clone.models.capabilities import (
    Answers,
    Captions,
    Classifies,
    ExtractsFeatures,
    Matches,
    Replies,
    Trains,
    require,
)
from lavis_clone.models.zoo import MODEL_MODULES, MODEL_TYPES
from tests.models import tiny


@dataclass(frozen=True)
class Tiny:
    """A model small enough to test every promise on."""

    block: Callable[[Path], dict[str, Any]]
    """The ``model:`` block, given a vocabulary file."""
    samples: Callable[[int], dict[str, Any]]
    """A training batch of so many samples."""
    says: Callable[[Any, Mapping[str, Any]], list[Any]]
    """What the model says about each sample of a batch, as a list of tensors or strings."""
    trains: bool = True
    """Whether it takes a loss."""


def caption_samples(count: int) -> dict[str, Any]:
    texts = ["a picture of a red cat", "a picture of the dog", "a picture of blue birds and on"]
    return {
        "image": tiny.images(count),
        "text_input": texts[:count],
        "image_id": list(range(count)),
    }


def captions(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    output = model.generate_with_confidence(samples, max_length=12, min_length=6)
    return list(zip(output.text, output.confidence, strict=True))


def features(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    """Of the summary and of the first words, which all texts have."""
    output = model.extract_features(samples, mode=["image", "text", "multimodal"])
    texts = zip(output.text_embeds_proj, output.multimodal_embeds, strict=True)
    rows = zip(output.image_embeds_proj, texts, strict=True)
    return [(image[0], text[:4], both[:4]) for image, (text, both) in rows]


def matches(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    """How well each image and its text fit, compared and judged."""
    seen = samples.get("image", samples.get("video"))
    images, texts = model.embed_images(seen), model.embed_texts(samples["text_input"])
    rows = torch.arange(len(texts))[:, None]
    judged = [model.match_pairs(images.tokens[i], texts.select(rows[i])) for i in range(len(rows))]
    cosines = (images.projected * texts.projected).sum(dim=1)
    return list(zip(cosines, judged, strict=True))


def class_samples(count: int) -> dict[str, Any]:
    given = {"image": tiny.images(count), "text_input": caption_samples(count)["text_input"]}
    return given | {"label": torch.tensor([1, 0, 2][:count])}


def video_samples(count: int) -> dict[str, Any]:
    given = caption_samples(count)
    return {"video": tiny.videos(count), "text_input": given["text_input"]}


def video_class_samples(count: int) -> dict[str, Any]:
    return video_samples(count) | {"answers": torch.tensor([1, 0, 2][:count])}


def clip_says(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    """Features of pictures and texts, and classes that are named."""
    model.set_classes(["red cat", "dog", "house"], ["a {}", "a picture of the {}"])
    found, sorted_ = model.extract_features(samples), model.predict(samples)
    columns = [found.image_embeds, found.image_embeds_proj, found.text_embeds_proj]
    return list(zip(*columns, sorted_.predictions, sorted_.confidence, strict=True))


def pair_samples(count: int) -> dict[str, Any]:
    given = class_samples(count)
    del given["image"]
    return given | {"image0": tiny.images(count), "image1": tiny.images(count, seed=1)}


def classes(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    output = model.predict(samples)
    return list(zip(output.predictions, output.confidence, output.targets, strict=True))


ANSWERS = ["a red cat", "the dog", "blue", "birds", "on and on", "a house", "the", "green"]


def question_samples(count: int) -> dict[str, Any]:
    """The first question has two answers, the others one each."""
    given = caption_samples(count)
    weight = torch.tensor([0.6, 0.4, 1.0, 1.0])
    return {
        "image": given["image"],
        "text_input": given["text_input"],
        "answer": ANSWERS[: count + 1],
        "weight": weight[: count + 1],
        "n_answers": torch.tensor([2, 1, 1][:count]),
    }


def answers(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    """What it chooses, and what it writes if it can."""
    answer = model.predict_answers_with_confidence
    output = answer(samples, answer_list=ANSWERS, num_ans_candidates=6)
    columns = [output.text, output.confidence, output.log_prob]
    if "generate" in model.METHODS:
        output = answer(samples, inference_method="generate", max_len=6)
        columns += [output.text, output.confidence]
    return list(zip(*columns, strict=True))


def dialogue_samples(count: int) -> dict[str, Any]:
    """Dialogues of different lengths; the last tokens of each are the answer."""
    lengths, frames = torch.tensor([7, 5, 9][:count]), torch.tensor([2, 4, 3][:count])
    text = torch.arange(9) < lengths[:, None]
    is_answer = text & (torch.arange(9) >= lengths[:, None] - 2)
    ids = (torch.arange(9) + 40 * torch.arange(1, count + 1)[:, None]) % 290
    types = torch.cat([torch.full((count, 4), 296), torch.full((count, 9), 295)], dim=1)
    random = torch.Generator().manual_seed(0)
    return {
        "input_ids": ids,
        "labels": ids.masked_fill(~is_answer, -1),
        "token_type_ids": types,
        "attn_mask": torch.cat([torch.arange(4) < frames[:, None], text], dim=1),
        "video_fts": torch.randn(count, 4, 5, generator=random),
    }


def replies(model: Any, samples: Mapping[str, Any]) -> list[Any]:
    """The answer that it writes, and how likely the given one is."""
    given = model.score_replies(samples)
    output = model.generate_replies(samples, max_length=5)
    return list(zip(output.text, output.confidence, given.log_prob, strict=True))


TINY = {
    "albef_classification": Tiny(
        tiny.block("albef_classification", num_classes=3), class_samples, classes
    ),
    "albef_feature_extractor": Tiny(
        tiny.block("albef_feature_extractor"), caption_samples, features, trains=False
    ),
    "albef_nlvr": Tiny(
        tiny.block("albef_nlvr", num_classes=3, med=tiny.text_block(num_hidden_layers=3)),
        pair_samples,
        classes,
    ),
    "albef_pretrain": Tiny(
        tiny.block("albef_pretrain", queue_size=8, mlm_mask_prob=0.5), caption_samples, matches
    ),
    "albef_retrieval": Tiny(tiny.block("albef_retrieval", queue_size=8), caption_samples, matches),
    "albef_vqa": Tiny(tiny.block("albef_vqa"), question_samples, answers),
    "alpro_pretrain": Tiny(
        tiny.video_block("alpro_pretrain", mlm_mask_prob=0.5), video_samples, matches
    ),
    "alpro_qa": Tiny(tiny.video_block("alpro_qa", num_classes=3), video_class_samples, classes),
    "alpro_retrieval": Tiny(tiny.video_block("alpro_retrieval"), video_samples, matches),
    "blip_caption": Tiny(block=tiny.caption_block, samples=caption_samples, says=captions),
    "blip_classification": Tiny(
        tiny.block("blip_classification", num_classes=3), class_samples, classes
    ),
    "blip_feature_extractor": Tiny(
        tiny.block("blip_feature_extractor"), caption_samples, features, trains=False
    ),
    "blip_image_text_matching": Tiny(
        tiny.block("blip_image_text_matching"), caption_samples, matches, trains=False
    ),
    "blip_nlvr": Tiny(tiny.block("blip_nlvr", num_classes=3, merge_from=1), pair_samples, classes),
    "blip_pretrain": Tiny(tiny.block("blip_pretrain", queue_size=8), caption_samples, matches),
    "blip_retrieval": Tiny(tiny.block("blip_retrieval", queue_size=8), caption_samples, matches),
    "blip_vqa": Tiny(tiny.block("blip_vqa", mask_question_padding=True), question_samples, answers),
    "clip": Tiny(tiny.clip_block("clip"), caption_samples, clip_says),
    "clip_feature_extractor": Tiny(
        tiny.clip_block("clip_feature_extractor", init_logit_bias=-1.0, custom_text=True),
        caption_samples,
        clip_says,
    ),
    "gpt_dialogue": Tiny(
        lambda vocabulary: tiny.dialogue_block(vocabulary.parent, video_loss_weight=0.1),
        dialogue_samples,
        replies,
    ),
}

MODELS = registry.list_models()
TRAINABLE = [name for name in MODELS if name in TINY and TINY[name].trains]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def build(name: str, vocabulary: Path, *, seed: int = 0, **changes: Any) -> Any:
    """The tiny model with weights that are large enough to tell inputs apart."""
    torch.manual_seed(seed)
    block = TINY[name].block(vocabulary) | changes
    model = registry.get_model_class(name).from_config(block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def loss_of(model: nn.Module, samples: Mapping[str, Any]) -> Tensor:
    """The loss; the model's momentum copies and queues stay as they are."""
    torch.manual_seed(1)  # of dropout and negatives
    loss: Tensor = copy.deepcopy(model)(samples).loss.detach()
    return loss


def gradients(model: nn.Module, samples: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """The loss, and the gradient or None of each weight that is trained."""
    torch.manual_seed(1)
    loss = model(samples).loss
    loss.backward()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    grads: dict[str, Any] = {n.replace("_checkpoint_wrapped_module.", ""): p.grad for n, p in named}
    return loss, grads


def same(found: list[Any], expected: list[Any]) -> bool:
    """Whether a model said exactly the same twice."""
    return all(
        a == b if isinstance(a, str) else torch.equal(a, b)
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_every_model_has_a_tiny_one() -> None:
    assert set(TINY) == set(MODELS), "add a model of toy size to TINY"
    assert set(MODELS) >= {"blip_caption"}
    assert set(MODEL_TYPES) == set(MODEL_MODULES)


def test_listing_the_models_imports_no_torch() -> None:
    code = (
        "import sys, lavis_clone.models\n"
        "from lavis_clone.common.registry import registry\n"
        "assert 'blip_caption' in registry.list_models()\n"
        "assert len(lavis_clone.models.model_zoo) > 0\n"
        "heavy = {'torch', 'timm', 'transformers', 'torchvision', 'decord', 'open_clip'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODELS)
def test_its_class_is_registered_under_its_name(name: str, vocabulary: Path) -> None:
    model_class = registry.get_model_class(name)
    assert MODEL_TYPES[name] == model_class.PRETRAINED_MODEL_CONFIG_DICT
    assert isinstance(build(name, vocabulary), model_class)
    assert dataclasses.is_dataclass(model_class.Config)


@pytest.mark.parametrize(
    ("name", "model_type"), [(name, t) for name, types in MODEL_TYPES.items() for t in types]
)
def test_the_block_of_every_type_is_one_that_it_reads(name: str, model_type: str) -> None:
    document = yaml.safe_load(config_file(MODEL_TYPES[name][model_type]).read_text())
    config = read(registry.get_model_class(name).Config, document["model"], where="model")
    assert (config.arch, config.model_type) == tiny.stated(name, model_type)
    assert config.finetuned or config.pretrained
    assert "preprocess" in document


@pytest.mark.parametrize("name", MODELS)
def test_its_block_builds_it_again(name: str, vocabulary: Path) -> None:
    model = build(name, vocabulary)
    block = model.to_block()
    assert block["arch"] == name
    assert yaml.safe_load(yaml.safe_dump(block)) == block
    again = type(model).from_config(block)
    again.load_state_dict(model.state_dict())  # strict
    assert again.to_block() == block
    samples = TINY[name].samples(2)
    assert same(TINY[name].says(again.eval(), samples), TINY[name].says(model.eval(), samples))


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded_again(name: str, vocabulary: Path, tmp_path: Path) -> None:
    model = build(name, vocabulary).eval()
    again = type(model).from_pretrained(model.save_pretrained(tmp_path)).eval()
    for key, value in model.state_dict().items():
        assert value.equal(again.state_dict()[key]), key
    samples = TINY[name].samples(2)
    assert same(TINY[name].says(again, samples), TINY[name].says(model, samples))


@pytest.mark.parametrize("name", MODELS)
def test_no_state_hides_outside_the_state_dict(name: str, vocabulary: Path) -> None:
    first, second = build(name, vocabulary).eval(), build(name, vocabulary, seed=1).eval()
    samples, says = TINY[name].samples(2), TINY[name].says
    assert not same(says(second, samples), says(first, samples))
    second.load_state_dict(first.state_dict())
    assert same(says(second, samples), says(first, samples))
    if TINY[name].trains:
        assert loss_of(second, samples).equal(loss_of(first, samples))


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_step_of_training_reaches_every_weight(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary), TINY[name].samples(3)
    first = loss_of(model, samples)
    loss, grads = gradients(model, samples)
    assert loss.ndim == 0
    assert loss.isfinite()
    for key, grad in grads.items():
        assert grad is not None, f"{key} is trainable and has no gradient"
        assert grad.isfinite().all(), key
        if not key.endswith("key.bias"):  # softmax does not see what is added to all scores
            assert grad.abs().sum() > 0, key
    before = {key: p.clone() for key, p in model.named_parameters() if p.requires_grad}
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    own = dict(model.named_parameters())
    assert sum(not own[key].equal(value) for key, value in before.items()) > 0.9 * len(before)
    assert loss_of(model, samples) < first


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_is_deterministic(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary).eval(), TINY[name].samples(3)
    assert same(TINY[name].says(model, samples), TINY[name].says(model, samples))
    if TINY[name].trains:
        assert loss_of(model, samples).equal(loss_of(model, samples))


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_is_the_same_in_any_batch(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary).eval(), TINY[name].samples(3)
    together = TINY[name].says(model, samples)
    assert len(together) == 3
    assert not same(together[:1], together[1:2])
    for row in range(3):
        alone = TINY[name].says(model, {key: v[row : row + 1] for key, v in samples.items()})
        torch.testing.assert_close(*_comparable(alone[0], together[row]), rtol=1e-4, atol=1e-5)


def _comparable(found: Any, expected: Any) -> tuple[list[Any], list[Any]]:
    """Strings compared exactly, the rest left for ``assert_close``."""
    texts = [[part for part in side if isinstance(part, str)] for side in (found, expected)]
    assert texts[0] == texts[1]
    numbers = [[part for part in side if not isinstance(part, str)] for side in (found, expected)]
    return numbers[0], numbers[1]


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_not_changed(name: str, vocabulary: Path) -> None:
    model, samples, same = build(name, vocabulary), TINY[name].samples(2), TINY[name].samples(2)
    if TINY[name].trains:
        model(samples)
    TINY[name].says(model, samples)
    assert samples.keys() == same.keys()
    for key, value in samples.items():
        assert value.equal(same[key]) if isinstance(value, Tensor) else value == same[key]


@pytest.mark.parametrize("name", TRAINABLE)
def test_recomputing_activations_changes_nothing(name: str, vocabulary: Path) -> None:
    known = {f.name for f in dataclasses.fields(registry.get_model_class(name).Config)}
    if "timesformer" in known:
        sizes = TINY[name].block(vocabulary)["timesformer"]
        changes: dict[str, Any] = {"timesformer": sizes | {"checkpoint_blocks": 2}}
    elif "grad_checkpointing" in known:
        changes = {"grad_checkpointing": True}
    elif "vit_grad_ckpt" in known:
        changes = {"vit_grad_ckpt": True, "vit_ckpt_layer": 2}
    else:
        pytest.skip("the model has no image ViT")
    samples = TINY[name].samples(2)
    plain = build(name, vocabulary)
    saving = build(name, vocabulary, **changes)
    assert list(saving.state_dict()) == list(plain.state_dict())
    (loss, grads), (same_loss, same_grads) = (gradients(m, samples) for m in (plain, saving))
    torch.testing.assert_close(loss, same_loss)
    assert grads.keys() == same_grads.keys()
    for key, grad in grads.items():
        torch.testing.assert_close(grad, same_grads[key], msg=key)


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_finite(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary), TINY[name].samples(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if TINY[name].trains:
            loss = model(samples).loss
            assert loss.dtype == torch.float32
        said = TINY[name].says(model.eval(), samples)
    assert len(said) == 2
    if TINY[name].trains:
        loss.backward()
        assert loss.isfinite()


@pytest.mark.parametrize("name", MODELS)
def test_it_offers_what_tasks_ask_for(name: str, vocabulary: Path) -> None:
    model = build(name, vocabulary)
    if TINY[name].trains:
        require(model, Trains, task="any")
    assert isinstance(model, Captions) == name.endswith("_caption")
    assert isinstance(model, Replies) == (name == "gpt_dialogue")
    assert isinstance(model, Answers) == name.endswith("_vqa")
    extracts = name.endswith("_feature_extractor") or name.startswith(("alpro_", "clip"))
    assert isinstance(model, ExtractsFeatures) == extracts
    classifies = name.endswith(("_classification", "_nlvr", "_qa")) or name.startswith("clip")
    assert isinstance(model, Classifies) == classifies
    assert isinstance(model, Matches) == name.endswith(("_matching", "_retrieval", "_pretrain"))


def test_a_model_without_the_capability_is_refused() -> None:
    with pytest.raises(TypeError, match=r"task 'captioning' needs a model with generate_with_conf"):
        require(nn.Linear(1, 1), Captions, task="captioning")
