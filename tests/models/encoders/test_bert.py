"""The one BERT: against itself without shortcuts, against transformers', and its key names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig as OtherConfig
from transformers import BertModel as OtherBert

from lavis_clone.common.reading import ConfigError, read
from lavis_clone.models.encoders.bert import BertConfig, BertModel, attention_mask
from lavis_clone.models.heads.language import LanguageModel
from lavis_clone.models.layers.cache import KeyValueCache
from lavis_clone.models.weights import load_weights

CASES = Path(__file__).parents[2] / "parity" / "cases"
VOCABULARY, WIDTH, CONTEXT_WIDTH = 40, 12, 10


def bert(**changes: Any) -> BertModel:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "encoder_width": CONTEXT_WIDTH,
        "initializer_range": 0.5,
    }
    torch.manual_seed(0)
    return BertModel(BertConfig(**sizes | changes)).eval()


def tokens(rows: int, length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(
        1, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed)
    )


def seen(count: int, length: int = 5) -> Tensor:
    return torch.randn(count, length, CONTEXT_WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("steps", [[1] * 8, [3, 1, 1, 1, 1, 1], [8], [2, 3, 3]])
def test_a_cache_changes_nothing(steps: list[int]) -> None:
    model, ids = bert(), tokens(4, 8)
    context = model.see(seen(2))
    whole = model(ids, context=context, causal=True)
    cache, parts, start = KeyValueCache(3, 8), [], 0
    for count in steps:
        parts.append(model(ids[:, start : start + count], context=context, cache=cache))
        start += count
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("rows", [[2, 0, 1], [1, 1, 1], [2, 0], [0, 0, 1, 1, 2, 2], [1]])
def test_a_cache_goes_on_from_the_rows_that_are_chosen(rows: list[int]) -> None:
    model, ids, index = bert(add_cross_attention=False), tokens(3, 4), torch.tensor(rows)
    cache = KeyValueCache(3, 6)
    model(ids, cache=cache)
    cache.select(index)
    new = tokens(len(rows), 2, seed=1)
    found = model(new, cache=cache)
    whole = model(torch.cat([ids[index], new], dim=1), causal=True)
    torch.testing.assert_close(found, whole[:, 4:])


def test_a_full_cache_refuses_more() -> None:
    model, cache = bert(add_cross_attention=False), KeyValueCache(3, 4)
    model(tokens(1, 3), cache=cache)
    with pytest.raises(ValueError, match="a cache of 4 tokens cannot hold 5"):
        model(tokens(1, 2), cache=cache)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("group", [1, 2, 3])
def test_rows_that_share_a_context_need_no_copy_of_it(group: int, with_mask: bool) -> None:
    model, ids, context = bert(), tokens(2 * group, 4), seen(2)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5]) if with_mask else None
    shared = model(ids, context=model.see(context, mask))
    repeated_mask = None if mask is None else mask.repeat_interleave(group, dim=0)
    repeated = model.see(context.repeat_interleave(group, dim=0), repeated_mask)
    torch.testing.assert_close(shared, model(ids, context=repeated))


def test_contexts_can_be_selected() -> None:
    model, ids, context = bert(fusion_layer=1), tokens(1, 4), seen(3)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 5])
    selected = model.see(context, mask).select(torch.tensor([1]))
    alone = model.see(context[1:2], mask[1:2])
    torch.testing.assert_close(model(ids, context=selected), model(ids, context=alone))


def test_hidden_context_tokens_are_not_there() -> None:
    model, ids, context = bert(), tokens(2, 4), seen(2)
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    hidden = model(ids, context=model.see(context, mask))
    torch.testing.assert_close(hidden, model(ids, context=model.see(context[:, :3])))


@pytest.mark.parametrize("causal", [False, True])
def test_a_padded_row_of_a_batch_is_the_row_alone(causal: bool) -> None:
    model, ids, context = bert(), tokens(3, 6), seen(3)
    lengths = [6, 3, 1]
    mask = torch.arange(6)[None] < torch.tensor(lengths)[:, None]
    batch = model(ids, mask=mask, context=model.see(context), causal=causal)
    for row, length in enumerate(lengths):
        alone = model(
            ids[row : row + 1, :length],
            context=model.see(context[row : row + 1]),
            causal=causal,
        )
        torch.testing.assert_close(batch[row : row + 1, :length], alone)


def test_causal_tokens_do_not_see_what_comes_later() -> None:
    model, ids = bert(), tokens(1, 6)
    changed = ids.clone()
    changed[0, 4] = (ids[0, 4] + 1) % VOCABULARY
    context = model.see(seen(1))
    before, after = (model(t, context=context, causal=True) for t in (ids, changed))
    assert before[:, :4].equal(after[:, :4])
    assert not before[:, 4:].equal(after[:, 4:])
    everywhere, changed_all = (model(t, context=context) for t in (ids, changed))
    assert not everywhere[:, :4].equal(changed_all[:, :4])


def test_attention_masks_by_hand() -> None:
    ids, mask = tokens(2, 3), torch.tensor([[True, True, False], [True] * 3])
    assert attention_mask(ids, None, causal=False) is None
    assert attention_mask(ids[:, :1], None, causal=True, start=5) is None  # it may see all
    padded = attention_mask(ids, mask, causal=False)
    assert padded is not None
    assert padded.tolist() == [[[[True, True, False]]], [[[True] * 3]]]
    later = attention_mask(ids[:, :2], None, causal=True, start=1)
    assert later is not None
    assert later.tolist() == [[True, True, False], [True, True, True]]
    both = attention_mask(ids, mask, causal=True)
    assert both is not None
    assert both[0, 0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]


@pytest.mark.parametrize("first", [0, 1, 3])
def test_layers_look_at_the_context_from_the_fusion_layer_on(first: int) -> None:
    model, ids = bert(fusion_layer=first), tokens(1, 4)
    fused = {int(n.split(".")[2]) for n in model.state_dict() if "crossattention" in n}
    assert fused == set(range(first, 3))
    context = model.see(seen(1))
    assert [layer is not None for layer in context.layers] == [i >= first for i in range(3)]
    looks = not model(ids, context=context).equal(model(ids))
    assert looks == (first < 3)


def test_the_text_part_is_the_bert_of_transformers() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "initializer_range": 0.5,
    }
    other = OtherBert(OtherConfig(**sizes), add_pooling_layer=False).eval()
    model = bert(add_type_embeddings=True, add_cross_attention=False)
    load_weights(model, other.state_dict(), may_be_ignored=[r"position_ids$"])
    ids = tokens(3, 6)
    mask = torch.arange(6)[None] < torch.tensor([6, 4, 2])[:, None]
    expected = other(ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(model(ids, mask=mask)[mask], expected[mask])


def test_dropout_is_for_training_only() -> None:
    model, ids = bert(), tokens(1, 4)
    assert model(ids).equal(model(ids))
    model.train()
    assert not model(ids).equal(model(ids))


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="a text of 17 tokens is longer than the 16 positions"):
        bert()(tokens(1, 17))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 13}, r"hidden_size \(13\) must be a multiple of num_attention_heads"),
        ({"fusion_layer": 13}, r"fusion_layer \(13\) must lie between 0 and num_hidden_layers"),
        ({"hidden_act": "relu"}, "must be one of 'gelu'"),
        ({"hiden_size": 8}, "did you mean 'hidden_size'"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(BertConfig, changes)


NOT_A_PLAIN_BERT = {"albef_nlvr", "blip_nlvr"}
"""Cases whose text tower has a second cross-attention."""


def text_towers() -> Iterator[tuple[str, str]]:
    """Case and prefix of every text tower among the reference cases."""
    end = ".embeddings.word_embeddings.weight"
    for path in sorted(CASES.glob("*.json")):
        case = json.loads(path.read_text())
        if path.stem not in NOT_A_PLAIN_BERT:
            for name in case.get("state", {}):
                if name.endswith(end):
                    yield path.stem, name.removesuffix(end)


def test_there_are_text_towers_to_compare_with() -> None:
    assert len({case for case, _ in text_towers()}) >= 14
    assert len(list(text_towers())) >= 24


@pytest.mark.parametrize(("name", "prefix"), list(text_towers()))
def test_key_names_and_shapes_are_those_of_lavis(name: str, prefix: str) -> None:
    case = json.loads((CASES / f"{name}.json").read_text())
    block = "med_decoder" if "decoder" in prefix and "med_decoder" in case["config"] else "med"
    with torch.device("meta"):
        model = BertModel(read(BertConfig, case["config"][block]))
    found = {f"{prefix}.{name}": list(value.shape) for name, value in model.state_dict().items()}
    towers = (f"{prefix}.embeddings.", f"{prefix}.encoder.")
    expected = {
        name: entry["shape"]
        for name, entry in case["state"].items()
        if name.startswith(towers) and not name.endswith("embeddings.position_ids")
    }
    assert found == expected


def test_a_language_model_ties_its_head_to_the_embeddings() -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_attention_heads=3, num_hidden_layers=1
    )
    model = LanguageModel(config)
    state = model.state_dict(keep_vars=True)
    head = "cls.predictions"
    assert state[f"{head}.decoder.weight"] is state["bert.embeddings.word_embeddings.weight"]
    assert state[f"{head}.bias"] is state[f"{head}.decoder.bias"]


def test_the_loss_of_a_text_by_hand() -> None:
    torch.manual_seed(0)
    model = LanguageModel(bert().config).eval()
    ids, mask = tokens(2, 5), torch.ones(2, 5, dtype=torch.bool)
    labels = ids.clone()
    labels[:, :2], labels[1, 4] = -100, -100
    context = model.bert.see(seen(2))
    given: dict[str, Any] = {"mask": mask, "labels": labels, "context": context}
    plain = model(ids, **given, label_smoothing=0.0)
    log_probs = plain.logits.log_softmax(dim=-1)
    counted = [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3)]
    losses = [-log_probs[row, t - 1, ids[row, t]] for row, t in counted]
    torch.testing.assert_close(plain.loss, torch.stack(losses).mean())
    smooth = model(ids, **given, label_smoothing=0.1)
    spread = torch.stack([-log_probs[row, t - 1].mean() for row, t in counted]).mean()
    torch.testing.assert_close(smooth.loss, 0.9 * plain.loss + 0.1 * spread)
    rows = model(ids, **given, label_smoothing=0.0, reduction="sum_per_row")
    torch.testing.assert_close(rows.loss, torch.stack([sum(losses[:3]), sum(losses[3:])]))
