"""Videos and texts: compared among all processes, judged in pairs, and turned into vectors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from lavis_clone.models.alpro.retrieval import AlproRetrieval
from lavis_clone.models.heads import matching
from tests.common.processes import run_distributed
from tests.models import tiny
from tests.models.alpro.dist_scripts import one_process
from tests.models.alpro.toys import TEXTS, model_of, samples, sizes

NAMES = ("alpro_retrieval", "alpro_pretrain")


def alone(model: Any, video: torch.Tensor, text: str) -> torch.Tensor:
    """The match logits of one pair, ``(2,)``."""
    context = model.bert.see(model.image_tokens(video[None]))
    return model.itm_head(model.fuse(model.bert, model.tokenize([text]), context)[0, 0])


def test_the_contrast_is_a_softmax_over_the_batch(vocabulary: Path) -> None:
    model, batch = model_of("alpro_retrieval", vocabulary), samples(3)
    expected, grads = one_process(copy.deepcopy(model), batch)
    step = model.contrast(batch)
    torch.testing.assert_close(step.loss.detach(), expected)
    step.loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, grads[name], msg=name)


def test_two_processes_learn_as_one() -> None:
    run_distributed("tests.models.alpro.dist_scripts", "halves_learn_as_the_whole")


@pytest.mark.parametrize("name", NAMES)
def test_training_judges_pairs_as_reading_each_alone_does(name: str, vocabulary: Path) -> None:
    model, batch = model_of(name, vocabulary), samples(2)
    inner = model(batch).intermediate_output
    pairs = [(0, 0), (1, 1), (1, 0), (0, 1), (0, 1), (1, 0)]  # wrong videos, then wrong texts
    for row, (video, text) in enumerate(pairs):
        expected = alone(model, batch["video"][video], TEXTS[text])
        torch.testing.assert_close(inner.vtm_logits[row], expected)
    assert inner.vtm_labels.tolist() == [1, 1, 0, 0, 0, 0]


def test_the_loss_is_the_sum_of_its_parts(vocabulary: Path) -> None:
    output = model_of("alpro_retrieval", vocabulary)(samples(3))
    inner = output.intermediate_output
    torch.testing.assert_close(output.loss, output.loss_vtc + output.loss_vtm)
    expected = F.cross_entropy(inner.vtm_logits, inner.vtm_labels)
    torch.testing.assert_close(output.loss_vtm, expected)
    assert set(output.keys()) == {"loss", "loss_vtc", "loss_vtm", "sims", "intermediate_output"}
    assert inner.video_embeds.shape == (3, 5, 12)
    assert inner.text_embeds.shape == (3, 12, 12)  # as long as the limit, in evaluation


def test_padding_changes_no_loss(vocabulary: Path) -> None:
    med = tiny.text_block(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = model_of("alpro_retrieval", vocabulary, med=med)
    evaluated, trained = model(samples(2)), copy.deepcopy(model).train()(samples(2))
    torch.testing.assert_close(trained.loss_vtc, evaluated.loss_vtc)
    torch.testing.assert_close(trained.loss_vtm, evaluated.loss_vtm)
    assert trained.intermediate_output.text_embeds.shape[1] == 8


def test_a_batch_of_one_has_no_wrong_partner(vocabulary: Path) -> None:
    output = model_of("alpro_retrieval", vocabulary)(samples(1))
    assert not output.loss_vtc.detach().any()
    logits = output.intermediate_output.vtm_logits
    expected = F.cross_entropy(logits[:1], torch.ones(1, dtype=torch.long))
    torch.testing.assert_close(output.loss_vtm, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fusion_layer", [0, 1])
def test_match_pairs_equals_reading_each_pair_alone(
    fusion_layer: int, name: str, vocabulary: Path
) -> None:
    med = tiny.text_block(fusion_layer=fusion_layer)
    model = model_of(name, vocabulary, med=med)
    videos = tiny.videos(2)
    images, texts = model.embed_images(videos), model.embed_texts(TEXTS)
    for video in range(2):
        found = model.match_pairs(images.tokens[video], texts)
        expected = [alone(model, videos[video], text)[1] for text in TEXTS]
        torch.testing.assert_close(found, torch.stack(expected))


def test_batches_of_pairs_count_the_video_s_tokens(vocabulary: Path) -> None:
    model = model_of("alpro_retrieval", vocabulary)
    images, texts = model.embed_images(tiny.videos(1)), model.embed_texts(TEXTS)
    whole = model.match_pairs(images.tokens[0], texts)
    lengths = []
    resume = model.bert.resume

    def watched(states: torch.Tensor, **options: Any) -> torch.Tensor:
        lengths.append(len(states) * (states.shape[1] + options["context"].num_joined))
        return resume(states, **options)

    with (
        mock.patch.object(matching, "TOKENS_AT_ONCE", 30),
        mock.patch.object(model.bert, "resume", watched),
    ):
        parts = model.match_pairs(images.tokens[0], texts)
    torch.testing.assert_close(parts, whole)
    assert len(lengths) > 2
    assert max(lengths) <= 30


@pytest.mark.parametrize("limit", [6, 12, 20])
def test_texts_are_read_up_to_the_limit(limit: int, vocabulary: Path) -> None:
    model = model_of("alpro_retrieval", vocabulary, max_txt_len=limit)
    texts = model.embed_texts(["the dog runs on and on and on", "a cat"])
    assert texts.input_ids.shape == (2, limit)
    assert texts.states is not None
    assert texts.states.shape == (2, limit, 12)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_any_number_of_frames_will_do(frames: int, vocabulary: Path) -> None:
    model = model_of("alpro_retrieval", vocabulary)  # of two
    batch = samples(3, frames=frames)
    assert model(batch).loss.isfinite()
    whole = model.embed_images(batch["video"])
    single = model.embed_images(batch["video"][2:])
    torch.testing.assert_close(whole.projected[2:], single.projected)
    torch.testing.assert_close(whole.tokens[2:], single.tokens)


def test_a_picture_is_a_video_of_one_frame(vocabulary: Path) -> None:
    model, pictures = model_of("alpro_retrieval", vocabulary), tiny.images(2)
    found = model.embed_images(pictures).projected
    assert found.equal(model.embed_images(pictures[:, :, None]).projected)


def test_another_size(vocabulary: Path) -> None:
    timesformer = sizes(img_size=24, patch_size=4, embed_dim=24, num_frames=3)
    med = tiny.text_block(hidden_size=24, num_hidden_layers=4, fusion_layer=3)
    model = model_of("alpro_retrieval", vocabulary, timesformer=timesformer, med=med)
    output = model(samples(2, frames=4, size=24))
    assert output.intermediate_output.video_embeds.shape == (2, 37, 24)
    assert output.loss.isfinite()


def test_features_of_all_kinds(vocabulary: Path) -> None:
    model, batch = model_of("alpro_retrieval", vocabulary), samples(2)
    found = model.extract_features(batch)
    images, texts = model.embed_images(batch["video"]), model.embed_texts(batch["text_input"])
    torch.testing.assert_close(found.image_embeds, images.tokens)
    torch.testing.assert_close(found.image_embeds_proj[:, 0], images.projected)
    torch.testing.assert_close(found.text_embeds_proj[:, 0], texts.projected)
    judged = model.itm_head(found.multimodal_embeds[:, 0])
    torch.testing.assert_close(judged[1], alone(model, batch["video"][1], TEXTS[1]))
    assert found.multimodal_embeds.shape == found.text_embeds.shape
    only = model.extract_features({"text_input": TEXTS[:2]}, mode="text")
    assert set(only.keys()) == {"text_embeds", "text_embeds_proj"}
    with pytest.raises(ValueError, match=r"needs samples\['video'\]"):
        model.extract_features({"image": tiny.images(1)}, mode="image")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (samples(3) | {"video": tiny.videos(2)}, "2 videos but 3 texts"),
        ({"text_input": ["a cat"]}, r"AlproRetrieval needs samples\['video'\]"),
        (samples(1, size=24), "takes frames of 16 x 16 pixels, got 24 x 24"),
    ],
)
def test_batches_that_do_not_fit_are_refused(
    batch: dict[str, Any], message: str, vocabulary: Path
) -> None:
    model = model_of("alpro_retrieval", vocabulary)
    assert isinstance(model, AlproRetrieval)
    with pytest.raises(ValueError, match=message):
        model(batch)


def test_masked_words_are_guessed_with_the_video(vocabulary: Path) -> None:
    model, batch = model_of("alpro_pretrain", vocabulary, mlm_mask_prob=0.5), samples(3)
    torch.manual_seed(0)
    output = model(batch)
    total = output.loss_vtc + output.loss_vtm + output.loss_mlm
    torch.testing.assert_close(output.loss, total)
    torch.manual_seed(0)
    other = model(batch | {"video": tiny.videos(3, seed=1)})
    assert not torch.isclose(other.loss_mlm, output.loss_mlm)


def test_the_guess_is_the_cross_entropy_of_the_hidden_words(vocabulary: Path) -> None:
    model, batch = model_of("alpro_pretrain", vocabulary), samples(2)
    step = model.contrast(batch)
    masked = step.text.input_ids.clone()
    masked[0, 1] = masked[1, 2] = model.tokenizer.id("[MASK]")
    chosen = masked != step.text.input_ids
    text = type(step.text)(masked, step.text.mask)
    with mock.patch("lavis_clone.models.alpro.pretrain.hide_tokens", return_value=(text, chosen)):
        found = model._guess(step, model.match(step))
    states = model.fuse(model.bert, text, model.bert.see(step.tokens))
    logits = model.text_encoder.cls.predictions(torch.stack([states[0, 1], states[1, 2]]))
    words = torch.stack([step.text.input_ids[0, 1], step.text.input_ids[1, 2]])
    torch.testing.assert_close(found, F.cross_entropy(logits, words))


def test_a_text_without_a_hidden_word_gives_no_loss(vocabulary: Path) -> None:
    model = model_of("alpro_pretrain", vocabulary, mlm_mask_prob=1e-9)
    output = model(samples(2))
    assert not output.loss_mlm.detach().any()
    output.loss.backward()
    assert model.text_encoder.cls.predictions.transform.dense.weight.grad is not None
