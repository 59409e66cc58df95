"""The captioner at a toy size: its loss, its texts, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.common.reading import ConfigError
from lavis_clone.models.blip.caption import BlipCaption
from lavis_clone.models.outputs import GenerationOutput
from tests.models import tiny

PROMPT = "a picture of "
CAPTIONS = ["a picture of a red cat", "a picture of the dog sits on a house", "a picture of blue"]
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 1},
    {"num_beams": 3},
    {"num_beams": 5, "repetition_penalty": 1.4, "num_captions": 3, "distinct": True},
    {"num_beams": 3, "length_penalty": 0.0},
]


@pytest.fixture(scope="module")
def model(vocabulary: Path) -> BlipCaption:
    return tiny.caption_model(vocabulary)


def batch(captions: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    captions = CAPTIONS if captions is None else captions
    return {"image": tiny.images(len(captions)), "text_input": captions} | changes


def recomputed(
    model: BlipCaption, images: Tensor, output: GenerationOutput
) -> tuple[Tensor, Tensor]:
    """Log-probability and length of each text by one pass over the whole of it."""
    tokens, start = output.token_ids, model.prompt_length
    repeats = len(tokens) // len(images)
    embeds = model.forward_encoder({"image": images}).repeat_interleave(repeats, dim=0)
    states = model.text_decoder.bert(
        tokens, context=model.text_decoder.bert.see(embeds), causal=True
    )
    log_probs = model.text_decoder.cls.predictions(states).log_softmax(dim=-1)
    chosen = log_probs[:, :-1].gather(2, tokens[:, 1:, None])[..., 0][:, start - 1 :]
    ended = (tokens[:, start:] == model.tokenizer.sep_id).long()
    is_written = (ended.cumsum(dim=1) - ended) == 0  # up to the end token, itself included
    return (chosen * is_written).sum(dim=1), is_written.sum(dim=1)


@pytest.mark.parametrize("options", [*SEARCHES, {"use_nucleus_sampling": True}])
def test_confidence_is_the_model_s_own(model: BlipCaption, options: dict[str, Any]) -> None:
    images = tiny.images(4)
    torch.manual_seed(0)
    given = {"max_length": 14, "min_length": 5} | options
    output = model.generate_with_confidence({"image": images}, **given)
    log_prob, count = recomputed(model, images, output)
    torch.testing.assert_close(output.log_prob, log_prob, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.confidence, (log_prob / count).exp(), rtol=1e-4, atol=1e-5)
    assert (output.confidence > 0).all()
    assert (output.confidence <= 1).all()


@pytest.mark.parametrize("options", SEARCHES)
def test_captions_do_not_depend_on_the_batch(model: BlipCaption, options: dict[str, Any]) -> None:
    images = tiny.images(5, seed=3)
    together = model.generate_with_confidence({"image": images}, **options)
    alone = [model.generate_with_confidence({"image": i[None]}, **options) for i in images]
    assert together.text == [text for output in alone for text in output.text]
    assert len(set(together.text)) > 1, "all alike: the comparison would say nothing"
    torch.testing.assert_close(
        together.confidence,
        torch.cat([output.confidence for output in alone]),
        rtol=1e-4,
        atol=1e-6,
    )


def test_every_text_starts_with_the_prompt_and_loses_it(model: BlipCaption) -> None:
    output = model.generate_with_confidence({"image": tiny.images(2)}, min_length=8)
    prompt = [model.bos_id, *(model.tokenizer.id(word) for word in PROMPT.split())]
    assert model.prompt_length == len(prompt) == 4
    for ids, text in zip(output.token_ids.tolist(), output.text, strict=True):
        assert ids[:4] == prompt
        assert model.tokenizer.decode(ids) == PROMPT + text
    assert model.generate({"image": tiny.images(2)}, min_length=8) == output.text


def test_lengths_count_the_prompt(model: BlipCaption) -> None:
    for options in SEARCHES[:2]:
        output = model.generate_with_confidence(
            {"image": tiny.images(6)}, max_length=9, min_length=7, **options
        )
        ends = output.token_ids == model.tokenizer.sep_id
        assert output.token_ids.shape[1] <= 9
        assert not ends[:, :7].any()


def test_beams_beat_greedy_more_often_than_not(model: BlipCaption) -> None:
    images = {"image": tiny.images(24)}
    given: dict[str, Any] = {"max_length": 12, "min_length": 0, "length_penalty": 0.0}
    greedy = model.generate_with_confidence(images, num_beams=1, **given)
    beams = model.generate_with_confidence(images, num_beams=5, **given)
    assert beams.log_prob.mean() > greedy.log_prob.mean()


def test_several_captions_repeat_the_best_or_are_distinct(model: BlipCaption) -> None:
    images = {"image": tiny.images(2)}
    one = model.generate(images, num_beams=3)
    assert model.generate(images, num_beams=3, num_captions=2) == [t for t in one for _ in (0, 1)]
    several = model.generate_with_confidence(images, num_captions=3, distinct=True)
    assert several.text[::3] == one
    assert len({tuple(ids) for ids in several.token_ids[:3].tolist()}) == 3
    drawn = model.generate(images, use_nucleus_sampling=True, num_captions=4)
    assert len(drawn) == 8


def test_draws_follow_the_generator(model: BlipCaption) -> None:
    def draw(seed: int) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        return model.generate(
            {"image": tiny.images(4)}, use_nucleus_sampling=True, generator=generator
        )

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


def test_an_own_vocabulary_may_have_a_padded_table(vocabulary: Path) -> None:
    model = tiny.caption_model(vocabulary, med=tiny.text_block(vocab_size=128))
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[100:] += 50.0
    assert model.generate({"image": tiny.images(1)}) == [""]  # it wrote what no word stands for


def test_the_loss_is_on_what_follows_the_prompt(model: BlipCaption) -> None:
    output = model(batch())
    logits = output.intermediate_output.decoder_output.logits
    labels = output.intermediate_output.decoder_labels
    ids = [model.tokenizer([text]).input_ids[0].tolist() for text in CAPTIONS]
    losses = []
    for row, expected in enumerate(ids):
        assert labels[row, :4].tolist() == [-100] * 4  # [DEC] a picture of
        assert labels[row, 4 : len(expected)].tolist() == expected[4:]
        assert (labels[row, len(expected) :] == -100).all()
        log_probs = logits[row].log_softmax(dim=-1)
        for place in range(4, len(expected)):
            scores = -log_probs[place - 1]
            losses.append(0.9 * scores[expected[place]] + 0.1 * scores.mean())
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    assert output.loss_lm is output.loss


def test_padding_does_not_change_the_loss(model: BlipCaption) -> None:
    rows, counts = [], []
    for row, caption in enumerate(CAPTIONS):
        alone = model({"image": tiny.images(3)[row : row + 1], "text_input": [caption]})
        rows.append(alone.loss)
        counts.append(len(model.tokenizer([caption]).input_ids[0]) - 4)
    weights = torch.tensor(counts) / sum(counts)
    torch.testing.assert_close(model(batch()).loss, (torch.stack(rows) * weights).sum())


def test_a_caption_too_long_keeps_its_end(model: BlipCaption) -> None:
    long = batch([PROMPT + "red cat and " * 20])
    labels = model(long).intermediate_output.decoder_labels
    assert labels.shape[1] == model.config.max_txt_len
    assert labels[0, -1] == model.tokenizer.sep_id


def test_a_caption_that_is_only_the_prompt_teaches_the_end(model: BlipCaption) -> None:
    labels = model(batch([PROMPT])).intermediate_output.decoder_labels
    assert labels[0].tolist() == [-100] * 4 + [model.tokenizer.sep_id]


def test_a_blank_caption_among_others_counts_nothing(model: BlipCaption) -> None:
    with_blank = model(batch([CAPTIONS[0], "", "  "]))
    assert with_blank.loss.isfinite()
    images = tiny.images(3)[:1]
    torch.testing.assert_close(
        with_blank.loss, model({"image": images, "text_input": CAPTIONS[:1]}).loss
    )


@pytest.mark.parametrize("captions", [["", " "], ["a"], ["\n\t"]])
def test_captions_that_say_nothing_are_refused(model: BlipCaption, captions: list[str]) -> None:
    with pytest.raises(ValueError, match="no caption goes on after the prompt 'a picture of '"):
        model(batch(captions))


def test_a_single_caption_may_stand_without_a_list(model: BlipCaption) -> None:
    images = tiny.images(1)
    plain = model({"image": images, "text_input": CAPTIONS[0]})
    assert plain.loss.equal(model({"image": images, "text_input": [CAPTIONS[0]]}).loss)


def test_captions_and_images_must_be_as_many(model: BlipCaption) -> None:
    with pytest.raises(ValueError, match="2 images but 3 texts"):
        model(batch(image=tiny.images(2)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (tiny.images(3, size=24), "takes images of 16 x 16 pixels, got 24 x 24"),
        (torch.full((3, 3, 16, 16), float("nan")), "NaN or infinite"),
        (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), "floating point, got torch.uint8"),
        (torch.zeros(3, 16, 16), r"must be \(B, 3, H, W\), got \(3, 16, 16\)"),
    ],
)
def test_bad_images_are_refused(model: BlipCaption, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(batch(image=images))
    with pytest.raises(ValueError, match=message):
        model.generate({"image": images})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_captions": 0}, "num_return must be at least 1, got 0"),
        ({"num_captions": 0, "use_nucleus_sampling": True}, "num_return must be at least 1"),
        ({"num_captions": 4, "distinct": True}, "num_return must be at most 3 beams, got 4"),
        ({"num_beams": 0}, "num_beams must be at least 1, got 0"),
        ({"num_beams": 40}, "num_beams must be at most half the vocabulary of 78, got 40"),
        ({"max_length": 5}, r"min_length must be between 0 and max_length \(5\), got 10"),
        ({"max_length": 4, "min_length": 1}, "counts the prompt's 4 tokens"),
        ({"max_length": 33}, r"max_length \(33\) must be at most the model's 32 positions"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
    ],
)
def test_bad_options_are_refused(model: BlipCaption, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate({"image": tiny.images(1)}, **options)


@pytest.mark.parametrize(
    ("med", "message"),
    [
        ({"encoder_width": 9}, r"med.encoder_width \(9\) must be the width of the vision tower"),
        ({"vocab_size": 20}, r"med.vocab_size \(20\) is smaller than the vocabulary"),
    ],
)
def test_towers_that_do_not_fit_are_refused(
    vocabulary: Path, med: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, ConfigError), match=message):
        tiny.caption_model(vocabulary, med=tiny.text_block(**med))


def test_a_prompt_of_unknown_words_is_refused(vocabulary: Path) -> None:
    with pytest.raises(ValueError, match="the vocabulary has no words for the prompt '猫 '"):
        tiny.caption_model(vocabulary, prompt="猫 ")


def test_images_take_the_precision_of_the_model(vocabulary: Path) -> None:
    model, images = tiny.caption_model(vocabulary), tiny.images(2)
    assert model.generate({"image": images.double()}) == model.generate({"image": images})
    assert len(model.bfloat16().generate({"image": images})) == 2


def test_training_lowers_the_loss_until_the_captions_are_known(vocabulary: Path) -> None:
    torch.manual_seed(0)
    med = tiny.text_block(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BlipCaption.from_config(tiny.caption_block(vocabulary, med=med, label_smoothing=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(80):
        output = model(batch())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.1 * losses[0]
    written = model.eval().generate({"image": tiny.images(3)}, num_beams=3, min_length=0)
    assert written == [caption.removeprefix(PROMPT) for caption in CAPTIONS]


def test_evaluation_is_deterministic_and_training_is_not(vocabulary: Path) -> None:
    model = tiny.caption_model(vocabulary)
    assert model(batch()).loss.equal(model(batch()).loss)
    model.train()
    assert not model(batch()).loss.equal(model(batch()).loss)


def test_any_backbone_can_see_for_it(vocabulary: Path) -> None:
    vit = {"timm": "resnet10t"}
    model = tiny.caption_model(vocabulary, vit=vit)
    assert model.text_decoder.bert.config.encoder_width == 512
    assert len(model.generate({"image": tiny.images(2, size=48)})) == 2
    model(batch(image=tiny.images(3, size=32))).loss.backward()
    assert model.get_parameter("visual_encoder.norm.weight").grad is not None


@pytest.mark.parametrize(
    "block, says",
    [
        ({"vit": {"num_heads": 5}}, "embed_dim"),
        ({"vit": {"depth": 0}}, "depth"),
        ({"vit": {"drop_path_rate": 1.5}}, "drop_path_rate"),
        ({"med": {"hidden_size": 0}}, "hidden_size"),
        ({"med": {"hidden_dropout_prob": -0.1}}, "hidden_dropout_prob"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_impossible_sizes_and_rates_are_told_before_anything_is_built(block, says):
    with pytest.raises(ConfigError, match=says):
        BlipCaption.from_config(block)
