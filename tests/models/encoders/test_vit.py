"""The vision tower: names and shapes of the public files, other backbones, bad images."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from lavis_clone.common.reading import ConfigError, read
from lavis_clone.models.encoders.vit import (
    BackboneTokens,
    VisionConfig,
    build_vision_encoder,
    check_images,
)
from lavis_clone.models.foreign import efficientnet_to_timm
from lavis_clone.models.weights import WeightError
from tests.models import tiny

BACKBONES: dict[str, dict[str, Any]] = {
    "resnet10t": {},  # feature maps, channels first
    "swin_tiny_patch4_window7_224": {  # feature maps, channels last
        "img_size": 32,
        "window_size": 2,
        "embed_dim": 8,
        "depths": (1, 1),
        "num_heads": (1, 2),
    },
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 1},  # tokens
}
NUM_TOKENS = {
    "resnet10t": 1,
    "swin_tiny_patch4_window7_224": 16,
    "vit_tiny_patch16_224": 5,
}


def built(block: dict[str, Any]) -> Any:
    """The tower of a ``vit`` block."""
    return build_vision_encoder(read(VisionConfig, block))


def tower(**changes: Any) -> Any:
    torch.manual_seed(0)
    return built(tiny.vision_block(**changes))


def test_a_tower_gives_a_token_per_patch_and_one_for_the_image() -> None:
    encoder = tower(img_size=24, embed_dim=12, num_heads=3)
    assert encoder(tiny.images(2, size=24)).shape == (2, 1 + 9, 12)
    assert encoder.embed_dim == 12


def test_a_row_of_a_batch_is_the_image_alone() -> None:
    encoder, images = tower().eval(), tiny.images(3)
    batch = encoder(images)
    for row in range(3):
        torch.testing.assert_close(batch[row : row + 1], encoder(images[row : row + 1]))


def gradients(encoder: nn.Module, images: Tensor) -> tuple[Tensor, list[Any]]:
    torch.manual_seed(1)  # of the drop path
    output = encoder(images)
    output.square().sum().backward()
    return output, [parameter.grad for parameter in encoder.parameters()]


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_recomputing_activations_changes_nothing(blocks: int, drop_path: float) -> None:
    plain = tower(drop_path_rate=drop_path)
    saving = tower(drop_path_rate=drop_path, checkpoint_blocks=blocks)
    assert list(plain.state_dict()) == list(saving.state_dict())
    saving.load_state_dict(plain.state_dict())
    images = tiny.images(4)
    (output, grads), (same_output, same_grads) = (gradients(m, images) for m in (plain, saving))
    torch.testing.assert_close(output, same_output)
    for grad, same in zip(grads, same_grads, strict=True):
        torch.testing.assert_close(grad, same)


def test_a_tower_that_recomputes_can_be_copied() -> None:
    saving = tower(checkpoint_blocks=2)
    copied = copy.deepcopy(saving)  # as for a momentum copy
    assert list(copied.state_dict()) == list(saving.state_dict())
    images = tiny.images(1)
    torch.testing.assert_close(copied(images), saving(images))


@pytest.mark.parametrize(("blocks", "runs"), [(0, 1), (1, 2)])
def test_a_tower_recomputes_only_when_asked(blocks: int, runs: int) -> None:
    encoder = tower(checkpoint_blocks=blocks)
    seen: list[str] = []
    for name, module in encoder.named_modules():
        if name.startswith("blocks.1") and name.endswith(".attn"):
            module.register_forward_hook(lambda *_: seen.append("attn"))
    encoder(tiny.images(1)).sum().backward()
    assert len(seen) == runs


@pytest.mark.parametrize("name", BACKBONES)
def test_any_timm_backbone_gives_normalised_tokens(name: str) -> None:
    encoder = built({"timm": name, "timm_options": BACKBONES[name]}).eval()
    assert isinstance(encoder, BackboneTokens)
    found = encoder(tiny.images(2, size=32))
    assert found.shape == (2, NUM_TOKENS[name], encoder.embed_dim)
    torch.testing.assert_close(found.mean(dim=-1), torch.zeros(found.shape[:2]), atol=1e-4, rtol=0)
    alone = torch.cat([encoder(image[None]) for image in tiny.images(2, size=32)])
    torch.testing.assert_close(found, alone)


def test_tokens_are_the_cells_of_the_feature_map() -> None:
    encoder, images = built({"timm": "resnet10t"}).eval(), tiny.images(1, size=96)
    features = encoder.backbone.forward_features(images)  # (1, E, 3, 3)
    found = encoder(images)
    for row in range(3):
        for column in range(3):
            cell = encoder.norm(features[:, :, row, column])
            torch.testing.assert_close(found[:, 3 * row + column], cell)


def test_a_backbone_can_recompute_too() -> None:
    block = {"timm": "resnet10t", "checkpoint_blocks": 1}
    encoder = built(block)
    assert encoder.backbone.grad_checkpointing
    encoder(tiny.images(2, size=64)).sum().backward()


def test_a_backbone_starts_from_a_file_with_a_classifier(tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = timm.create_model("resnet10t", num_classes=5)
    path = tmp_path / "resnet.pth"
    torch.save(whole.state_dict(), path)
    block = {"timm": "resnet10t", "weights": str(path)}
    encoder = built(block)
    for name, value in encoder.backbone.state_dict().items():
        assert value.equal(whole.state_dict()[name]), name


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    with pytest.raises(WeightError, match="weights do not fit ResNet"):
        built({"timm": "resnet10t", "weights": str(path)})


STEM_AND_HEAD = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
PLAIN_BLOCK = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
WIDE_BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
SQUEEZE = {"conv_reduce": "_se_reduce", "conv_expand": "_se_expand"}


def as_efficientnet_pytorch(backbone: Any) -> dict[str, Tensor]:
    """timm's weights under the names of the ``efficientnet_pytorch`` packages."""
    blocks = [(i, j) for i, stage in enumerate(backbone.blocks) for j in range(len(stage))]
    renamed = {}
    for name, value in backbone.state_dict().items():
        parts = name.split(".")
        if parts[0] != "blocks":
            renamed[".".join([STEM_AND_HEAD[parts[0]], *parts[1:]])] = value
            continue
        number = blocks.index((int(parts[1]), int(parts[2])))
        layer, rest = parts[3], parts[4:]
        if layer == "se":
            layer, rest = SQUEEZE[rest[0]], rest[1:]
        else:
            wide = hasattr(backbone.blocks[int(parts[1])][int(parts[2])], "conv_pwl")
            layer = (WIDE_BLOCK if wide else PLAIN_BLOCK)[layer]
        renamed[".".join(["_blocks", str(number), layer, *rest])] = value
    return renamed


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_b0"])
def test_efficientnets_are_renamed_one_to_one(name: str, tmp_path: Path) -> None:
    backbone = timm.create_model(name, num_classes=0)
    foreign = as_efficientnet_pytorch(backbone)
    classifier = {"_fc.weight": torch.zeros(3, 1280), "_fc.bias": torch.zeros(3)}
    found = efficientnet_to_timm(foreign | classifier, backbone)
    assert found.keys() == backbone.state_dict().keys()
    assert len(foreign) == len(found)
    for key, value in backbone.state_dict().items():
        assert found[key] is value or found[key].equal(value), key
    path = tmp_path / "efficientnet.pth"
    torch.save(foreign | classifier, path)
    loaded = built({"timm": name, "weights": str(path)})
    for key, value in backbone.state_dict().items():
        assert loaded.backbone.state_dict()[key].equal(value), key


