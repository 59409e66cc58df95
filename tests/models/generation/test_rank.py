"""Ranking a list of answers, against reading every answer alone and from its start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lavis_clone.models.generation import rank as rank_module
from lavis_clone.models.generation.rank import Ranking, _portions, rank
from tests.models.generation.toys import EOS, PAD, Table, next_state

START, VOCABULARY = 2, 11


class TableReader:
    """The table behind the protocol of ``AnswerReader``; it notes what it was asked."""

    def __init__(self, table: Table) -> None:
        self.table, self.asked = table, torch.zeros(0, dtype=torch.long)
        self.start = next_state(torch.tensor(0), torch.tensor(START))

    def first(self) -> Tensor:
        return self.table.scores[:, self.start]

    def after(self, tokens: Tensor, needed: Tensor) -> Tensor:
        assert len(tokens) == len(self.table.scores)
        state = self.start.expand(tokens.shape[:2])
        states = []
        for column in tokens.unbind(dim=2):
            state = next_state(state, column)
            states.append(state)
        questions = torch.arange(len(tokens))[:, None, None].expand(tokens.shape)
        self.asked = torch.cat([self.asked, torch.tensor([tokens.numel()])])
        return self.table.scores[questions, torch.stack(states, dim=2)][needed]


def answers(seed: int, count: int, *, longest: int = 6) -> tuple[Tensor, Tensor]:
    """Random ones with start, end and padding; some are empty, some begin alike, some are twice."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (count,), generator=generator)
    tokens = torch.randint(3, VOCABULARY, (count, longest), generator=generator)
    place = torch.arange(longest)
    tokens[:, 0] = START
    tokens[place[None] == lengths[:, None] - 1] = EOS
    tokens[place[None] >= lengths[:, None]] = PAD
    return tokens, lengths


def losses(table: Table, question: int, text: list[int], smoothing: float) -> tuple[float, float]:
    """Smoothed loss and log-probability of a text, one token after another."""
    loss = log_prob = 0.0
    for place in range(1, len(text)):
        plain = table.plain(question, text[:place])
        log_prob += plain[text[place]]
        loss -= (1 - smoothing) * plain[text[place]] + smoothing * plain.mean()
    return float(loss), float(log_prob)


def one_by_one(
    table: Table, tokens: Tensor, lengths: Tensor, count: int, smoothing: float
) -> Ranking:
    """For each question the best of ``count`` answers, with a loop over everything."""
    chosen = []
    for question in range(len(table.scores)):
        first = torch.tensor(table.plain(question, [START]))
        compared = first[tokens[:, 1]].topk(min(count, len(tokens))).indices.tolist()
        texts = [tokens[i, : lengths[i]].tolist() for i in compared]
        found = [losses(table, question, text, smoothing) for text in texts]
        share = torch.tensor([-loss for loss, _ in found]).softmax(dim=0)
        best = int(share.argmax())
        chosen.append((compared[best], float(share[best]), found[best][1]))
    places, confidence, log_prob = (torch.tensor(column) for column in zip(*chosen, strict=True))
    return Ranking(places, confidence, log_prob)


def assert_same(found: Ranking, expected: Ranking, tokens: Tensor) -> None:
    """An answer that stands twice in the list may be either."""
    assert tokens[found.best].equal(tokens[expected.best])
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.log_prob, expected.log_prob, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("count", [1, 4, 17, 1000])
@pytest.mark.parametrize("at_once", [1, 7, 1024])
def test_it_chooses_what_reading_one_by_one_chooses(
    smoothing: float, count: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_module, "TOKENS_AT_ONCE", at_once)
    monkeypatch.setattr(rank_module, "FEW_TOKENS", min(at_once, 8))
    for seed in range(4):
        table = Table.random(seed, contexts=3, vocabulary=VOCABULARY, end_bonus=1.0)
        tokens, lengths = answers(seed, 40)
        found = rank(
            TableReader(table), tokens, lengths, num_candidates=count, label_smoothing=smoothing
        )
        assert_same(found, one_by_one(table, tokens, lengths, count, smoothing), tokens)


