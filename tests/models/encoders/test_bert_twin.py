"""BERTs that look at two images: against themselves, and against the BERT that looks at one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.models.encoders.bert import BertConfig, BertModel
from lavis_clone.models.encoders.bert_twin import (
    AlternatingBertModel,
    TwinAttention,
    TwinBertModel,
)

WORDS, IMAGE_WIDTH = 20, 10


def config(**changes: Any) -> BertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": WORDS,
        "hidden_size": 12,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "encoder_width": IMAGE_WIDTH,
        "initializer_range": 0.5,
    }
    return BertConfig(**sizes | changes)


def twin(**changes: Any) -> TwinBertModel:
    torch.manual_seed(0)
    return TwinBertModel(config(**changes), merge_from=2).eval()


def alternating(**changes: Any) -> AlternatingBertModel:
    torch.manual_seed(0)
    return AlternatingBertModel(config(fusion_layer=2, **changes)).eval()


def words(rows: int, length: int = 5) -> Tensor:
    return torch.randint(1, WORDS, (rows, length), generator=torch.Generator().manual_seed(0))


def image(count: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 7, IMAGE_WIDTH, generator=generator)


def test_twin_attention_is_two_attentions_put_together() -> None:
    torch.manual_seed(0)
    x, first, second = torch.randn(2, 5, 12), image(2, seed=1), image(2, seed=2)
    for merges in (False, True):
        layer = TwinAttention(config(), merges=merges).eval()
        seen = []
        for projections, tokens in ((layer.self0, first), (layer.self1, second)):
            heads = [
                part.view(2, -1, 3, 4).transpose(1, 2)
                for part in (projections.query(x), projections.key(tokens))
            ]
            weights = (heads[0] @ heads[1].transpose(2, 3) / 2).softmax(dim=-1)  # sqrt(4) = 2
            values = projections.value(tokens).view(2, -1, 3, 4).transpose(1, 2)
            seen.append((weights @ values).transpose(1, 2).reshape(2, 5, 12))
        output = layer.output
        both = [output.dense0(seen[0]), output.dense1(seen[1])]
        if output.merge_layer is None:
            merged = (both[0] + both[1]) / 2
        else:
            merged = output.merge_layer(torch.cat(both, dim=2))
        found = layer(x, layer.keys_values(torch.cat([first, second])))
        torch.testing.assert_close(found, output.LayerNorm(x + merged))


def test_layers_merge_from_a_layer_on() -> None:
    has = [name for name, _ in twin().named_modules() if name.endswith("merge_layer")]
    assert has == [f"encoder.layer.{i}.crossattention.output.merge_layer" for i in (2, 3)]
    assert twin(add_cross_attention=False).see(torch.zeros(2, 1, IMAGE_WIDTH)).layers == [None] * 4
    with_text_first = twin(fusion_layer=3)
    assert [kv is None for kv in with_text_first.see(image(2, seed=1)).layers] == [True] * 3 + [
        False
    ]


@pytest.mark.parametrize("make", [twin, alternating])
@pytest.mark.parametrize("group", [1, 2])
def test_a_pair_of_images_is_the_pair_alone(make: Any, group: int) -> None:
    model, ids = make(), words(3 * group)
    first, second = image(3, seed=1), image(3, seed=2)
    together = model(ids, context=model.see(torch.cat([first, second])))
    for row in range(3):
        rows, pair = slice(row * group, (row + 1) * group), [first[row], second[row]]
        alone = model(ids[rows], context=model.see(torch.stack(pair)))
        torch.testing.assert_close(together[rows], alone)


@pytest.mark.parametrize("make", [twin, alternating])
def test_contexts_can_be_selected_and_masked(make: Any) -> None:
    model, ids = make(), words(1)
    first, second = image(3, seed=1), image(3, seed=2)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    context = model.see(torch.cat([first, second]), mask).select(torch.tensor([1]))
    alone = model.see(torch.stack([first[1, :4], second[1, :4]]))
    torch.testing.assert_close(model(ids, context=context), model(ids, context=alone))


@pytest.mark.parametrize("make", [twin, alternating])
def test_both_images_matter_and_so_does_their_order(make: Any) -> None:
    model, ids = make(), words(1)
    one, other, third = (image(1, seed=seed) for seed in (1, 2, 3))
    said = [
        model(ids, context=model.see(torch.cat(pair)))[0, 0]
        for pair in ((one, other), (third, other), (one, third), (other, one))
    ]
    for index in (1, 2, 3):
        assert (said[0] - said[index]).abs().max() > 1e-3


@pytest.mark.parametrize(("silent", "seen"), [(2, 1), (3, 0)])
def test_consecutive_layers_look_at_one_image_and_at_the_other(silent: int, seen: int) -> None:
    """Of the two layers that look at images one is silenced, and so is what it would look at."""
    model, ids = alternating(), words(1)
    layer: Any = model.encoder.layer[silent]
    with torch.no_grad():
        layer.crossattention.output.dense.weight.zero_()
    pair, third = [image(1, seed=1), image(1, seed=2)], image(1, seed=3)
    before = model(ids, context=model.see(torch.cat(pair)))
    for place in (0, 1):
        changed = [third if i == place else tokens for i, tokens in enumerate(pair)]
        difference = (model(ids, context=model.see(torch.cat(changed))) - before).abs().max()
        assert (difference > 1e-3) == (place == seen)


def test_keys_and_values_are_shared_in_pairs() -> None:
    model = alternating()
    layers: Any = model.encoder.layer
    assert layers[2].crossattention.self.key is layers[3].crossattention.self.key
    assert layers[2].crossattention.self.value.weight is layers[3].crossattention.self.value.weight
    assert layers[2].crossattention.self.query is not layers[3].crossattention.self.query


def test_the_same_image_twice_is_one_image() -> None:
    """An alternating BERT whose images are equal is a plain one of the same weights."""
    model, ids, tokens = alternating(), words(2), image(2, seed=1)
    plain = BertModel(config(fusion_layer=2)).eval()
    plain.load_state_dict(model.state_dict())
    found = model(ids, context=model.see(torch.cat([tokens, tokens])))
    torch.testing.assert_close(found, plain(ids, context=plain.see(tokens)))


def test_an_odd_layer_has_no_image_to_look_at() -> None:
    with pytest.raises(ValueError, match=r"num_hidden_layers \(4\) and fusion_layer \(1\) must"):
        AlternatingBertModel(config(fusion_layer=1))