def test_what_an_efficientnet_does_not_have_is_reported(tmp_path: Path) -> None:
    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    path = tmp_path / "odd.pth"
    extra = {"_extra.weight": torch.zeros(1), "_blocks.99._bn0.bias": torch.zeros(1)}
    torch.save(as_efficientnet_pytorch(backbone) | extra, path)
    block = {"timm": "tf_efficientnet_lite0", "weights": str(path)}
    with pytest.raises(WeightError, match=r"2 left over: _extra\.weight, _blocks\.99\._bn0\.bias"):
        built(block)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_size": 20}, r"img_size \(20\) must be a multiple of patch_size \(8\)"),
        ({"token_dim": 6}, "token_dim is for a timm backbone, and none is named"),
        ({"dept": 2}, "did you mean 'depth'"),
    ],
)
def test_impossible_towers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(VisionConfig, tiny.vision_block(**changes))


def test_an_unknown_backbone_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no backbone 'resnet10x'; did you mean 'resnet10t'"):
        built({"timm": "resnet10x"})


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 16, 16), r"must be \(B, 3, H, W\), got \(3, 16, 16\)"),
        (torch.zeros(1, 1, 16, 16), r"must be \(B, 3, H, W\), got \(1, 1, 16, 16\)"),
        (torch.zeros(0, 3, 16, 16), r"must be \(B, 3, H, W\), got \(0, 3, 16, 16\)"),
        (torch.zeros(1, 3, 16, 8), "takes images of 16 x 16 pixels, got 16 x 8"),
        (torch.zeros(1, 3, 32, 32), "takes images of 16 x 16 pixels, got 32 x 32"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "must be floating point, got torch.uint8"),
        (torch.full((1, 3, 16, 16), float("nan")), "hold NaN or infinite pixels"),
        (torch.full((1, 3, 16, 16), float("inf")), "hold NaN or infinite pixels"),
    ],
)
def test_bad_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(images, size=16)


def test_good_images_pass() -> None:
    check_images(torch.zeros(2, 3, 16, 16), size=16)
    check_images(torch.zeros(1, 3, 9, 5, dtype=torch.float16), size=None)


def test_the_mean_of_all_tokens_stands_in_front_when_asked() -> None:
    config = VisionConfig(timm="test_convnext", img_size=64)
    torch.manual_seed(0)
    plain = build_vision_encoder(config).eval()
    torch.manual_seed(0)
    summed = build_vision_encoder(config, summary=True).eval()
    images = tiny.images(2, size=64)
    tokens, with_mean = plain(images), summed(images)
    torch.testing.assert_close(with_mean[:, 1:], tokens)
    torch.testing.assert_close(with_mean[:, 0], tokens.mean(dim=1))
    vit = read(VisionConfig, tiny.vision_block())
    assert build_vision_encoder(vit, summary=True)(tiny.images(1)).shape == (1, 5, 8)


def test_tokens_of_a_backbone_can_be_made_narrower() -> None:
    tower = build_vision_encoder(VisionConfig(timm="test_convnext", img_size=64, token_dim=6))
    assert tower.embed_dim == 6
    assert tower(tiny.images(2, size=64)).shape[::2] == (2, 6)


def test_a_transformer_starts_from_a_file_of_another_size(tmp_path: Path) -> None:
    config = read(VisionConfig, tiny.vision_block())
    source = build_vision_encoder(config)
    state = {**source.state_dict(), "head.weight": torch.zeros(3, 8), "head.bias": torch.zeros(3)}
    torch.save({"model": state}, tmp_path / "deit.pth")
    larger = {**tiny.vision_block(img_size=32), "weights": str(tmp_path / "deit.pth")}
    tower = build_vision_encoder(read(VisionConfig, larger))
    assert tower.state_dict()["norm.weight"].equal(source.state_dict()["norm.weight"])
    assert tower.pos_embed.shape == (1, 17, 8)
    assert tower.pos_embed[:, 0].equal(source.pos_embed[:, 0])
