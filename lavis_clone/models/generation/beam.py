"""Beam search with the scoring that LAVIS 1.0.2 inherits from transformers 4.26.

A text competes by its log-probability / length ** length_penalty, where the length counts the
prompt and not the end token. A prompt's search stops when its worst kept text is at least as good
as its best running beam could still become at the present length.

Shapes: B prompts, A of them still active, K beams, M running beams per prompt (1 at first, then
K), L tokens so far, C capacity in tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lavis_clone.models.generation.options import GenerationOptions, TokenScorer, Written
from lavis_clone.models.generation.scores import penalised


@dataclass
class _Texts:
    """Texts per prompt: what runs, or what is kept."""

    tokens: Tensor
    """``(A, M, L)`` or, for kept ones, ``(A, K, C)``"""
    score: Tensor
    """``(A, M)``; minus infinity where there is no text yet"""
    log_prob: Tensor
    """``(A, M)`` before any penalty"""
    length: Tensor
    """``(A, M)`` tokens, without the end"""

    def pick(self, index: Tensor) -> _Texts:
        """``(A, m)`` indices into the second axis."""
        wide = index[..., None].expand(-1, -1, self.tokens.shape[2])
        return _Texts(
            self.tokens.gather(1, wide),
            self.score.gather(1, index),
            self.log_prob.gather(1, index),
            self.length.gather(1, index),
        )

    def rows(self, index: Tensor) -> _Texts:
        """``(a,)`` indices into the first axis."""
        return _Texts(
            self.tokens[index], self.score[index], self.log_prob[index], self.length[index]
        )

    def best(self, other: _Texts, count: int) -> _Texts:
        """The ``count`` best of both, best first."""
        both = _Texts(
            torch.cat([self.tokens, other.tokens], dim=1),
            torch.cat([self.score, other.score], dim=1),
            torch.cat([self.log_prob, other.log_prob], dim=1),
            torch.cat([self.length, other.length], dim=1),
        )
        return both.pick(both.score.topk(count, dim=1).indices)


@dataclass
class _Candidates:
    """The 2 K best continuations of each prompt's beams, best first; ``(A, 2 K)`` each."""

    beam: Tensor
    token: Tensor
    score: Tensor
    log_prob: Tensor


@torch.no_grad()
def beam_search(
    scorer: TokenScorer, prompt: Tensor, *, options: GenerationOptions, eos_id: int, pad_id: int
) -> Written:
    """Search for the most likely continuations; ``generation.generate`` documents the rest.

    Prompts whose search has stopped leave the computation.

    Raises:
        ValueError: The vocabulary is too small for so many beams.
    """
    num_prompts, num_beams = len(prompt), options.num_beams
    running = _start(prompt)
    kept = _nothing(prompt, options)
    done: list[tuple[Tensor, _Texts]] = []
    active = torch.arange(num_prompts, device=prompt.device)
    logits = scorer(prompt)  # (A * M, V)
    if logits.shape[1] < 2 * num_beams:
        raise ValueError(
            f"num_beams must be at most half the vocabulary of {logits.shape[1]}, got {num_beams}"
        )
    while True:
        length = running.tokens.shape[2]
        candidates = _continuations(logits, running, options, eos_id)
        ends = candidates.token == eos_id
        kept = kept.best(_ended(running, candidates, ends, options), num_beams)
        running, parents = _go_on(running, candidates, ends, num_beams)
        ceiling = candidates.score[:, 0] / length**options.length_penalty
        stopped = kept.score[:, -1] >= ceiling  # (A,); false while fewer than K texts are kept
        if length + 1 >= options.max_length:
            unfinished = _cut_short(running, options)
            unfinished.score.masked_fill_(stopped[:, None], -torch.inf)
            done.append((active, kept.best(unfinished, num_beams)))
            break
        rows = torch.arange(len(active), device=prompt.device)[:, None] * parents.per_prompt
        rows = rows + parents.index  # (A, K)
        if stopped.any():
            done.append((active[stopped], kept.rows(stopped)))
            alive = (~stopped).nonzero()[:, 0]
            if not len(alive):
                break
            active, kept, running = active[alive], kept.rows(alive), running.rows(alive)
            rows = rows[alive]
            scorer.select_contexts(alive)
        scorer.select_rows(rows.flatten())
        logits = scorer(running.tokens[:, :, -1].flatten()[:, None])
    return _written(done, num_prompts, prompt.shape[1], options, (eos_id, pad_id))


