"""Position embeddings of another image size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lavis_clone.common.reading import read
from lavis_clone.common.registry import registry
from lavis_clone.models.encoders.bert import BertConfig, BertModel
from lavis_clone.models.foreign import resize_grid, resize_position_embeddings
from lavis_clone.models.weights import WeightError
from tests.models import tiny

NAME = "visual_encoder.pos_embed"


class Patches(nn.Module):
    def __init__(self, num_patches: int) -> None:
        super().__init__()
        self.num_patches = num_patches


class Tower(nn.Module):
    """Holds a grid of positions as timm's models do."""

    def __init__(self, side: int, *, width: int = 2, extra: int = 1) -> None:
        super().__init__()
        self.visual_encoder = nn.Module()
        self.visual_encoder.pos_embed = nn.Parameter(torch.zeros(1, extra + side**2, width))
        self.visual_encoder.patch_embed = Patches(side**2)


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' interpolation kernel, with the constant that torch uses."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def interpolated(row: list[float], size: int) -> list[float]:
    """One axis, bicubically: pixel centres, borders repeated."""
    found = []
    for i in range(size):
        place = (i + 0.5) * len(row) / size - 0.5
        first = int(place // 1)
        taps = range(first - 1, first + 3)
        values = [row[min(max(tap, 0), len(row) - 1)] for tap in taps]
        weights = [cubic(place - tap) for tap in taps]
        found.append(sum(v * w for v, w in zip(values, weights, strict=True)))
    return found


def by_hand(grid: list[list[float]], size: int) -> list[list[float]]:
    rows = [interpolated(row, size) for row in grid]
    columns = [interpolated(list(column), size) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7])
def test_a_grid_is_resized_bicubically(size: int) -> None:
    grid = torch.tensor([[0.0, 1.0, 4.0], [2.0, -1.0, 3.0], [5.0, 0.5, 7.0]])
    positions = torch.cat([torch.tensor([9.0, 8.0]), grid.flatten()])[None, :, None]
    found = resize_grid(positions, 2 + size**2, size**2)
    assert found.shape == (1, 2 + size**2, 1)
    assert found[0, :2, 0].tolist() == [9.0, 8.0]
    expected = torch.tensor(by_hand(grid.tolist(), size))
    torch.testing.assert_close(found[0, 2:, 0].view(size, size), expected)


def test_channels_are_resized_alone() -> None:
    positions = torch.randn(1, 1 + 9, 4)
    found = resize_grid(positions, 1 + 16, 16)
    for channel in range(4):
        alone = resize_grid(positions[:, :, channel : channel + 1], 1 + 16, 16)
        torch.testing.assert_close(found[:, :, channel : channel + 1], alone)


def test_half_precision_stays_half() -> None:
    assert resize_grid(torch.ones(1, 5, 2).half(), 10, 9).dtype == torch.float16


def test_positions_that_fit_are_left_alone() -> None:
    state = {NAME: torch.randn(1, 1 + 9, 2), "other": torch.ones(1)}
    found = resize_position_embeddings(state, Tower(3), (NAME,))
    assert found[NAME] is state[NAME]
    assert found["other"] is state["other"]


def test_positions_are_fitted_and_the_rest_is_kept() -> None:
    state = {NAME: torch.randn(1, 1 + 9, 2), "other": torch.ones(1)}
    found = resize_position_embeddings(state, Tower(4), (NAME, "momentum.pos_embed"))
    assert found[NAME].equal(resize_grid(state[NAME], 1 + 16, 16))
    assert found["other"] is state["other"]
    assert state[NAME].shape == (1, 10, 2), "the file's own state stays as it is"


def test_a_file_without_positions_is_left_alone() -> None:
    assert resize_position_embeddings({"a": torch.ones(1)}, Tower(2), (NAME,)).keys() == {"a"}


@pytest.mark.parametrize(
    "positions",
    [
        torch.ones(1, 1 + 9, 3),  # another width
        torch.ones(1, 1 + 8, 2),  # no square
        torch.ones(1 + 9, 2),  # another layout
        torch.ones(1, 1, 2),  # no cells
    ],
)
def test_what_cannot_be_fitted_is_left_to_be_reported(positions: Tensor) -> None:
    found = resize_position_embeddings({NAME: positions}, Tower(4), (NAME,))
    assert found[NAME] is positions


def test_a_real_tower_of_another_size_takes_them(vocabulary: Path) -> None:
    small = tiny.caption_model(vocabulary)
    large = tiny.caption_model(vocabulary, image_size=24)
    state = resize_position_embeddings(small.state_dict(), large, large.POSITION_EMBEDDINGS)
    assert state[NAME].shape == (1, 1 + 9, 8)
    assert state[NAME][:, :1].equal(small.state_dict()[NAME][:, :1])


def test_a_published_bert_becomes_a_text_tower(vocabulary: Path, tmp_path: Path) -> None:
    """Words are found by their text, and BERT's type embedding goes into the positions."""
    published = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "zebra", "cat"]
    words = tmp_path / "published.txt"
    words.write_text("\n".join(published) + "\n")
    sizes = tiny.text_block(vocab_size=len(published), num_hidden_layers=3, fusion_layer=3)
    source = BertModel(read(BertConfig, sizes | {"max_position_embeddings": 40}))
    state = {f"bert.{k}": torch.randn_like(v) for k, v in source.state_dict().items()}
    types = torch.randn(2, 12)
    extra = {"embeddings.token_type_embeddings.weight": types, "pooler.dense.bias": torch.ones(12)}
    torch.save(state | {f"bert.{k}": v for k, v in extra.items()}, tmp_path / "bert.pth")
    block = tiny.block("blip_retrieval", queue_size=4)(vocabulary) | {
        "text_weights": str(tmp_path / "bert.pth"),
        "text_weights_vocabulary": str(words),
    }
    model = registry.get_model_class("blip_retrieval").from_config(block)
    own, tokens = model.text_encoder.state_dict(), model.tokenizer
    embedded = own["embeddings.word_embeddings.weight"]
    given = state["bert.embeddings.word_embeddings.weight"]
    for word in ("dog", "cat", "[SEP]"):
        assert embedded[tokens.id(word)].equal(given[published.index(word)])
    positions = state["bert.embeddings.position_embeddings.weight"][:32] + types[0]
    assert own["embeddings.position_embeddings.weight"].equal(positions)
    key = "encoder.layer.1.output.dense.weight"
    assert own[key].equal(state[f"bert.{key}"])
    assert model.text_encoder_m.state_dict()[key].equal(own[key])
    assert "text_weights" not in model.to_block()


def test_a_bert_of_another_width_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    state = BertModel(read(BertConfig, tiny.text_block(hidden_size=6, vocab_size=9))).state_dict()
    torch.save(state, tmp_path / "bert.pth")
    block = tiny.block("blip_caption")(vocabulary) | {"text_weights": str(tmp_path / "bert.pth")}
    with pytest.raises(WeightError, match="text_weights: .*hidden_size 6.* 12"):
        registry.get_model_class("blip_caption").from_config(block)
