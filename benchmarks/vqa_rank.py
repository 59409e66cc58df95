"""Time the ranking of a list of answers against repeating each question per candidate.

    python benchmarks/vqa_rank.py [--repeats 3] [--csv benchmarks/results/vqa_rank.csv]

BLIP of base size (ViT-B/16 at 384 px, 12 text and 12 decoder layers) with random weights, in fp32
on two threads: four questions about one image, 3,129 answers, of which 128 are compared in full.
Repeating means as LAVIS does it: the states of a question are copied for each of its candidates,
and each candidate is read whole, padded to the longest answer of the list. Both start from the
states of the questions, as encoding them is the same; what they choose is compared. The two take
turns, and the median of each counts.

The list is made of words of the vocabulary: VQAv2's own is not shipped. NUM_WORDS says how many
answers have how many words. As the weights are random, so are the candidates.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from report import circumstances, write_csv
from torch import Tensor
from tqdm import tqdm

from lavis_clone.common.registry import registry
from lavis_clone.models.generation.rank import Ranking, rank
from lavis_clone.models.heads.answering import Asked
from lavis_clone.models.heads.reader import Reader
from lavis_clone.models.tokenizers import TokenBatch

THREADS, IMAGE_SIZE, CANDIDATES, SMOOTHING = 2, 384, 128, 0.1
NUM_WORDS = {1: 2000, 2: 750, 3: 280, 4: 80, 5: 19}
QUESTIONS = [
    "what is the man holding in his left hand",
    "how many dogs are there",
    "is it raining",
    "what is written on the sign behind the bus",
]


def answers(words: list[str]) -> list[str]:
    """3,129 different ones."""
    drawn = torch.randperm(len(words), generator=torch.Generator().manual_seed(0)).tolist()
    found, start = [], 0
    for count, times in NUM_WORDS.items():
        for _ in range(times):
            found.append(" ".join(words[i] for i in drawn[start : start + count]))
            start += count
    return found


def repeated(model: Any, asked: Asked, candidates: TokenBatch) -> tuple[Tensor, Tensor]:
    """The losses of each question's candidates ``(B, K)``, and their places in the list."""
    decoder, ids = model.text_decoder, candidates.input_ids
    count = len(asked.states)
    start = torch.full((count, 1), model.start_id)
    context = decoder.bert.see(asked.states, asked.text.mask)
    first = decoder.cls.predictions(decoder.bert(start, context=context, causal=True)[:, -1])
    compared = first.softmax(dim=1)[:, ids[:, 1]].topk(CANDIDATES, dim=1).indices
    ids, mask = ids[compared].flatten(0, 1), candidates.mask[compared].flatten(0, 1)
    copies = asked.states.repeat_interleave(CANDIDATES, dim=0)
    seen = decoder.bert.see(copies, asked.text.mask.repeat_interleave(CANDIDATES, dim=0))
    logits = decoder.cls.predictions(decoder.bert(ids, mask=mask, context=seen, causal=True))
    losses = F.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        ids.masked_fill(~mask, -100)[:, 1:].flatten(),
        label_smoothing=SMOOTHING,
        reduction="none",
    )
    return losses.view(count, CANDIDATES, -1).sum(dim=2), compared


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    with torch.no_grad():
        result = function()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    block = {"vit_type": "base", "image_size": IMAGE_SIZE, "med": {"vocab_size": 30524}}
    model: Any = registry.get_model_class("blip_vqa").from_config(block).eval()
    with torch.no_grad():  # or all first words would be about as likely
        model.text_decoder.bert.embeddings.word_embeddings.weight.mul_(5)
        image = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
        asked = model.forward_encoder({"image": image, "text_input": QUESTIONS})
    listed = answers([w for w in model.tokenizer.tokens if w.isascii() and w.isalpha()])
    ids = model.tokenize_answers(listed)
    lengths, start = ids.mask.sum(dim=1), torch.full((len(QUESTIONS), 1), model.start_id)

    def ours() -> Ranking:
        context = model.text_decoder.bert.see(asked.states, asked.text.mask)
        reader = Reader(model.text_decoder, start, context)
        return rank(
            reader,
            ids.input_ids,
            lengths,
            num_candidates=CANDIDATES,
            label_smoothing=SMOOTHING,
        )

    seconds(ours), seconds(lambda: repeated(model, asked, ids))  # warm up
    times: list[tuple[float, float]] = []
    for _ in tqdm(range(arguments.repeats), file=sys.stderr):
        mine, found = seconds(ours)
        theirs, (losses, compared) = seconds(lambda: repeated(model, asked, ids))
        share, best = (-losses).softmax(dim=1).max(dim=1)
        torch.testing.assert_close(found.confidence, share, atol=1e-4, rtol=1e-3)
        assert found.best.equal(compared.gather(1, best[:, None])[:, 0])
        times.append((mine, theirs))
    mine, theirs = (statistics.median(t) for t in zip(*times, strict=True))
    row = {
        "questions": len(QUESTIONS),
        "answers": len(listed),
        "candidates": CANDIDATES,
        "longest_answer_tokens": int(lengths.max()),
        "mean_answer_tokens": round(lengths.float().mean().item(), 2),
        "lavis_clone_s": round(mine, 3),
        "repeated_s": round(theirs, 3),
        "ratio": round(theirs / mine, 2),
        "repeats": arguments.repeats,
        **circumstances(),
    }
    sys.stdout.write(
        f"{len(listed)} answers, {len(QUESTIONS)} questions: {mine:.2f} s, with repeated questions "
        f"{theirs:.2f} s, ratio {theirs / mine:.2f}\n"
    )
    if arguments.csv:
        write_csv(arguments.csv, [row])


if __name__ == "__main__":
    main()
