"""Time training steps against the same computation done plainly, in one process.

    python benchmarks/train_step.py [--repeats 3] [--csv benchmarks/results/train_step.csv]

BLIP of base size (ViT-B/16, 12 text layers) with random weights, in fp32 on two threads: forward,
backward and AdamW for captions and for retrieval at 384 px, and for pre-training at 224 px. Plainly
means: texts padded to the model's limit, attention spelled out, each pair of the matching loss with
its own copy of the image's tokens, the decoder's keys and values made anew, and one weight after
the other in AdamW and in the momentum copies. Dropout is off and each step starts from the same
weights and seed, so both must come to the same loss; that is checked. The two take turns, and the
median of each counts. The vision tower does most of the work, and is the same in both.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from report import circumstances, write_csv
from torch import Tensor

from lavis_clone.common.registry import registry
from lavis_clone.models.heads.contrastive import Contrast
from lavis_clone.models.heads.matching import Matching, hard_negatives

THREADS, QUEUE = 2, 4096
JOBS = {"blip_caption": (384, 8), "blip_retrieval": (384, 8), "blip_pretrain": (224, 16)}
"""Model -> pixels, and samples per step."""
CAPTIONS = (
    "a man riding a wave on top of a surfboard",
    "two dogs are playing with a red ball in the snow",
    "a kitchen with a stove a sink and a wooden table next to a window",
    "a close up of a plate of food",
)
"""Of 8 to 14 words, as COCO's mostly are."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Tensor:
    """``(B, H, T, K), (B, H, N, K), (B, H, N, K) -> (B, H, T, K)`` in steps."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(-1) @ value


def match(model: Any, step: Contrast) -> Matching:
    """The matching loss, each of its 3 B pairs with a copy of the image's tokens."""
    among = model.candidates(step)
    floor = model.NEGATIVE_FLOOR
    wrong_text, _ = hard_negatives(among.i2t, among.belongs, floor)
    wrong_image, _ = hard_negatives(among.t2i, among.belongs, floor)
    right = model.fuse(model.bert, step.text, model.bert.see(step.tokens))
    texts, own = step.text, torch.arange(len(step.tokens))
    pairs = texts.select(torch.cat([own, wrong_text]))
    tokens = torch.cat([step.tokens[wrong_image], step.tokens])
    wrong = model.fuse(model.bert, pairs, model.bert.see(tokens))
    logits = model.itm_head(torch.cat([right[:, 0], wrong[:, 0]]))
    labels = (torch.arange(len(logits)) < len(own)).long()
    loss = F.cross_entropy(logits, labels)
    return Matching(loss, logits, labels, right, wrong, model.bert.see(step.tokens))


def update_momentum(model: Any) -> None:
    """Each weight of the copies by itself."""
    with torch.no_grad():
        for part, twin in model._pairs():
            twin.mul_(model.config.momentum).add_(part, alpha=1 - model.config.momentum)


@contextmanager
def plainly(model: Any) -> Iterator[None]:
    """Let ``model`` do without what makes its steps faster."""
    padded = partial(type(model).tokenize, model)
    with ExitStack() as stack:
        patch = partial(mock.patch.object, model, create=True)
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", attention))
        stack.enter_context(patch("tokenize", lambda *a, **k: padded(*a, **k | {"padded": True})))
        if hasattr(model, "match"):
            stack.enter_context(patch("match", partial(match, model)))
            stack.enter_context(patch("update_momentum", partial(update_momentum, model)))
        yield


def step(model: Any, optimizer: torch.optim.Optimizer, samples: dict[str, Any]) -> float:
    """Forward, backward and AdamW; returns the loss."""
    torch.manual_seed(0)
    loss = model(samples)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Both ways on one job, in turns."""
    pixels, batch = JOBS[name]
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    med = {"vocab_size": 30524, **no_dropout}
    block = {"vit_type": "base", "image_size": pixels, "med": med}
    if name != "blip_caption":
        block["queue_size"] = QUEUE
    torch.manual_seed(0)
    model = registry.get_model_class(name).from_config(block).train()
    images = torch.randn(batch, 3, pixels, pixels)
    texts = [f"{CAPTIONS[i % len(CAPTIONS)]} {i}" for i in range(batch)]
    samples = {"image": images, "text_input": texts, "image_id": torch.arange(batch)}
    weights = [p for p in model.parameters() if p.requires_grad]
    quick = torch.optim.AdamW(weights, lr=1e-5, fused=True)
    slow = torch.optim.AdamW(weights, lr=1e-5, foreach=False)
    start = copy.deepcopy(model.state_dict())
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        model.load_state_dict(start)
        began = time.perf_counter()
        ours = step(model, quick, samples)
        middle = time.perf_counter()
        model.load_state_dict(start)
        with plainly(model):
            again = time.perf_counter()
            theirs = step(model, slow, samples)
        times.append((middle - began, time.perf_counter() - again))
        if not math.isclose(ours, theirs, rel_tol=1e-4):
            raise AssertionError(f"{name}: a loss of {ours} and of {theirs}")
    ours_s, theirs_s = (statistics.median(t) for t in zip(*times[1:], strict=True))
    ratio = theirs_s / ours_s
    sys.stdout.write(f"{name}: {ours_s:.2f} s, plainly {theirs_s:.2f} s, ratio {ratio:.2f}\n")
    sys.stdout.flush()
    return {
        "step": name,
        "pixels": pixels,
        "batch": batch,
        "lavis_clone_s": round(ours_s, 3),
        "plainly_s": round(theirs_s, 3),
        "ratio": round(ratio, 2),
        "repeats": repeats,
        **circumstances(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]  # the docstring is above
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = [measure(name, arguments.repeats) for name in JOBS]
    if arguments.csv:
        write_csv(arguments.csv, rows)


if __name__ == "__main__":
    main()
