"""A BERT that reads text and visual tokens as one sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.common.reading import read
from lavis_clone.models.encoders.bert import BertConfig, BertModel
from lavis_clone.models.encoders.bert_joint import JointBertModel
from tests.models import tiny

IDS = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0], [2, 3, 0, 0], [2, 11, 12, 3]])
MASK = IDS != 0


def model_of(**changes: Any) -> JointBertModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "fusion_layer": 1, "num_hidden_layers": 3} | changes
    block = tiny.text_block(add_cross_attention=False, add_type_embeddings=True, **sizes)
    model = JointBertModel(read(BertConfig, block))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def fused(
    model: JointBertModel, rows: Any, tokens: Tensor, *, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """The texts with these rows, looking at ``tokens`` ``(B, N, D)``."""
    ids, text_mask = IDS[rows], MASK[rows]
    states = model(ids, mask=text_mask, num_layers=model.num_text_layers)
    context = model.see(tokens, mask)
    first = model.num_text_layers
    return model.resume(states, first=first, mask=text_mask, context=context, **options)


@torch.no_grad()
def by_definition(model: JointBertModel, ids: Tensor, tokens: Tensor) -> Tensor:
    """One text ``(T,)`` without padding and its tokens ``(N, D)``, layer by layer."""
    x = model.embeddings(ids[None])
    for index, layer in enumerate(model.encoder.layers()):
        if index == model.config.fusion_layer:
            x = torch.cat([x, tokens[None]], dim=1)
        x = layer(x, mask=None)
    return x[0]


@pytest.mark.parametrize("fusion_layer", [0, 1, 2])
def test_texts_that_share_tokens_are_what_each_is_alone(fusion_layer: int) -> None:
    model = model_of(fusion_layer=fusion_layer)
    tokens = torch.randn(2, 5, 12)
    found = fused(model, slice(None), tokens)  # two texts about each
    assert found.shape == (4, 4 + 5, 12)
    for row in range(4):
        length = int(MASK[row].sum())
        expected = by_definition(model, IDS[row, :length], tokens[row // 2])
        torch.testing.assert_close(found[row, :length], expected[:length])
        torch.testing.assert_close(found[row, 4:], expected[length:])


def test_the_summary_is_the_first_state() -> None:
    model, tokens = model_of(), torch.randn(4, 5, 12)
    whole = fused(model, slice(None), tokens)
    torch.testing.assert_close(fused(model, slice(None), tokens, summary=True), whole[:, :1])


@pytest.mark.parametrize("group", [1, 2])
def test_masked_tokens_are_not_seen(group: int) -> None:
    model, count = model_of(), 4 // group
    tokens, mask = torch.randn(count, 5, 12), torch.ones(count, 5, dtype=torch.bool)
    mask[:, 3:] = False
    found = fused(model, slice(None), tokens, mask=mask)[:, :7]
    torch.testing.assert_close(found, fused(model, slice(None), tokens[:, :3]))
    states = model(IDS[:1, :3], num_layers=1)  # all of a text is real, and some tokens are not
    context = model.see(tokens[:1], mask[:1])
    joined = model.resume(states, first=1, mask=None, context=context)[:, :6]
    short = model.see(tokens[:1, :3])
    torch.testing.assert_close(joined, model.resume(states, first=1, mask=None, context=short))


def test_contexts_can_be_chosen() -> None:
    model, tokens = model_of(), torch.randn(3, 5, 12)
    mask = torch.rand(3, 5) < 0.7
    chosen = model.see(tokens, mask).select(torch.tensor([2, 0]))
    assert chosen.tokens.equal(tokens[[2, 0]])
    assert chosen.mask is not None
    assert chosen.mask.equal(mask[[2, 0]])
    assert chosen.num_joined == model.see(tokens).contiguous().num_joined == 5


def test_a_text_without_a_context_is_read_alone() -> None:
    model = model_of()
    alone = BertModel(model.config).eval()
    alone.load_state_dict(model.state_dict())
    states = model(IDS, mask=MASK, num_layers=1)
    found = model.resume(states, first=1, mask=MASK, context=None)
    torch.testing.assert_close(found, alone(IDS, mask=MASK))
    assert alone.see(torch.randn(1, 2, 12)).num_joined == 0
