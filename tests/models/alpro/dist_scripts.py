"""What test_retrieval.py runs in each of two processes."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch

from lavis_clone.common import dist
from tests.models import tiny
from tests.models.alpro.toys import model_of, samples


def halves_learn_as_the_whole() -> None:
    """The mean of both losses and of both gradients are those of a single large batch."""
    with tempfile.TemporaryDirectory() as folder:
        model = model_of("alpro_retrieval", tiny.write_vocabulary(Path(folder)))
    whole = samples(4)
    expected, expected_grads = one_process(copy.deepcopy(model), whole)
    own = slice(2 * dist.rank(), 2 * dist.rank() + 2)
    step = model.contrast({key: value[own] for key, value in whole.items()})
    assert step.sims.sim_i2t.shape == (2, 4)
    step.loss.backward()
    torch.testing.assert_close(dist.all_reduce_sum(step.loss) / 2, expected)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            mean = dist.all_reduce_sum(parameter.grad) / 2
            torch.testing.assert_close(mean, expected_grads[name], msg=name)
    own_pairs = model.candidates(step)
    assert own_pairs.belongs.equal(torch.eye(2, dtype=torch.bool))
    cosines = step.image_features @ step.text_features.t() / model.temp
    torch.testing.assert_close(own_pairs.i2t, cosines)
    loss = model({key: value[own] for key, value in whole.items()}).loss
    assert loss.isfinite()


def one_process(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
    """What the definition says: a softmax over the whole batch, in either direction."""
    images = model.image_tokens(batch["video"])[:, 0]
    text = model.tokenize(batch["text_input"])
    words = model.read(model.bert, text)[:, 0]
    normal = torch.nn.functional.normalize
    image, word = normal(model.vision_proj(images), dim=1), normal(model.text_proj(words), dim=1)
    logits = image @ word.t() / model.temp
    both = logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()
    loss = -both.mean() / 2
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}
