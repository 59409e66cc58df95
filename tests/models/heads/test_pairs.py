"""The contrastive step, its queue and its momentum copies, and matching with hard negatives."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from lavis_clone.common.optim import freeze
from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.models.heads.matching import batches_by_length, hard_negatives
from tests.models import tiny

FAMILIES = ("albef_retrieval", "blip_retrieval")
TEXTS = ["a red cat", "the dog runs on and on", "blue birds", "a house", "green", "the cat sits"]


def model_of(name: str, vocabulary: Path, *, seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    block = tiny.block(name, queue_size=5, embed_dim=6)(vocabulary) | changes
    model = registry.get_model_class(name).from_config(block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def samples(count: int, *, ids: list[int] | None = None, seed: int = 0) -> dict[str, Any]:
    return {
        "image": tiny.images(count, seed=seed),
        "text_input": TEXTS[:count],
        "image_id": torch.tensor(ids or list(range(count))),
    }


def momentum_features(model: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What the copies make of a batch after their update, row by row."""
    model = copy.deepcopy(model)
    model.update_momentum()
    text = model.tokenize(batch["text_input"])
    states = model.read(model.text_encoder_m, text)[:, 0]
    images = model.visual_encoder_m(batch["image"])[:, 0]
    return (
        F.normalize(model.vision_proj_m(images), dim=1),
        F.normalize(model.text_proj_m(states), dim=1),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_queue_takes_any_number_of_samples(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    pointer, images, ids = 0, model.image_queue.clone(), model.idx_queue.clone()
    for step, count in enumerate((3, 4, 1, 6)):  # 6 is more than the queue holds
        batch = samples(count, ids=[10 * step + i for i in range(count)], seed=step)
        expected, _ = momentum_features(model, batch)
        with torch.no_grad():
            model(batch)
        for row in range(count):
            images[:, (pointer + row) % 5] = expected[row]
            ids[0, (pointer + row) % 5] = 10 * step + row
        pointer = (pointer + count) % 5
        torch.testing.assert_close(model.image_queue, images)
        assert model.idx_queue.equal(ids)
        assert int(model.queue_ptr) == pointer


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_of_one_image_belong_together(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary, use_distill=False)
    with torch.no_grad():
        model(samples(3, ids=[7, 8, 9]))
        targets = model(samples(3, ids=[9, 7, 9])).sims.sim_i2t_targets
    third, half = 1 / 3, 1 / 2  # columns: the batch, then 7, 8, 9 and two empty places
    expected = [
        [third, 0, third, 0, 0, third, 0, 0],
        [0, half, 0, half, 0, 0, 0, 0],
        [third, 0, third, 0, 0, third, 0, 0],
    ]
    torch.testing.assert_close(targets, torch.tensor(expected))


@pytest.mark.parametrize("name", ["albef_pretrain", "blip_pretrain"])
def test_pretraining_knows_no_ids(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary, alpha=0.0)
    targets = model(samples(2)).sims.sim_t2i_targets
    assert targets.equal(torch.eye(2, 7))


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (10, 0.2), (20, 0.4), (35, 0.4)])
def test_the_teachers_weight_rises_over_two_epochs(
    step: int, weight: float, vocabulary: Path
) -> None:
    model = model_of("blip_retrieval", vocabulary)
    told = Progress(step=step, steps_per_epoch=10, total_steps=40)
    written = {"epoch": step // 10, "iters": step % 10, "num_iters_per_epoch": 10}
    for progress, more in ((told, {}), (None, written)):
        twin = copy.deepcopy(model)
        sims = twin(samples(2) | more, progress=progress).sims
        hard = torch.eye(2, 7)
        expected = weight * sims.sim_i2t_m.softmax(dim=1) + (1 - weight) * hard
        torch.testing.assert_close(sims.sim_i2t_targets, expected)


def test_copies_follow_by_the_momentum_and_take_no_gradient(vocabulary: Path) -> None:
    model = model_of("blip_retrieval", vocabulary, momentum=0.9)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(samples(2)).loss.backward()
    for key in ("visual_encoder_m.norm.weight", "text_proj_m.bias"):
        own = before[key.replace("_m.", ".")]
        torch.testing.assert_close(model.state_dict()[key], 0.9 * before[key] + 0.1 * own)
        assert model.get_parameter(key).grad is None
    with torch.no_grad():
        model.embed_images(tiny.images(1))
        model.embed_texts(["a cat"])
    assert model.state_dict()["text_proj_m.bias"].equal(model.text_proj_m.bias)


def test_a_frozen_tower_is_its_own_copy(vocabulary: Path) -> None:
    model = model_of("blip_retrieval", vocabulary)
    model.reset_momentum("visual_encoder")
    expected = copy.deepcopy(model)(samples(3))
    freeze(model, ["visual_encoder"])
    with mock.patch.object(model.visual_encoder_m, "forward", side_effect=AssertionError):
        found = model(samples(3))
    torch.testing.assert_close(found.sims.sim_i2t_m, expected.sims.sim_i2t_m)
    found.loss.backward()
    assert model.vision_proj.weight.grad is not None
    assert all(p.grad is None for p in model.visual_encoder.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_one_has_no_wrong_partner(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    output = model(samples(1))
    logits = output.intermediate_output.itm_logits
    expected = F.cross_entropy(logits[:1], torch.ones(1, dtype=torch.long))
    torch.testing.assert_close(output.loss_itm, expected)
    output.loss.backward()


@pytest.mark.parametrize("name", FAMILIES)
def test_matching_is_what_reading_pair_by_pair_gives(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    batch = samples(2)  # each has the other as its only wrong partner
    with torch.no_grad():
        states = copy.deepcopy(model)(batch).intermediate_output
        text = model.tokenize(batch["text_input"], padded=True)
        images = model.image_tokens(batch["image"])
        for row, (i, t) in enumerate([(0, 0), (1, 1), (1, 0), (0, 1), (0, 1), (1, 0)]):
            seen = model.bert.see(images[i : i + 1])
            alone = model.fuse(model.bert, text.select(torch.tensor([t])), seen)
            torch.testing.assert_close(states.itm_logits[row], model.itm_head(alone[0, 0]))
    assert states.itm_labels.tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_changes_no_loss(name: str, vocabulary: Path) -> None:
    """In training, texts are as long as the longest of the batch; in evaluation, as the limit."""
    changes = {
        "med": tiny.text_block(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    }
    model = model_of(name, vocabulary, **changes)
    evaluated = copy.deepcopy(model)(samples(2))
    trained = copy.deepcopy(model).train()(samples(2))
    for key in ("loss_itc", "loss_itm"):
        torch.testing.assert_close(trained[key], evaluated[key])
    lengths = [o.intermediate_output.text_embeds.shape[1] for o in (trained, evaluated)]
    assert lengths == [8, 12]


def test_hard_negatives_are_wrong_and_seem_right() -> None:
    torch.manual_seed(0)
    sims = torch.tensor([[9.0, 8.0, -50.0, 7.0], [0.0, 0.0, 0.0, 0.0]])
    belongs = torch.tensor([[True, False, False, False], [True, True, True, True]])
    drawn = torch.stack([hard_negatives(sims, belongs, 0.0)[0] for _ in range(400)])
    share = (drawn[:, 0, None] == torch.arange(4)).float().mean(dim=0)
    expected = torch.tensor([0.0, 0.731, 0.0, 0.269])  # the softmax of 8 and 7
    torch.testing.assert_close(share, expected, atol=0.08, rtol=0)
    assert hard_negatives(sims, belongs, 0.0)[1].tolist() == [True, False]
    far = torch.tensor([[200.0, -200.0, -300.0]])  # the rest rounds to 0
    assert hard_negatives(far, torch.tensor([[True, False, False]]), 0.0)[0].item() == 1


def test_batches_by_length_hold_every_text_once() -> None:
    lengths = torch.randint(3, 36, (500,), generator=torch.Generator().manual_seed(0))
    found = list(batches_by_length(lengths))
    assert torch.cat([rows for rows, _ in found]).sort().values.equal(torch.arange(500))
    for rows, length in found:
        assert length == int(lengths[rows].max())
        assert len(rows) * length <= 2048
    assert sum(len(rows) * length for rows, length in found) < 1.2 * int(lengths.sum())


@pytest.mark.parametrize("name", [*FAMILIES, "blip_image_text_matching"])
def test_match_pairs_equals_reading_each_pair_alone(name: str, vocabulary: Path) -> None:
    changes = {"queue_size": 5} if "retrieval" in name else {}
    block = tiny.block(name, **changes)(vocabulary)
    torch.manual_seed(0)
    model = registry.get_model_class(name).from_config(block).eval()
    images, texts = model.embed_images(tiny.images(2)), model.embed_texts(TEXTS)
    for i in range(2):
        found = model.match_pairs(images.tokens[i], texts)
        for t, sentence in enumerate(TEXTS):
            seen = model.bert.see(images.tokens[i : i + 1])
            alone = model.fuse(model.bert, model.tokenize([sentence]), seen)
            torch.testing.assert_close(found[t], model.itm_head(alone[0, 0])[1])


def test_a_new_queue_length_keeps_the_weights(vocabulary: Path, tmp_path: Path) -> None:
    model = model_of("blip_retrieval", vocabulary)
    path = tmp_path / "model.pth"
    model.queue_ptr.fill_(3)
    torch.save({"model": model.state_dict()}, path)
    longer = model_of("blip_retrieval", vocabulary, seed=1, queue_size=9)
    longer.load_checkpoint(path)
    assert longer.image_queue.shape == (6, 9)
    assert longer.itm_head.weight.equal(model.itm_head.weight)
    assert int(longer.queue_ptr) == 0


def test_copies_that_a_file_lacks_begin_as_equals(vocabulary: Path, tmp_path: Path) -> None:
    model = model_of("blip_retrieval", vocabulary)
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("text_encoder_m.")}
    torch.save(kept, tmp_path / "model.pth")
    again = model_of("blip_retrieval", vocabulary, seed=1)
    again.load_checkpoint(tmp_path / "model.pth")
    for key, value in again.text_encoder_m.state_dict().items():
        assert value.equal(again.text_encoder.state_dict()[key])
    assert again.vision_proj_m.weight.equal(model.vision_proj_m.weight)
    assert not again.vision_proj_m.weight.equal(again.vision_proj.weight)


def test_what_only_training_needs_can_be_left_out(vocabulary: Path, tmp_path: Path) -> None:
    model = model_of("blip_retrieval", vocabulary)
    model.save_pretrained(tmp_path, training_state=False)
    saved = load_file(tmp_path / "model.safetensors")
    assert not [name for name in saved if "_m." in name or "queue" in name]
    again = type(model).from_pretrained(tmp_path)
    assert again.itm_head.weight.equal(model.itm_head.weight)
    assert again.text_proj_m.weight.equal(model.text_proj.weight)


def test_not_as_many_texts_as_images_is_an_error(vocabulary: Path) -> None:
    model = model_of("albef_retrieval", vocabulary)
    with pytest.raises(ValueError, match="2 images but 3 texts"):
        model(samples(3) | {"image": tiny.images(2)})
