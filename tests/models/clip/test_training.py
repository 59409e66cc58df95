"""The contrastive loss: by hand, in parts, and over processes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

from lavis_clone.models.clip.model import ClipModel
from tests.common.processes import run_distributed
from tests.models.clip.toys import CLASSIC, MAKES, TEXTS, build, images

SAMPLES = {"image": images(4), "text_input": TEXTS}


def gradients(model: ClipModel) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = model(SAMPLES).loss
    loss.backward()
    return loss.detach(), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


def test_the_loss_is_open_clips() -> None:
    model = build(CLASSIC)
    with torch.no_grad():
        output = model(SAMPLES)
        found = model.extract_features(SAMPLES)
        scale = model.logit_scale.exp()
        assert output.logit_scale_exp.equal(scale)
        expected = ClipLoss()(found.image_embeds_proj, found.text_embeds_proj, scale)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.intermediate_output.text_embeds, found.text_embeds)
    assert output.loss_itc.equal(output.loss)


def test_a_logit_bias_asks_for_the_sigmoid_loss() -> None:
    model = build(MAKES["siglip"])
    with torch.no_grad():
        found = model.extract_features(SAMPLES)
        given = found.image_embeds_proj, found.text_embeds_proj, model.logit_scale.exp()
        expected = SigLipLoss()(*given, model.logit_bias)
        torch.testing.assert_close(model(SAMPLES).loss, expected)
        chosen = build(MAKES["siglip"], loss="softmax")
        torch.testing.assert_close(chosen(SAMPLES).loss, ClipLoss()(*given))


@pytest.mark.parametrize("make", ["classic", "siglip", "coca"])
@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_encoding_in_parts_changes_no_gradient(make: str, size: int) -> None:
    plain, chunked = build(MAKES[make]), build(MAKES[make], chunk_size=size)
    (loss, grads), (same_loss, same_grads) = gradients(plain.train()), gradients(chunked.train())
    torch.testing.assert_close(same_loss, loss)
    assert grads.keys() == same_grads.keys() == dict(plain.named_parameters()).keys()
    for key, grad in grads.items():
        torch.testing.assert_close(same_grads[key], grad, rtol=1e-4, atol=1e-6, msg=key)


def test_parts_are_encoded_without_keeping_activations() -> None:
    model = build(CLASSIC, chunk_size=1).train()
    sizes: list[int] = []
    model.get_submodule("visual").register_forward_pre_hook(
        lambda _module, args: sizes.append(len(args[0]))
    )
    loss = model(SAMPLES).loss
    assert sizes == [1] * 4
    loss.backward()
    assert sizes == [1] * 8  # each once more


def test_recomputing_changes_no_gradient() -> None:
    (loss, grads), (same_loss, same_grads) = (
        gradients(build(CLASSIC, grad_checkpointing=on).train()) for on in (False, True)
    )
    torch.testing.assert_close(same_loss, loss)
    for key, grad in grads.items():
        torch.testing.assert_close(same_grads[key], grad, msg=key)


def test_the_scale_is_kept_below_its_limit_in_training() -> None:
    model = build(CLASSIC)
    with torch.no_grad():
        model.logit_scale.fill_(7.0)
        model(SAMPLES)
        assert model.logit_scale.item() == 7.0  # a checkpoint is evaluated as it is
        model.train()(SAMPLES)
    assert model.logit_scale.item() == pytest.approx(math.log(100))


def test_a_pair_of_each_is_needed() -> None:
    with pytest.raises(ValueError, match="4 images but 3 texts"):
        build(CLASSIC)(SAMPLES | {"text_input": TEXTS[:3]})


def test_training_learns_its_pairs() -> None:
    model = build(CLASSIC, init_logit_scale=2.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model(SAMPLES).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    model.eval()
    found = model.extract_features(SAMPLES)
    cosines = found.image_embeds_proj @ found.text_embeds_proj.t()
    assert cosines.argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_two_processes_learn_as_one() -> None:
    names = ("softmax", "softmax_local", "sigmoid", "in_parts", "alone")
    run_distributed("tests.models.clip.dist_scripts", *names, timeout=600)


def joined(model: Any, samples: dict[str, Any]) -> Tensor:
    """The cross entropy of all pairs, written out."""
    found = model.extract_features(samples)
    logits = model.logit_scale.exp() * found.image_embeds_proj @ found.text_embeds_proj.t()
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.t(), right)) / 2


def test_the_loss_by_hand() -> None:
    model = build(CLASSIC)
    with torch.no_grad():
        torch.testing.assert_close(model(SAMPLES).loss, joined(model, SAMPLES))
