"""Answering questions in both families, against reading every answer whole and alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.models.heads.language import IGNORED
from lavis_clone.models.tokenizers import TokenBatch
from tests.models import tiny

FAMILIES = ("albef_vqa", "blip_vqa")
QUESTIONS = ["a cat on the house", "blue", "the dog runs and the bird sits on a red house"]
ANSWERS = ["a red cat", "dog", "", "blue bird", "on and on and on", "a house", "the dog", "green"]
Families = pytest.mark.parametrize("name", FAMILIES)


def model_of(name: str, vocabulary: Path, *, seed: int = 0, **changes: Any) -> Any:
    """In eval mode, with weights that are large enough to have opinions."""
    torch.manual_seed(seed)
    block = tiny.block(name)(vocabulary) | changes
    model = registry.get_model_class(name).from_config(block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def questions(*rows: int) -> dict[str, Any]:
    return {"image": tiny.images(3)[list(rows)], "text_input": [QUESTIONS[row] for row in rows]}


def batch(**changes: Any) -> dict[str, Any]:
    """Three questions with two, no and three answers."""
    given = {
        "answer": ["a red cat", "dog", "blue", "on and on", "the house"],
        "weight": torch.tensor([0.6, 0.4, 0.5, 0.2, 0.3]),
        "n_answers": torch.tensor([2, 0, 3]),
    }
    return questions(0, 1, 2) | given | changes


def log_probs(model: Any, row: int, answer: str) -> tuple[Tensor, Tensor]:
    """``(T, V)`` of each next token, and the tokens ``(T,)``, by one pass over question and answer.

    Everything is read alone: no padding, no cache, no sharing.
    """
    text = model.tokenize([QUESTIONS[row]])
    seen = model.text_encoder.see(model.image_tokens(tiny.images(3)[row : row + 1]))
    states = model.fuse(model.text_encoder, text, seen)
    ids = model.tokenizer([answer]).input_ids
    ids[:, 0] = model.start_id
    decoder = model.text_decoder
    hidden = decoder.bert(ids, context=decoder.bert.see(states), causal=True)
    return decoder.cls.predictions(hidden)[0, :-1].log_softmax(dim=1), ids[0, 1:]


def loss_of(model: Any, row: int, answer: str, smoothing: float) -> Tensor:
    found, ids = log_probs(model, row, answer)
    plain = found.gather(1, ids[:, None]).sum()
    return -(1 - smoothing) * plain - smoothing * found.mean(dim=1).sum()


def one_by_one(model: Any, row: int, count: int, smoothing: float) -> tuple[str, float, float]:
    """Answer, confidence and log-probability, with a loop over the list."""
    first = {a: log_probs(model, row, a) for a in ANSWERS}
    begins = torch.stack([found[0, ids[0]] for found, ids in first.values()])
    compared = [ANSWERS[i] for i in begins.topk(count).indices.tolist()]
    losses = torch.stack([loss_of(model, row, answer, smoothing) for answer in compared])
    best = int(losses.argmin())
    chosen = compared[best]
    log_prob = -loss_of(model, row, chosen, 0.0)
    return chosen, float((-losses).softmax(dim=0)[best]), float(log_prob)


@Families
@pytest.mark.parametrize("smoothing", [0.1, 0.0])
@pytest.mark.parametrize("count", [1, 3, len(ANSWERS)])
@torch.no_grad()
def test_ranking_is_what_reading_one_by_one_gives(
    name: str, smoothing: float, count: int, vocabulary: Path
) -> None:
    model = model_of(name, vocabulary, rank_label_smoothing=smoothing)
    output = model.predict_answers_with_confidence(
        questions(0, 1, 2), answer_list=ANSWERS, num_ans_candidates=count
    )
    expected = [one_by_one(model, row, count, smoothing) for row in range(3)]
    assert output.text == [answer for answer, _, _ in expected]
    torch.testing.assert_close(output.confidence, torch.tensor([sure for _, sure, _ in expected]))
    torch.testing.assert_close(output.log_prob, torch.tensor([log for _, _, log in expected]))
    assert model.predict_answers(
        questions(0, 1, 2), answer_list=ANSWERS, num_ans_candidates=count
    ) == (output.text)


@Families
def test_more_candidates_than_answers_are_all_of_them(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    found = [
        model.predict_answers_with_confidence(
            questions(0, 2), answer_list=ANSWERS, num_ans_candidates=count
        )
        for count in (len(ANSWERS), 128)
    ]
    assert found[0].text == found[1].text
    assert found[0].confidence.equal(found[1].confidence)


@Families
def test_a_question_is_the_same_in_any_batch(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    together = model.predict_answers_with_confidence(questions(0, 1, 2), answer_list=ANSWERS)
    for row in range(3):
        alone = model.predict_answers_with_confidence(questions(row), answer_list=ANSWERS)
        assert alone.text == together.text[row : row + 1]
        torch.testing.assert_close(alone.confidence, together.confidence[row : row + 1])


@Families
def test_several_questions_may_be_about_one_image(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    image = tiny.images(1)
    shared = model.predict_answers_with_confidence(
        {"image": image, "text_input": QUESTIONS}, answer_list=ANSWERS
    )
    repeated = model.predict_answers_with_confidence(
        {"image": image.repeat(3, 1, 1, 1), "text_input": QUESTIONS}, answer_list=ANSWERS
    )
    assert shared.text == repeated.text
    torch.testing.assert_close(shared.confidence, repeated.confidence)
    single = {"image": image, "text_input": QUESTIONS[0]}
    assert model.predict_answers(single, answer_list=ANSWERS) == shared.text[:1]


@Families
def test_a_prompt_is_put_before_or_around_every_question(name: str, vocabulary: Path) -> None:
    model = model_of(name, vocabulary)
    asked = questions(0, 1)
    for prompt, around in (("picture of ", "picture of {}"), ("the {} . cat", "the {} . cat")):
        written = [around.replace("{}", question) for question in asked["text_input"]]
        direct = model.predict_answers_with_confidence(
            asked | {"text_input": written}, answer_list=ANSWERS
        )
        prompted = model.predict_answers_with_confidence(asked, answer_list=ANSWERS, prompt=prompt)
        assert prompted.confidence.equal(direct.confidence)
        plain = model.predict_answers_with_confidence(asked, answer_list=ANSWERS)
        assert not prompted.confidence.equal(plain.confidence)


@Families
def test_a_long_list_is_turned_into_ids_once(
    name: str, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name, vocabulary)
    encoded: list[int] = []
    encode = model.tokenize_answers

    def noted(answers: list[str]) -> TokenBatch:
        encoded.append(len(answers))
        found: TokenBatch = encode(answers)
        return found

    monkeypatch.setattr(model, "tokenize_answers", noted)
    long = [f"{word} {other}" for word in tiny.WORDS[:12] for other in tiny.WORDS[:12]]

    def answers(given: list[str]) -> list[str]:
        found: list[str] = model.predict_answers(questions(0, 1, 2), answer_list=given)
        return found

    first = answers(long)
    answers(ANSWERS)  # a short list between does not drive it out
    assert answers(list(long)) == first
    assert encoded == [len(long), len(ANSWERS)]
    long[:] = [f"{answer} house" for answer in long]  # the same list with other content
    assert set(answers(long)) <= set(long)
    assert encoded == [144, len(ANSWERS), 144]


@Families
def test_the_loss_counts_every_answer_by_its_weight(name: str, vocabulary: Path) -> None:
    changes = {"use_distill": False} if name == "albef_vqa" else {}
    model, given = model_of(name, vocabulary, **changes), batch()
    output = model(given)
    rows = [0, 0, 2, 2, 2]
    losses = torch.stack(
        [
            loss_of(model, row, answer, 0.1)
            for row, answer in zip(rows, given["answer"], strict=True)
        ]
    )
    inner = output.intermediate_output
    torch.testing.assert_close(inner.decoder_output.loss, losses)
    torch.testing.assert_close(output.loss, (losses * given["weight"]).sum() / 3)
    ids = model.tokenizer(given["answer"])
    assert (inner.decoder_labels[:, 0] == model.start_id).all()
    assert inner.decoder_labels[:, 1:].equal(ids.input_ids.masked_fill(~ids.mask, IGNORED)[:, 1:])
    assert inner.decoder_output.logits.shape[:2] == ids.input_ids.shape


@Families
def test_lists_and_numbers_do_as_well_as_tensors(name: str, vocabulary: Path) -> None:
    model, given = model_of(name, vocabulary, label_smoothing=0.0), batch()
    plain = batch(weight=given["weight"].tolist(), n_answers=[2, 0, 3])
    assert copy.deepcopy(model)(plain).loss.equal(copy.deepcopy(model)(given).loss)
    assert not model(given).loss.equal(model_of(name, vocabulary)(given).loss)


@Families
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_answers": [2, 3]}, r"the 5 answers belong to each of the 3 questions, got \[2, 3\]"),
        ({"n_answers": [2, 1, 3]}, r"got \[2, 1, 3\]"),
        ({"n_answers": [6, -1, 0]}, r"got \[6, -1, 0\]"),
        ({"weight": [1.0]}, r"5 answers but weights of shape \(1,\)"),
        ({"answer": [], "weight": [], "n_answers": [0, 0, 0]}, "the 0 answers belong"),
        ({"image": tiny.images(2)}, "2 images but 3 questions"),
        ({"text_input": "the cat"}, "3 images but 1 questions"),
        ({"text_input": []}, "3 images but 0 questions"),
        ({"image": tiny.images(3, size=24)}, "16 x 16 pixels, got 24 x 24"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    name: str, changes: dict[str, Any], message: str, vocabulary: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(name, vocabulary)(batch(**changes))


@Families
@pytest.mark.parametrize("key", ["image", "text_input", "answer", "weight", "n_answers"])
def test_what_is_absent_is_named(name: str, key: str, vocabulary: Path) -> None:
    given = batch()
    del given[key]
    with pytest.raises(ValueError, match=rf"needs samples\['{key}'\]"):
        model_of(name, vocabulary)(given)


@Families
@pytest.mark.parametrize("answers", [None, [], "a red cat"])
def test_ranking_needs_a_list(name: str, answers: Any, vocabulary: Path) -> None:
    with pytest.raises(ValueError, match="'rank' needs answer_list, a list of answers"):
        model_of(name, vocabulary).predict_answers(questions(0), answer_list=answers)


@Families
def test_bad_options_are_refused(name: str, vocabulary: Path) -> None:
    model, asked = model_of(name, vocabulary), questions(0)
    with pytest.raises(ValueError, match="num_ans_candidates must be at least 1, got 0"):
        model.predict_answers(asked, answer_list=ANSWERS, num_ans_candidates=0)
    with pytest.raises(ValueError, match="has inference_method rank.*not 'guess'"):
        model.predict_answers(asked, answer_list=ANSWERS, inference_method="guess")
    with pytest.raises(TypeError, match="ranking answers has no option top_p"):
        model.predict_answers(asked, answer_list=ANSWERS, top_p=0.5)


@Families
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing \(1.0\) must lie in \[0, 1\)"),
        ({"rank_label_smoothing": -0.1}, r"rank_label_smoothing \(-0.1\) must lie in \[0, 1\)"),
        (
            {"med_decoder": {"encoder_width": 8}},
            r"med_decoder.encoder_width \(8\) must be .*\(12\)",
        ),
        ({"med_decoder": {"vocab_size": 20}}, r"med_decoder.vocab_size \(20\) is smaller"),
        ({"med_decoder": {"layers": 2}}, "med_decoder.layers: unknown key"),
    ],
)
def test_bad_blocks_are_refused(
    name: str, changes: dict[str, Any], message: str, vocabulary: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of(name, vocabulary, **changes)


@Families
def test_the_decoder_may_be_of_another_size(name: str, vocabulary: Path) -> None:
    sizes = {"hidden_size": 6, "num_attention_heads": 1, "num_hidden_layers": 3}
    model = model_of(name, vocabulary, med_decoder=sizes)
    config = model.text_decoder.bert.config
    assert (config.hidden_size, config.num_hidden_layers, config.encoder_width) == (6, 3, 12)
    assert model.to_block()["med_decoder"] == sizes
    assert set(model.predict_answers(questions(0, 1), answer_list=ANSWERS)) <= set(ANSWERS)


@Families
def test_what_it_was_taught_is_what_it_answers(name: str, vocabulary: Path) -> None:
    torch.manual_seed(0)
    med = tiny.text_block(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = registry.get_model_class(name).from_config(tiny.block(name, med=med)(vocabulary))
    taught = ["blue bird", "a red cat", "on and on and on"]
    given = questions(0, 1, 2) | {"answer": taught, "weight": [1.0] * 3, "n_answers": [1, 1, 1]}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(given).loss.backward()
        optimizer.step()
    output = model.eval().predict_answers_with_confidence(questions(0, 1, 2), answer_list=ANSWERS)
    assert output.text == taught
    assert (output.confidence > 0.5).all()