def test_a_question_is_answered_the_same_in_any_batch() -> None:
    table = Table.random(0, contexts=5, vocabulary=VOCABULARY, end_bonus=1.0)
    tokens, lengths = answers(0, 60)
    together = rank(TableReader(table), tokens, lengths, num_candidates=20, label_smoothing=0.1)
    assert len(set(together.best.tolist())) > 1
    for row in range(5):
        reader = TableReader(table[slice(row, row + 1)])
        alone = rank(reader, tokens, lengths, num_candidates=20, label_smoothing=0.1)
        torch.testing.assert_close(
            [alone.best[0], alone.confidence[0], alone.log_prob[0]],
            [together.best[row], together.confidence[row], together.log_prob[row]],
        )


def test_only_what_begins_likeliest_is_compared() -> None:
    table = Table.random(1, contexts=1, vocabulary=VOCABULARY, end_bonus=0.0)
    tokens = torch.tensor([[START, word, EOS] for word in range(3, VOCABULARY)])
    lengths = torch.full((len(tokens),), 3)
    table.scores[:, next_state(0, START)] = torch.arange(VOCABULARY, dtype=torch.float32)
    found = rank(TableReader(table), tokens, lengths, num_candidates=1, label_smoothing=0.1)
    assert tokens[found.best].tolist() == [[START, VOCABULARY - 1, EOS]]
    assert found.confidence.tolist() == [1.0]


def test_neither_start_nor_end_nor_padding_is_read() -> None:
    table = Table.random(2, contexts=2, vocabulary=VOCABULARY, end_bonus=0.0)
    tokens = torch.tensor([[START, 3, EOS, PAD]] * 90 + [[START, EOS, PAD, PAD]] * 9)
    tokens = torch.cat([tokens, torch.tensor([[START, 4, 5, EOS]] * 70)])
    reader = TableReader(table)
    lengths = (tokens != PAD).sum(dim=1)
    rank(reader, tokens, lengths, num_candidates=len(tokens), label_smoothing=0.1)
    assert reader.asked.tolist() == [2 * 70 * 2, 2 * 90]


def test_empty_answers_need_no_reading() -> None:
    table = Table.random(3, contexts=2, vocabulary=VOCABULARY, end_bonus=0.0)
    tokens, lengths = torch.tensor([[START, EOS]] * 3), torch.tensor([2, 2, 2])
    reader = TableReader(table)
    found = rank(reader, tokens, lengths, num_candidates=3, label_smoothing=0.1)
    assert not len(reader.asked)
    torch.testing.assert_close(found.confidence, torch.full((2,), 1 / 3))


def test_portions_hold_all_that_is_to_be_read_and_little_else() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 4, 64):
        lengths = torch.randint(0, 9, (500,), generator=generator).sort(descending=True).values
        found = list(_portions(lengths.tolist(), rows))
        covered = [i for columns, _ in found for i in range(columns.start, columns.stop)]
        read = int((lengths > 0).sum())
        assert covered[:read] == list(range(read)) and covered == list(range(len(covered)))
        for columns, length in found:
            width = columns.stop - columns.start
            assert length == lengths[columns.start]
            assert width == 1 or width * rows * length <= rank_module.TOKENS_AT_ONCE
        area = sum((columns.stop - columns.start) * length for columns, length in found)
        assert area < 1.1 * int(lengths.sum())


@pytest.mark.parametrize(
    ("count", "candidates", "message"),
    [(0, 4, "the list of answers to choose from is empty"), (3, 0, "must be at least 1, got 0")],
)
def test_nothing_to_choose_from_is_refused(count: int, candidates: int, message: str) -> None:
    table = Table.random(0, contexts=1, vocabulary=VOCABULARY, end_bonus=0.0)
    tokens, lengths = answers(0, count)
    with pytest.raises(ValueError, match=message):
        rank(TableReader(table), tokens, lengths, num_candidates=candidates, label_smoothing=0.0)
