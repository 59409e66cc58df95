"""Models that look at images take videos, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.videos import as_images, frame_mask, look, mean_of_frames
from tests.contract.test_models import TINY, build, captions, loss_of, matches, same
from tests.models import tiny

MODELS = [name for name in TINY if name.startswith(("albef", "blip")) and "nlvr" not in name]
COMPARING = [name for name in MODELS if TINY[name].says is matches]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def video(count: int, num_frames: int, *, seed: int = 5) -> Tensor:
    """``(count, 3, num_frames, S, S)``"""
    return tiny.images(count * num_frames, seed=seed).unflatten(0, (count, -1)).transpose(1, 2)


def on_videos(samples: dict[str, Any], videos: Tensor, **more: Any) -> dict[str, Any]:
    """A batch with videos in the place of its images."""
    return {k: v for k, v in samples.items() if k != "image"} | {"video": videos, **more}


def says(name: str, model: Any, samples: dict[str, Any]) -> list[Any]:
    """What a model says about each sample of a batch of videos."""
    if name not in COMPARING:
        return TINY[name].says(model, samples)
    seen = model.embed_videos(samples["video"], samples.get("num_frames"))
    texts = model.embed_texts(samples["text_input"])
    found = []
    for i, projected in enumerate(seen.projected):
        tokens = seen.tokens[i] if seen.num_tokens is None else seen.tokens[i][: seen.num_tokens[i]]
        judged = model.match_pairs(tokens, texts.select(torch.tensor([i])))
        found.append((projected @ texts.projected[i], judged))
    return found


def close(found: list[Any], expected: list[Any]) -> None:
    for x, y in zip(found, expected, strict=True):
        for a, b in zip(x, y, strict=True):
            if isinstance(a, str):
                assert a == b
            else:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_video_of_one_frame_is_an_image(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary).eval(), TINY[name].samples(3)
    expected = TINY[name].says(model, samples)
    close(says(name, model, on_videos(samples, samples["image"][:, :, None])), expected)
    if TINY[name].trains:
        loss = loss_of(model, on_videos(samples, samples["image"][:, :, None]))
        torch.testing.assert_close(loss, loss_of(model, samples))


@pytest.mark.parametrize("name", MODELS)
def test_every_frame_matters(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary).eval(), TINY[name].samples(2)
    videos = video(2, 3)
    first = says(name, model, on_videos(samples, videos))
    assert not same(first, says(name, model, on_videos(samples, videos[:, :, :2])))
    for frame in range(3):
        other = videos.clone()
        other[:, :, frame] = video(2, 1, seed=9)[:, :, 0]
        found = says(name, model, on_videos(samples, other))
        numbers = [[v for v in row if isinstance(v, Tensor)] for row in found]
        before = [[v for v in row if isinstance(v, Tensor)] for row in first]
        assert not same(numbers, before)


@pytest.mark.parametrize("name", MODELS)
def test_repeated_frames_do_not_count(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary).eval(), TINY[name].samples(2)
    videos = video(2, 2)
    padded = torch.cat([videos, videos[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)  # 5 frames
    expected = says(name, model, on_videos(samples, videos))
    counts = torch.tensor([2, 2])
    given = on_videos(samples, padded, num_frames=counts)
    if "feature" in name:  # tokens of all frames are given
        found = model.extract_features(given, mode=["image", "multimodal"])
        wanted = model.extract_features(on_videos(samples, videos), mode=["image", "multimodal"])
        torch.testing.assert_close(found.image_embeds_proj, wanted.image_embeds_proj)
        torch.testing.assert_close(found.multimodal_embeds, wanted.multimodal_embeds)
        return
    close(says(name, model, given), expected)
    full = on_videos(samples, videos, num_frames=counts)
    close(says(name, model, full), expected)
    without = on_videos(samples, padded)
    assert not same(says(name, model, without), says(name, model, given))


@pytest.mark.parametrize("name", MODELS)
def test_a_video_is_the_same_in_any_batch(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary).eval(), TINY[name].samples(3)
    batch = on_videos(samples, video(3, 3), num_frames=torch.tensor([3, 1, 2]))
    together = says(name, model, batch)
    for row in range(3):
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        close(says(name, model, alone), together[row : row + 1])


@pytest.mark.parametrize("name", COMPARING)
def test_frames_are_averaged_by_hand(name: str, vocabulary: Path) -> None:
    model, videos = build(name, vocabulary).eval(), video(2, 3)
    seen = model.embed_images(videos)
    frames = [model.image_tokens(videos[:, :, t]) for t in range(3)]  # (B, N, E) each
    mean = sum(model.vision_proj(tokens[:, 0]) for tokens in frames) / 3
    torch.testing.assert_close(seen.projected, F.normalize(mean, dim=-1))
    torch.testing.assert_close(seen.tokens, torch.cat(frames, dim=1))
    counted = model.embed_videos(videos, torch.tensor([2, 1]))
    of_two = (model.vision_proj(frames[0][0, 0]) + model.vision_proj(frames[1][0, 0])) / 2
    torch.testing.assert_close(counted.projected[0], F.normalize(of_two, dim=-1))
    torch.testing.assert_close(
        counted.projected[1], F.normalize(model.vision_proj(frames[0][1, 0]), dim=-1)
    )
    num_tokens = frames[0].shape[1]
    assert counted.num_tokens.tolist() == [2 * num_tokens, num_tokens]


@pytest.mark.parametrize("name", COMPARING)
def test_a_text_is_judged_by_the_tokens_of_all_frames(name: str, vocabulary: Path) -> None:
    model, videos = build(name, vocabulary).eval(), video(1, 3)
    texts = model.embed_texts(["a red cat", "the dog"])
    judged = model.match_pairs(model.embed_images(videos).tokens[0], texts)
    context = model.bert.see(torch.cat([model.image_tokens(videos[:, :, t]) for t in range(3)], 1))
    for row, text in enumerate(["a red cat", "the dog"]):
        states = model.fuse(model.bert, model.tokenize(text), context)
        torch.testing.assert_close(judged[row], model.itm_head(states[:, 0])[0, 1])


def test_features_of_a_video_are_those_of_retrieval(vocabulary: Path) -> None:
    model = build("blip_feature_extractor", vocabulary).eval()
    videos = video(2, 3)
    found = model.extract_features({"video": videos}, mode="image")
    assert found.image_embeds.shape[1] == 3 * found.image_embeds_proj.shape[1]
    torch.testing.assert_close(found.image_embeds_proj[:, 0], model.embed_images(videos).projected)


@pytest.mark.parametrize("name", [n for n in MODELS if TINY[n].trains])
def test_training_on_videos(name: str, vocabulary: Path) -> None:
    model, samples = build(name, vocabulary), TINY[name].samples(3)
    loss = model(on_videos(samples, video(3, 2))).loss
    loss.backward()
    gradient = model.visual_encoder.patch_embed.proj.weight.grad
    assert loss.isfinite() and gradient.isfinite().all() and gradient.abs().sum() > 0


def test_momentum_copies_that_teach_look_at_frames_too(vocabulary: Path) -> None:
    for name in ("albef_vqa", "albef_classification"):
        model = build(name, vocabulary, use_distill=True, alpha=0.4)
        samples = on_videos(TINY[name].samples(2), video(2, 3), num_frames=torch.tensor([3, 2]))
        inner = model(samples).intermediate_output
        assert inner.image_embeds_m.shape == inner.image_embeds.shape


def test_a_video_may_be_asked_several_questions(vocabulary: Path) -> None:
    model = build("blip_vqa", vocabulary).eval()
    given = {"video": video(1, 3), "num_frames": torch.tensor([2])}
    questions = ["a red cat", "the dog sits"]
    options = {"inference_method": "generate", "max_len": 6}
    both = model.predict_answers({**given, "text_input": questions}, **options)
    alone = [model.predict_answers({**given, "text_input": [q]}, **options)[0] for q in questions]
    assert both == alone


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_of_padded_videos(vocabulary: Path, beams: int) -> None:
    model = tiny.caption_model(vocabulary)
    videos = video(2, 2)
    padded = torch.cat([videos, videos[:, :, -1:]], dim=2)
    options = {"num_beams": beams, "max_length": 12, "min_length": 6}
    found = model.generate({"video": padded, "num_frames": torch.tensor([2, 2])}, **options)
    assert found == model.generate({"video": videos}, **options)


def test_what_does_not_fit_is_told(vocabulary: Path) -> None:
    model = build("blip_caption", vocabulary).eval()
    for counts in ([1], [0, 1], [1, 4], [[1, 2]]):
        with pytest.raises(ValueError, match="num_frames must be a number from 1 to 3 for each of"):
            model.generate({"video": video(2, 3), "num_frames": torch.tensor(counts)})
    with pytest.raises(ValueError, match="images of 16 x 16 pixels, got 8 x 8"):
        model.generate({"video": video(1, 2)[..., :8, :8]})
    with pytest.raises(ValueError, match="NaN"):
        model.generate({"video": video(1, 2).fill_(float("nan"))})
    for name in ("blip_caption", "blip_vqa", "blip_classification", "blip_image_text_matching"):
        with pytest.raises(ValueError, match=r"needs samples\['image'\]"):
            says_nothing = build(name, vocabulary)
            (captions if name == "blip_caption" else _forward)(says_nothing, {"text_input": ["a"]})


def _forward(model: Any, samples: dict[str, Any]) -> Any:
    return model(samples)


# --- the parts ------------------------------------------------------------------------------------


def test_looking_frame_by_frame() -> None:
    videos = torch.arange(2 * 3 * 4).view(2, 3, 4, 1, 1)
    assert as_images(videos).shape == (8, 3, 1, 1)
    assert as_images(videos)[5].flatten().tolist() == videos[1, :, 1].flatten().tolist()
    tokens = look(torch.nn.Flatten(2), videos.float())  # (B * T, 3, 1) -> (B, T * 3, 1)
    assert tokens.shape == (2, 12, 1)
    assert tokens[1, 3:6, 0].tolist() == videos[1, :, 1].flatten().tolist()
    images = torch.rand(2, 3, 4, 4)
    assert as_images(images) is images


def test_masks_and_means_by_hand() -> None:
    samples = {"video": torch.zeros(2, 3, 3, 1, 1), "num_frames": torch.tensor([1, 3])}
    tokens = torch.tensor([[1.0, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]])[..., None]  # 2 per frame
    mask = frame_mask(samples, tokens)
    assert mask is not None
    assert mask.tolist() == [[True, True, False, False, False, False], [True] * 6]
    assert mean_of_frames(tokens, 3, mask)[..., 0].tolist() == [[1, 2], [3, 4]]
    assert mean_of_frames(tokens, 3)[..., 0].tolist() == [[3, 4], [3, 4]]
    assert mean_of_frames(tokens, 1) is tokens
    assert frame_mask({**samples, "num_frames": torch.tensor([3, 3])}, tokens) is None
    assert frame_mask({"video": samples["video"]}, tokens) is None


def test_all_models_that_see_images_are_tested() -> None:
    families = {n for n in registry.list_models() if n.startswith(("blip_", "albef_"))}
    assert families - set(MODELS) == {"blip_nlvr", "albef_nlvr"}
