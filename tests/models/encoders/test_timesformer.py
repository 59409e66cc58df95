"""The video tower: frames of any number, places in space and time, and what it is for one frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lavis_clone.common.reading import ConfigError, read
from lavis_clone.models.encoders.timesformer import (
    DividedBlock,
    Timesformer,
    TimesformerConfig,
    VideoEncoder,
    build_video_encoder,
    check_videos,
    fit_positions,
)
from lavis_clone.models.weights import WeightError
from tests.models import tiny


def tower(**changes: Any) -> VideoEncoder:
    """A tower whose weights are large enough to tell places and times apart."""
    torch.manual_seed(0)
    block = tiny.vision_block(num_frames=4, drop_path_rate=0.0) | changes
    encoder = build_video_encoder(read(TimesformerConfig, block))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return encoder.eval()


@pytest.mark.parametrize(("size", "patch", "frames"), [(16, 8, 4), (24, 8, 1), (24, 4, 7)])
def test_a_tower_gives_a_token_per_patch_and_one_for_the_video(
    size: int, patch: int, frames: int
) -> None:
    encoder = tower(img_size=size, patch_size=patch, embed_dim=12, num_heads=3)
    found = encoder(tiny.videos(2, frames=frames, size=size))
    assert found.shape == (2, 1 + (size // patch) ** 2, 12)
    assert encoder.embed_dim == 12


def split(x: Tensor) -> Tensor:
    """The two heads of one sequence."""
    return x.unflatten(-1, (2, -1)).transpose(0, 1)


def attended(attention: Any, x: Tensor) -> Tensor:
    """``(N, E) -> (N, E)``: one sequence looks at itself, as the formula says."""
    query, key, value = (split(part) for part in attention.qkv(x).chunk(3, dim=-1))
    weights = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(dim=-1)
    return attention.proj((weights @ value).transpose(0, 1).flatten(1))


@torch.no_grad()
def block_by_definition(block: Any, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
    """One video ``(E,), (P, T, E)``, sequence by sequence."""
    places = [
        block.temporal_fc(attended(block.temporal_attn, block.temporal_norm1(p))) for p in patches
    ]
    patches = patches + torch.stack(places)
    frames = [torch.cat([cls[None], patches[:, t]]) for t in range(patches.shape[1])]
    seen = torch.stack([attended(block.attn, block.norm1(frame)) for frame in frames])  # (T, N, E)
    cls, patches = cls + seen[:, 0].mean(dim=0), patches + seen[:, 1:].transpose(0, 1)
    return cls + block.mlp(block.norm2(cls)), patches + block.mlp(block.norm2(patches))


def test_a_block_is_what_the_paper_defines() -> None:
    block = tower().model.blocks[1]
    assert isinstance(block, DividedBlock)
    cls, patches = torch.randn(3, 1, 8), torch.randn(3, 4, 5, 8)
    found_cls, found = block(cls, patches)
    for row in range(3):
        expected_cls, expected = block_by_definition(block, cls[row, 0], patches[row])
        torch.testing.assert_close(found_cls[row, 0], expected_cls)
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("frames", [1, 3, 4, 9])
def test_a_row_of_a_batch_is_the_video_alone(frames: int) -> None:
    encoder, videos = tower(), tiny.videos(3, frames=frames)
    batch = encoder(videos)
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)
    for row in range(3):
        torch.testing.assert_close(batch[row : row + 1], encoder(videos[row : row + 1]))


def test_other_numbers_of_frames_take_the_nearest_places_in_time() -> None:
    encoder = tower(num_frames=2)
    times = encoder.model.time_embed.data
    places = {1: [0], 3: [0, 0, 1], 4: [0, 0, 1, 1], 5: [0, 0, 0, 1, 1]}
    for frames, chosen in places.items():
        same = tower(num_frames=frames)
        state = encoder.state_dict() | {"model.time_embed": times[:, chosen]}
        same.load_state_dict(state)
        videos = tiny.videos(2, frames=frames)
        torch.testing.assert_close(encoder(videos), same(videos))


def test_the_order_of_the_frames_matters() -> None:
    encoder, videos = tower(), tiny.videos(1, frames=4)
    assert not torch.allclose(encoder(videos), encoder(videos.flip(2)), atol=1e-3)


def image_tower(path: Path) -> VisionTransformer:
    """An image ViT of the same sizes, whose weights lie at ``path``."""
    torch.manual_seed(1)
    sizes = tiny.vision_block()
    norm = partial(nn.LayerNorm, eps=1e-6)
    image = VisionTransformer(**sizes, num_classes=5, global_pool="", norm_layer=norm).eval()
    torch.save(image.state_dict(), path)
    return image


def test_a_still_video_is_what_an_image_tower_sees(tmp_path: Path) -> None:
    """A tower that starts from an image's weights has learned nothing about time."""
    image = image_tower(tmp_path / "image.pth")
    block = tiny.vision_block(num_frames=4, weights=str(tmp_path / "image.pth"))
    encoder = build_video_encoder(read(TimesformerConfig, block)).eval()
    pictures = tiny.images(2)
    expected = image.forward_features(pictures)
    for frames in (1, 3):
        videos = pictures[:, :, None].expand(-1, -1, frames, -1, -1)
        torch.testing.assert_close(encoder(videos), expected)


