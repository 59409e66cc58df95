"""Writes text one token at a time, always taking the best token or drawing one.

It knows ids and scores, not images, tokenizers or families.
Shapes: B prompts, S texts per prompt, N = B * S texts, P prompt tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lavis_clone.models.generation.beam import beam_search
from lavis_clone.models.generation.options import GenerationOptions, TokenScorer, Written
from lavis_clone.models.generation.scores import nucleus, penalised


@torch.no_grad()
def generate(
    scorer: TokenScorer,
    prompt: Tensor,
    *,
    options: GenerationOptions,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator | None = None,
) -> Written:
    """Continue each prompt until its texts have ended or the length is reached.

    Args:
        scorer: Knows one context per prompt.
        prompt: ``(B, P)`` token ids.
        generator: Source of the draws when ``options.sample``.

    Raises:
        ValueError: The prompt alone reaches ``max_length``.
    """
    if prompt.shape[1] >= options.max_length:
        raise ValueError(
            f"max_length ({options.max_length}) counts the prompt's {prompt.shape[1]} tokens "
            "and must be larger"
        )
    if options.num_beams > 1 and not options.sample:
        return beam_search(scorer, prompt, options=options, eos_id=eos_id, pad_id=pad_id)
    return _one_by_one(
        scorer, prompt, options=options, eos_id=eos_id, pad_id=pad_id, generator=generator
    )


def _one_by_one(
    scorer: TokenScorer,
    prompt: Tensor,
    *,
    options: GenerationOptions,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator | None,
) -> Written:
    per_prompt = options.num_return if options.sample else 1
    rows = torch.arange(len(prompt), device=prompt.device).repeat_interleave(per_prompt)
    logits = scorer(prompt).index_select(0, rows)  # (N, V)
    scorer.select_rows(rows)
    tokens = prompt.index_select(0, rows)
    log_prob = logits.new_zeros(len(tokens), dtype=torch.float32)
    num_tokens = torch.zeros_like(rows)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    while True:
        choice = _choose(logits.float(), tokens, options, eos_id, generator)  # (N,)
        chosen = logits.float().log_softmax(dim=1).gather(1, choice[:, None])[:, 0]
        log_prob = log_prob + chosen.masked_fill(ended, 0.0)
        num_tokens = num_tokens + ~ended
        choice = choice.masked_fill(ended, pad_id)
        tokens = torch.cat([tokens, choice[:, None]], dim=1)
        ended = ended | (choice == eos_id)
        if tokens.shape[1] >= options.max_length or ended.all():
            break
        logits = scorer(choice[:, None])
    if not options.sample and options.num_return > 1:  # every greedy text of a prompt is the same
        same = torch.arange(len(tokens), device=tokens.device).repeat_interleave(options.num_return)
        tokens, log_prob, num_tokens = tokens[same], log_prob[same], num_tokens[same]
    return Written(tokens, log_prob, num_tokens)


def _choose(
    logits: Tensor,
    tokens: Tensor,
    options: GenerationOptions,
    eos_id: int,
    generator: torch.Generator | None,
) -> Tensor:
    """``(N, V) -> (N,)``"""
    logits = penalised(logits, tokens, options=options, eos_id=eos_id)
    if not options.sample:
        return logits.argmax(dim=1)
    probs = nucleus(logits, options=options).softmax(dim=1)
    return torch.multinomial(probs, num_samples=1, generator=generator)[:, 0]