def _start(prompt: Tensor) -> _Texts:
    """One beam per prompt: its K beams would all be the same."""
    zeros = torch.zeros(len(prompt), 1, device=prompt.device)
    length = torch.full_like(zeros, prompt.shape[1], dtype=torch.long)
    return _Texts(prompt[:, None], zeros, zeros.clone(), length)


def _nothing(prompt: Tensor, options: GenerationOptions) -> _Texts:
    shape = (len(prompt), options.num_beams)
    score = torch.full(shape, -torch.inf, device=prompt.device)
    tokens = prompt.new_zeros(*shape, options.max_length)
    return _Texts(tokens, score, torch.zeros_like(score), torch.zeros_like(score, dtype=torch.long))


def _continuations(
    logits: Tensor, running: _Texts, options: GenerationOptions, eos_id: int
) -> _Candidates:
    prompts, beams = running.score.shape
    plain = logits.float().log_softmax(dim=1)  # (A * M, V)
    scores = penalised(plain, running.tokens.flatten(0, 1), options=options, eos_id=eos_id)
    total = running.score[..., None] + scores.view(prompts, beams, -1)  # (A, M, V)
    vocabulary = total.shape[2]
    score, flat = total.flatten(1).topk(2 * options.num_beams, dim=1)
    beam, token = flat // vocabulary, flat % vocabulary
    log_prob = running.log_prob.gather(1, beam) + plain.view(prompts, -1).gather(1, flat)
    return _Candidates(beam, token, score, log_prob)


def _ended(
    running: _Texts, candidates: _Candidates, ends: Tensor, options: GenerationOptions
) -> _Texts:
    """Texts that end here, among the K best candidates; the others get minus infinity."""
    beams = options.num_beams
    texts = running.pick(candidates.beam[:, :beams])
    score = candidates.score[:, :beams] / running.tokens.shape[2] ** options.length_penalty
    texts.score = score.masked_fill(~ends[:, :beams], -torch.inf)
    texts.log_prob = candidates.log_prob[:, :beams]
    texts.tokens = _widened(texts.tokens, options.max_length)
    return texts


@dataclass
class _Parents:
    """Which running beam each new beam continues."""

    index: Tensor
    """``(A, K)``"""
    per_prompt: int
    """M, before this step"""


def _go_on(
    running: _Texts, candidates: _Candidates, ends: Tensor, num_beams: int
) -> tuple[_Texts, _Parents]:
    """The K best candidates that do not end become the running beams."""
    order = ends.int().argsort(dim=1, stable=True)[:, :num_beams]
    beam = candidates.beam.gather(1, order)
    texts = running.pick(beam)
    token = candidates.token.gather(1, order)
    texts.tokens = torch.cat([texts.tokens, token[..., None]], dim=2)
    texts.score = candidates.score.gather(1, order)
    texts.log_prob = candidates.log_prob.gather(1, order)
    texts.length = texts.length + 1
    return texts, _Parents(beam, running.score.shape[1])


def _cut_short(running: _Texts, options: GenerationOptions) -> _Texts:
    """The running beams as texts that reached the maximal length."""
    score = running.score / running.tokens.shape[2] ** options.length_penalty
    tokens = _widened(running.tokens, options.max_length)
    return _Texts(tokens, score, running.log_prob, running.length)


def _widened(tokens: Tensor, capacity: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, capacity - tokens.shape[2]))


def _written(
    done: list[tuple[Tensor, _Texts]],
    num_prompts: int,
    prompt_length: int,
    options: GenerationOptions,
    ids: tuple[int, int],
) -> Written:
    """Put the texts of all prompts in order, end them, and pad them."""
    eos_id, pad_id = ids
    order = torch.cat([active for active, _ in done]).argsort()
    count = options.num_return

    def gathered(name: str) -> Tensor:
        return torch.cat([getattr(t, name)[:, :count] for _, t in done])[order].flatten(0, 1)

    tokens, log_prob, length = gathered("tokens"), gathered("log_prob"), gathered("length")
    position = torch.arange(options.max_length, device=tokens.device)[None]
    tokens = tokens.masked_fill(position >= length[:, None], pad_id)
    tokens = tokens.masked_fill(position == length[:, None], eos_id)
    has_end = (length < options.max_length).long()
    longest = int((length + has_end).max())
    assert len(tokens) == num_prompts * count
    return Written(tokens[:, :longest], log_prob, length - prompt_length + has_end)
