"""Greedy writing and sampling, on tables of random scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.models.generation.loop import generate
from lavis_clone.models.generation.options import GenerationOptions, Written
from lavis_clone.models.generation.scores import nucleus, penalised
from tests.models.generation.toys import EOS, PAD, Table, next_state


def options(**changes: Any) -> GenerationOptions:
    defaults: dict[str, Any] = {"num_beams": 1, "min_length": 0, "max_length": 12}
    return GenerationOptions(**defaults | changes)


def write(
    table: Table, prompts: Tensor, settings: GenerationOptions, *, seed: int | None = None
) -> Written:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return generate(
        table.scorer(), prompts, options=settings, eos_id=EOS, pad_id=PAD, generator=generator
    )


def toy(*, contexts: int = 3, end_bonus: float = 2.0, seed: int = 0) -> tuple[Table, Tensor]:
    table = Table.random(seed, contexts=contexts, vocabulary=12, end_bonus=end_bonus)
    return table, torch.arange(2, 2 + contexts)[:, None]


@pytest.mark.parametrize("penalty", [1.0, 1.5, 0.7])
@pytest.mark.parametrize("min_length", [0, 7])
def test_greedy_takes_the_best_token_after_the_penalties(penalty: float, min_length: int) -> None:
    table, prompts = toy()
    settings = options(repetition_penalty=penalty, min_length=min_length)
    written = write(table, prompts, settings)
    for context, row in enumerate(written.tokens.tolist()):
        log_prob, count = 0.0, 0
        for length in range(1, len(row)):
            if EOS in row[:length]:
                assert row[length] == PAD
                continue
            history = row[:length]
            state = 0
            for token in history:
                state = next_state(state, token)
            logits = table.scores[context, state].tolist()  # the penalty is on these here
            for token in set(history):
                logits[token] *= penalty if logits[token] < 0 else 1 / penalty
            if length < min_length:
                logits[EOS] = -float("inf")
            assert row[length] == max(range(len(logits)), key=logits.__getitem__)
            log_prob += float(table.plain(context, history)[row[length]])
            count += 1
        assert written.num_tokens[context] == count
        assert written.log_prob[context].item() == pytest.approx(log_prob, abs=1e-4)


def test_writing_stops_when_every_text_has_ended() -> None:
    table, prompts = toy(end_bonus=50.0)
    written = write(table, prompts, options(max_length=12))
    assert written.tokens.tolist() == [[2, EOS], [3, EOS], [4, EOS]]
    assert written.num_tokens.tolist() == [1, 1, 1]


def test_no_text_ends_before_its_minimal_length() -> None:
    table, prompts = toy(end_bonus=50.0)
    for settings in (options(min_length=5), options(min_length=5, num_beams=3)):
        written = write(table, prompts, settings)
        assert (written.tokens[:, 5] == EOS).all()  # five tokens with the prompt, then the end
        assert (written.tokens[:, :5] != EOS).all()


def test_greedy_repeats_its_only_text_when_several_are_wanted() -> None:
    table, prompts = toy()
    one, two = write(table, prompts, options()), write(table, prompts, options(num_return=2))
    assert two.tokens.equal(one.tokens.repeat_interleave(2, dim=0))
    assert two.log_prob.equal(one.log_prob.repeat_interleave(2))


@pytest.mark.parametrize("changes", [{}, {"sample": True}, {"num_beams": 3}])
def test_a_prompt_as_long_as_the_text_may_be_is_refused(changes: dict[str, Any]) -> None:
    table, _ = toy()
    with pytest.raises(ValueError, match="counts the prompt's 4 tokens"):
        write(table, torch.full((3, 4), 2), options(max_length=4, **changes))


def test_samples_follow_the_distribution() -> None:
    table, prompts = toy(contexts=2, end_bonus=0.0)
    draws = 20_000
    settings = options(
        sample=True, num_return=draws, max_length=2, top_p=0.8, top_k=6, temperature=1.5
    )
    written = write(table, prompts, settings, seed=0)
    for context, drawn in enumerate(written.tokens[:, 1].view(2, draws)):
        state = next_state(0, int(prompts[context]))
        weights = (table.scores[context, state] / 1.5).exp().tolist()
        order = sorted(range(12), key=weights.__getitem__, reverse=True)[:6]
        total = sum(weights[v] for v in order)
        kept = [v for i, v in enumerate(order) if sum(weights[w] for w in order[:i]) < 0.8 * total]
        mass = sum(weights[v] for v in kept)
        counts = drawn.bincount(minlength=12)
        assert counts.nonzero()[:, 0].tolist() == sorted(kept)
        for v in kept:
            share = weights[v] / mass
            slack = 4 * (share * (1 - share) / draws) ** 0.5
            assert counts[v].item() / draws == pytest.approx(share, abs=slack)


def test_samples_of_one_seed_are_the_same() -> None:
    table, prompts = toy(end_bonus=0.0)
    settings = options(sample=True, num_return=4)
    first, again = write(table, prompts, settings, seed=1), write(table, prompts, settings, seed=1)
    other = write(table, prompts, settings, seed=2)
    assert first.tokens.equal(again.tokens)
    assert first.tokens.shape != other.tokens.shape or not first.tokens.equal(other.tokens)


def test_samples_of_a_prompt_stand_together_and_differ() -> None:
    table, prompts = toy(end_bonus=0.0)
    written = write(table, prompts, options(sample=True, num_return=5), seed=0)
    assert written.tokens[:, 0].tolist() == [2] * 5 + [3] * 5 + [4] * 5
    assert len({tuple(row) for row in written.tokens[:5].tolist()}) > 1


def test_the_log_probability_of_a_sample_is_that_of_the_plain_scores() -> None:
    table, prompts = toy()
    settings = options(sample=True, top_p=0.6, temperature=2.0, repetition_penalty=1.5)
    written = write(table, prompts, settings, seed=0)
    for context, row in enumerate(written.tokens.tolist()):
        count = int(written.num_tokens[context])
        parts = [table.plain(context, row[:n])[row[n]] for n in range(1, 1 + count)]
        assert written.log_prob[context].item() == pytest.approx(float(sum(parts)), abs=1e-4)


PROBABILITIES = torch.tensor([[0.1, 0.4, 0.2, 0.3]])


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, {0, 1, 2, 3}),
        (50, 1.0, {0, 1, 2, 3}),
        (4, 1.0, {0, 1, 2, 3}),
        (3, 1.0, {1, 2, 3}),
        (1, 1.0, {1}),
        (0, 0.3, {1}),
        (0, 0.5, {1, 3}),
        (0, 0.75, {1, 2, 3}),
        (0, 0.95, {0, 1, 2, 3}),
        (2, 0.6, {1, 3}),  # of the two that are left, 1 has 0.4 / 0.7 < 0.6
        (2, 0.55, {1}),  # 0.4 / 0.7 > 0.55: the sum is over what top_k left
    ],
)
def test_nucleus_by_hand(top_k: int, top_p: float, kept: set[int]) -> None:
    masked = nucleus(PROBABILITIES.log(), options=options(top_k=top_k, top_p=top_p))
    assert set(masked[0].isfinite().nonzero()[:, 0].tolist()) == kept
    assert masked[0, sorted(kept)].equal(PROBABILITIES.log()[0, sorted(kept)])


def test_temperature_flattens_before_the_nucleus_is_taken() -> None:
    logits = PROBABILITIES.log()
    sharp = nucleus(logits, options=options(temperature=0.1, top_p=0.9, top_k=0))
    flat = nucleus(logits, options=options(temperature=100.0, top_p=0.9, top_k=0))
    assert sharp.isfinite().sum() == 1
    assert flat.isfinite().sum() == 4
    torch.testing.assert_close(flat, logits / 100)


def test_penalties_by_hand() -> None:
    scores = torch.tensor([[-2.0, 4.0, -1.0, 3.0], [1.0, -1.0, 2.0, -2.0]])
    tokens = torch.tensor([[0, 3, 3], [2, 2, 2]])  # a token that is held twice counts once
    given = scores.clone()
    found = penalised(
        scores, tokens, options=options(repetition_penalty=2.0, min_length=4), eos_id=EOS
    )
    inf = float("inf")
    assert found.tolist() == [[-4.0, -inf, -1.0, 1.5], [1.0, -inf, 1.0, -2.0]]
    assert scores.equal(given), "the scores that were given stay as they are"
    same = penalised(scores, tokens, options=options(min_length=3), eos_id=EOS)
    assert same.equal(scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_beams": 0}, "num_beams must be at least 1, got 0"),
        ({"max_length": 0, "min_length": 0}, "max_length must be at least 1, got 0"),
        ({"min_length": 13}, r"min_length must be between 0 and max_length \(12\), got 13"),
        ({"min_length": -1}, "min_length must be between 0"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p must be in \(0, 1\], got 1.1"),
        ({"top_k": -1}, "top_k must be at least 0, got -1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, got 0.0"),
        ({"num_return": 0}, "num_return must be at least 1, got 0"),
        ({"num_beams": 3, "num_return": 4}, "num_return must be at most 3 beams, got 4"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_sampling_may_return_more_texts_than_beams() -> None:
    assert options(sample=True, num_beams=3, num_return=9).num_return == 9
