"""Beam search against a search with lists, on tables of random scores."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lavis_clone.models.generation.loop import generate
from lavis_clone.models.generation.options import GenerationOptions, Written
from tests.models.generation.toys import EOS, PAD, Table, Text, reference


class Case(NamedTuple):
    """One search over several prompts."""

    table: Table
    prompts: Tensor
    options: GenerationOptions

    def run(self, rows: slice = slice(None)) -> Written:
        scorer = self.table[rows].scorer()
        return generate(scorer, self.prompts[rows], options=self.options, eos_id=EOS, pad_id=PAD)

    def expected(self) -> list[list[Text]]:
        prompts = self.prompts.tolist()
        return [reference(self.table, i, p, self.options) for i, p in enumerate(prompts)]


def draw(
    seed: int, *, num_beams: int | None = None, all_beams: bool = True, penalised: bool = True
) -> Case:
    """Any combination of sizes and options; ``penalised``: some with a repetition penalty."""
    dice = random.Random(seed)
    beams = dice.randint(2, 5) if num_beams is None else num_beams
    num_prompts, prompt_length = dice.randint(1, 4), dice.randint(1, 4)
    max_length = prompt_length + dice.randint(1, 12)
    vocabulary = dice.randint(11, 40)
    options = GenerationOptions(
        num_beams=beams,
        num_return=beams if all_beams else 1,
        max_length=max_length,
        min_length=dice.choice([0, 0, dice.randint(0, max_length)]),
        length_penalty=dice.choice([0.0, 0.5, 1.0, 2.0]),
        repetition_penalty=dice.choice([1.0, 1.0, 1.3, 0.8]) if penalised else 1.0,
    )
    bonus = dice.choice([0.0, 2.0, 4.0])
    table = Table.random(seed, contexts=num_prompts, vocabulary=vocabulary, end_bonus=bonus)
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(2, vocabulary, (num_prompts, prompt_length), generator=generator)
    return Case(table, prompts, options)


def padded(text: Text, length: int) -> list[int]:
    tokens = [*text.tokens, EOS] if text.ended else text.tokens
    return tokens + [PAD] * (length - len(tokens))


def assert_same(written: Written, expected: list[list[Text]], prompt_length: int) -> None:
    texts = [text for of_prompt in expected for text in of_prompt]
    longest = max(len(text.tokens) + text.ended for text in texts)
    assert written.tokens.tolist() == [padded(text, longest) for text in texts]
    log_probs = torch.tensor([float(text.log_prob) for text in texts])
    torch.testing.assert_close(written.log_prob, log_probs, rtol=1e-5, atol=1e-5)
    counts = [len(text.tokens) - prompt_length + text.ended for text in texts]
    assert written.num_tokens.tolist() == counts


@pytest.mark.parametrize("seed", range(300))
def test_beams_are_those_of_a_search_with_lists(seed: int) -> None:
    case = draw(seed)
    assert_same(case.run(), case.expected(), case.prompts.shape[1])


def test_the_toys_end_early_and_late() -> None:
    """The comparison above would say little if every search took the same way out."""
    ended = cut = stopped_early = uneven = 0
    for seed in range(60):
        case = draw(seed)
        for texts in (of_prompts := case.expected()):
            ended += any(text.ended for text in texts)
            cut += not all(text.ended for text in texts)
            lengths = [len(text.tokens) + 1 for text in texts if text.ended]
            stopped_early += len(lengths) == len(texts) and max(lengths) < case.options.max_length
        uneven += len({max(len(t.tokens) for t in texts) for texts in of_prompts}) > 1
    assert min(ended, cut, stopped_early, uneven) >= 10


@pytest.mark.parametrize("seed", range(1000, 1060))
def test_a_batch_is_each_prompt_alone(seed: int) -> None:
    case = draw(seed)
    together, count = case.run(), case.options.num_return
    for row in range(len(case.prompts)):
        alone = case.run(slice(row, row + 1))
        of_row = slice(row * count, (row + 1) * count)
        length = alone.tokens.shape[1]
        assert together.tokens[of_row, :length].equal(alone.tokens)
        assert (together.tokens[of_row, length:] == PAD).all()
        assert together.log_prob[of_row].equal(alone.log_prob)
        assert together.num_tokens[of_row].equal(alone.num_tokens)


def test_finished_prompts_are_not_scored_any_more() -> None:
    scores = Table.random(3, contexts=2, vocabulary=12, end_bonus=0.0).scores
    scores[0, :, EOS], scores[1, :, EOS] = 30.0, -30.0  # one ends at once, one never
    options = GenerationOptions(num_beams=2, max_length=20, min_length=0)
    prompts = torch.tensor([[2], [2]])
    scorer = Table(scores).scorer()
    generate(scorer, prompts, options=options, eos_id=EOS, pad_id=PAD)
    # Two prompts in the first step, two beams each in the second; then one prompt's two beams.
    assert scorer.rows_scored <= 2 + 4 + 2 * 18
    assert len(scorer.scores) == 1


@pytest.mark.parametrize("seed", range(2000, 2040))
def test_greedy_is_a_search_with_one_beam(seed: int) -> None:
    case = draw(seed, num_beams=1, penalised=False)  # it is on other numbers in greedy writing
    assert_same(case.run(), case.expected(), case.prompts.shape[1])


@pytest.mark.parametrize("seed", range(3000, 3030))
def test_several_beams_come_best_first_and_differ(seed: int) -> None:
    case = draw(seed, penalised=False)  # then the score is made of the log-probability
    options, count = case.options, case.options.num_return
    written = case.run()
    end = (written.tokens == EOS).any(dim=1).long()
    length = case.prompts.shape[1] + written.num_tokens - end
    scores = (written.log_prob / length**options.length_penalty).view(-1, count)
    assert (scores.diff(dim=1) <= 1e-6).all()
    for texts in written.tokens.view(-1, count, written.tokens.shape[1]).tolist():
        assert len({tuple(text) for text in texts}) == count


@pytest.mark.parametrize("seed", range(4000, 4020))
def test_one_text_is_the_first_of_several(seed: int) -> None:
    one, several = draw(seed, all_beams=False).run(), draw(seed).run()
    first = slice(None, None, draw(seed).options.num_beams)
    length = one.tokens.shape[1]
    assert one.tokens.equal(several.tokens[first, :length])
    assert one.log_prob.equal(several.log_prob[first])


def test_more_beams_than_half_the_vocabulary_are_refused() -> None:
    table = Table.random(0, contexts=1, vocabulary=11, end_bonus=0.0)
    options = GenerationOptions(num_beams=6, min_length=0)
    with pytest.raises(ValueError, match="at most half the vocabulary of 11, got 6"):
        generate(table.scorer(), torch.tensor([[2]]), options=options, eos_id=EOS, pad_id=PAD)
