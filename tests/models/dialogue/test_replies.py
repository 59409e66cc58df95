"""Replies: a dialogue's in a batch is its own alone, and is what an exhaustive search finds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lavis_clone.models.dialogue.model import GPTDialogue
from tests.models.dialogue.making import batch, sample

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 3},
    "short beams": {"num_beams": 4, "length_penalty": 0.3, "max_length": 3},
    "at least": {"num_beams": 2, "min_length": 6},
    "no repeats": {"num_beams": 1, "repetition_penalty": 1.5},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("left", [False, True])
def test_a_reply_in_a_batch_is_the_reply_alone(
    model: GPTDialogue, words: Any, way: str, left: bool
) -> None:
    options = {"max_length": 8, **WAYS[way]}
    samples = batch(words, left_video=left, left_text=left)
    together = model.generate_replies(samples, **options)
    assert len(together.text) == 3
    assert len({*together.text}) > 1
    for row in range(3):
        alone = model.generate_replies(sample(words, row), **options)
        assert alone.text == together.text[row : row + 1]
        torch.testing.assert_close(alone.confidence, together.confidence[row : row + 1])
        torch.testing.assert_close(alone.log_prob, together.log_prob[row : row + 1])


def test_the_given_answer_is_not_read(model: GPTDialogue, words: Any) -> None:
    samples = batch(words)
    expected = model.generate_replies(samples, max_length=6)
    is_answer = samples["labels"] >= 0
    other = {**samples, "input_ids": samples["input_ids"].masked_fill(is_answer, 5)}
    assert model.generate_replies(other, max_length=6).token_ids.equal(expected.token_ids)
    unlabelled = sample(words, 0)
    count = int((unlabelled["labels"] >= 0).sum())
    prompt = {
        "input_ids": unlabelled["input_ids"][:, :-count],
        "token_type_ids": unlabelled["token_type_ids"][:, :-count],
        "video_fts": unlabelled["video_fts"],
    }
    alone = model.generate_replies(prompt, max_length=6)
    assert alone.text == expected.text[:1]
    assert model.generate(prompt, max_length=6) == alone.text


def test_greedy_is_the_best_token_each_time(model: GPTDialogue, words: Any) -> None:
    """Against reading everything anew for each token."""
    samples = sample(words, 1)
    count = int((samples["labels"] >= 0).sum())
    ids, types = samples["input_ids"][:, :-count], samples["token_type_ids"][:, :-count]
    answerer, eos = words.id("<speaker2>"), words.id("<eos>")
    written: list[int] = []
    log_prob = 0.0
    while len(written) < 7 and eos not in written:
        read = {"input_ids": ids, "token_type_ids": types, "video_fts": samples["video_fts"]}
        states = model.states(model.tell(read))[:, -1]
        logits = model.lm_head(states)[0].log_softmax(dim=0)
        if not written:
            logits[eos] = -math.inf  # an answer has one token at least
        written.append(int(logits.argmax()))
        log_prob += logits.max().item()
        ids = torch.cat([ids, torch.tensor([[written[-1]]])], dim=1)
        types = torch.cat([types, torch.tensor([[answerer]])], dim=1)
    output = model.generate_replies(samples, num_beams=1, max_length=7)
    assert output.token_ids[0, 1 : 1 + len(written)].tolist() == written
    assert float(output.log_prob) == pytest.approx(log_prob, abs=1e-4)
    assert float(output.confidence) == pytest.approx(math.exp(log_prob / len(written)), abs=1e-4)
    assert output.text == [words.decode(written)]


@torch.no_grad()
def test_beams_find_the_best_of_all_answers(model: GPTDialogue, words: Any) -> None:
    """Against every answer of two tokens."""
    count = int((sample(words, 0)["labels"] >= 0).sum())
    given = {k: v for k, v in sample(words, 0).items() if k not in ("labels", "attn_mask")}
    prompt = {k: v[:, :-count] if k != "video_fts" else v for k, v in given.items()}
    first = model.lm_head(model.states(model.tell(prompt)))[0, -1].log_softmax(dim=0)  # (V,)
    first[words.id("<eos>")] = -math.inf
    everything = torch.arange(len(first))[:, None]
    repeated = {k: v.expand(len(first), *v.shape[1:]) for k, v in prompt.items()}
    types = torch.full_like(everything, words.id("<speaker2>"))
    read = {
        "input_ids": torch.cat([repeated["input_ids"], everything], dim=1),
        "token_type_ids": torch.cat([repeated["token_type_ids"], types], dim=1),
        "video_fts": repeated["video_fts"],
    }
    second = model.lm_head(model.states(model.tell(read))[:, -1]).log_softmax(dim=1)  # (V, V)
    best, place = (first[:, None] + second).flatten().topk(3)
    output = model.generate_replies(
        batch(words), num_beams=140, num_return=3, max_length=2, length_penalty=0.0
    )
    torch.testing.assert_close(output.log_prob[:3], best, atol=1e-4, rtol=1e-5)
    expected = torch.stack([place // len(first), place % len(first)], dim=1)
    assert output.token_ids[:3, 1:3].equal(expected)


def test_a_likelihood_is_the_same_whoever_wrote_the_answer(model: GPTDialogue, words: Any) -> None:
    """What a reply's log-probability is said to be, when the reply is given as the answer."""
    samples = sample(words, 2)
    output = model.generate_replies(samples, num_beams=2, max_length=6)
    reply = output.token_ids[:, 1:]
    reply = reply[:, : int((reply != words.id("<pad>")).sum())]
    count = int((samples["labels"] >= 0).sum())
    ids = torch.cat([samples["input_ids"][:, :-count], reply], dim=1)
    labels = torch.cat([samples["labels"][:, :-count], reply], dim=1)
    types = torch.cat(
        [
            samples["token_type_ids"][:, :-count],
            torch.full_like(reply, words.id("<speaker2>")),
        ],
        dim=1,
    )
    given = {"input_ids": ids, "labels": labels, "token_type_ids": types}
    scores = model.score_replies({**given, "video_fts": samples["video_fts"]})
    torch.testing.assert_close(scores.log_prob, output.log_prob, atol=1e-4, rtol=1e-4)