def test_a_start_may_be_a_video_tower_of_another_size(tmp_path: Path) -> None:
    path = tmp_path / "video.pth"
    source = tower()
    torch.save({f"visual_encoder.{k}": v for k, v in source.state_dict().items()}, path)
    block = tiny.vision_block(img_size=24, num_frames=2, weights=str(path))
    encoder = build_video_encoder(read(TimesformerConfig, block))
    for name, value in encoder.state_dict().items():
        if not name.endswith(("pos_embed", "time_embed")):
            assert value.equal(source.state_dict()[name]), name
    assert encoder.model.time_embed.equal(source.model.time_embed[:, [0, 2]])
    with pytest.raises(WeightError, match="of another shape"):
        build_video_encoder(read(TimesformerConfig, block | {"embed_dim": 16}))


def test_places_are_fitted_by_the_nearest() -> None:
    model = Timesformer(read(TimesformerConfig, tiny.vision_block(img_size=24, num_frames=3)))
    state = {
        "pos_embed": torch.arange(5.0)[None, :, None].expand(1, 5, 8),  # [CLS] and 2 x 2
        "time_embed": torch.arange(8.0)[None, :, None].expand(1, 8, 8),
        "norm.weight": torch.ones(8),
    }
    found = fit_positions(state, model)
    assert found["pos_embed"][0, :, 0].tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found["time_embed"][0, :, 7].tolist() == [0, 2, 5]
    assert found["norm.weight"] is state["norm.weight"]
    expected = F.interpolate(torch.arange(1.0, 5.0)[None, None], size=9, mode="nearest")
    assert found["pos_embed"][0, 1:, 3].equal(expected[0, 0])


def gradients(encoder: nn.Module, videos: Tensor) -> tuple[Tensor, list[Any]]:
    torch.manual_seed(1)  # of the drop path and the dropout
    output = encoder(videos)
    output.square().sum().backward()
    return output, [parameter.grad for parameter in encoder.parameters()]


@pytest.mark.parametrize("rates", [{}, {"drop_path_rate": 0.5, "attn_drop_rate": 0.1}])
@pytest.mark.parametrize("blocks", [1, 9])
def test_recomputing_activations_changes_nothing(blocks: int, rates: dict[str, float]) -> None:
    plain, saving = tower(**rates).train(), tower(**rates, checkpoint_blocks=blocks).train()
    assert list(plain.state_dict()) == list(saving.state_dict())
    saving.load_state_dict(plain.state_dict())
    videos = tiny.videos(4)
    (output, grads), (same_output, same_grads) = (gradients(m, videos) for m in (plain, saving))
    torch.testing.assert_close(output, same_output)
    for grad, same in zip(grads, same_grads, strict=True):
        torch.testing.assert_close(grad, same)


def test_a_branch_is_left_out_for_a_whole_video() -> None:
    encoder = tower(drop_path_rate=0.9, depth=2).train()
    videos = tiny.videos(1).expand(64, -1, -1, -1, -1)
    torch.manual_seed(0)
    found = {tuple(row.flatten().tolist()) for row in encoder(videos).round(decimals=3)}
    assert 1 < len(found) <= 8  # three branches of the last block, each there or not


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 16, 16), r"videos must be \(B, 3, T, H, W\), got \(2, 3, 16, 16\)"),
        ((2, 1, 2, 16, 16), r"videos must be \(B, 3, T, H, W\)"),
        ((2, 3, 0, 16, 16), r"got \(2, 3, 0, 16, 16\)"),
        ((2, 3, 2, 16, 24), "takes frames of 16 x 16 pixels, got 16 x 24"),
    ],
)
def test_shapes_that_no_tower_reads_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_videos(torch.zeros(shape), size=16)


def test_values_that_are_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be floating point, got torch\.uint8"):
        check_videos(torch.zeros(1, 3, 2, 16, 16, dtype=torch.uint8), size=16)
    videos = torch.zeros(1, 3, 2, 16, 16)
    videos[0, 0, 1, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_videos(videos, size=16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 0}, r"num_frames \(0\) must be at least 1"),
        ({"attn_drop_rate": 1.0}, r"attn_drop_rate \(1.0\) must lie in \[0, 1\)"),
        ({"drop_path_rate": -0.1}, r"drop_path_rate \(-0.1\) must lie"),
        ({"img_size": 20}, r"img_size \(20\) must be a multiple of patch_size \(8\)"),
        ({"num_heads": 3}, r"embed_dim \(8\) must be a multiple of num_heads \(3\)"),
        ({"num_frame": 3}, "did you mean 'num_frames'"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(TimesformerConfig, tiny.vision_block(**changes))


def test_fresh_weights_of_the_tower_are_those_of_a_fresh_image_tower() -> None:
    """Alike in size, so that neither starts with a handicap; time has no say at first."""
    model = Timesformer(TimesformerConfig(img_size=32, embed_dim=96, depth=1, num_heads=3))
    image = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=96, depth=1)
    own, timms = model.state_dict(), image.state_dict()
    for name in ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "pos_embed"):
        assert own[name].shape == timms[name].shape
        assert float(own[name].std()) == pytest.approx(float(timms[name].std()), rel=0.1)
    assert not own["blocks.0.temporal_fc.weight"].any()
    assert not own["time_embed"].any()