def test_draws_repeat_by_their_seed(model: GPTDialogue, words: Any) -> None:
    samples = batch(words)

    def draw(seed: int, **options: Any) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return model.generate_replies(
            samples, use_nucleus_sampling=True, max_length=6, generator=generator, **options
        )

    first = draw(1, num_return=3)
    assert len(first.text) == 9
    assert draw(1, num_return=3).text == first.text
    assert draw(2, num_return=3).text != first.text
    greedy = model.generate_replies(samples, num_beams=1, max_length=6)
    assert draw(3, top_p=1e-6).text == greedy.text
    assert draw(3, top_k=1).text == greedy.text
    assert ((first.confidence > 0) & (first.confidence <= 1)).all()


def test_lengths_are_those_of_the_answer(model: GPTDialogue, words: Any) -> None:
    samples, eos = batch(words), words.id("<eos>")
    for beams in (1, 3):
        options: dict[str, Any] = {"num_beams": beams, "min_length": 4, "max_length": 4}
        ids = model.generate_replies(samples, **options).token_ids
        assert ids.shape == (3, 5)  # with the token that stands for the start
        assert not (ids == eos).any()


def test_many_beams_need_many_words(model: GPTDialogue, words: Any) -> None:
    with pytest.raises(ValueError, match="num_beams must be at most half the vocabulary"):
        model.generate_replies(batch(words), num_beams=400)
    with pytest.raises(ValueError, match="top_p must be in"):
        model.generate_replies(batch(words), use_nucleus_sampling=True, top_p=2.0)
