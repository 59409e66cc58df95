"""A model for dialogues that builds in a moment, and dialogues to feed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lavis_clone.common.dialogue import DialogueTokenizer
from lavis_clone.models.dialogue.model import GPTDialogue
from tests.models import tiny

WIDTH = 5
QUESTIONS = ["is he alone ?", "what does he do with the red cup ?", "does he speak ?"]
ANSWERS = ["yes", "he drinks", "no , he does not"]
NUM_FRAMES = [3, 1, 4]


def made(folder: Path, *, seed: int = 0, **changes: Any) -> GPTDialogue:
    """A model in eval mode whose weights are large enough to have opinions."""
    torch.manual_seed(seed)
    model = GPTDialogue.from_config(tiny.dialogue_block(folder, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def sample(words: DialogueTokenizer, row: int) -> dict[str, Tensor]:
    """One dialogue without any padding, as a batch of one."""
    asker, answerer, eos = (words.id(t) for t in ("<speaker1>", "<speaker2>", "<eos>"))
    question, answer = ([*words.encode(t[row]), eos] for t in (QUESTIONS, ANSWERS))
    types = [words.id("<video>")] * NUM_FRAMES[row]
    types += [asker] * len(question) + [answerer] * len(answer)
    generator = torch.Generator().manual_seed(row)
    return {
        "input_ids": torch.tensor([question + answer]),
        "labels": torch.tensor([[-1] * len(question) + answer]),
        "token_type_ids": torch.tensor([types]),
        "attn_mask": torch.ones(1, len(types), dtype=torch.bool),
        "video_fts": torch.randn(1, NUM_FRAMES[row], WIDTH, generator=generator),
    }


def fill(rows: list[Tensor], value: float, *, left: bool = False) -> Tensor:
    """Rows of different lengths as one tensor, filled up at an end."""
    longest = max(row.shape[1] for row in rows)
    padded = []
    for row in rows:
        missing = row.new_full((1, longest - row.shape[1], *row.shape[2:]), value)
        padded.append(torch.cat([missing, row] if left else [row, missing], dim=1))
    return torch.cat(padded)


def batch(
    words: DialogueTokenizer, *, left_video: bool = False, left_text: bool = False
) -> dict[str, Tensor]:
    """All dialogues, padded on either side; what is padding has values of its own."""
    rows = [sample(words, row) for row in range(3)]
    split = [
        (row["token_type_ids"][:, :count], row["token_type_ids"][:, count:])
        for row, count in zip(rows, NUM_FRAMES, strict=True)
    ]
    video, text = ([pair[part] for pair in split] for part in (0, 1))
    there = [[torch.ones_like(part, dtype=torch.bool) for part in parts] for parts in (video, text)]
    return {
        "input_ids": fill([r["input_ids"] for r in rows], 9, left=left_text),
        "labels": fill([r["labels"] for r in rows], -1, left=left_text),
        "video_fts": fill([r["video_fts"] for r in rows], 0.7, left=left_video),
        "token_type_ids": torch.cat(
            [fill(video, 8, left=left_video), fill(text, 7, left=left_text)], dim=1
        ),
        "attn_mask": torch.cat(
            [fill(there[0], 0, left=left_video), fill(there[1], 0, left=left_text)], dim=1
        ),
    }


def text_only(samples: dict[str, Tensor]) -> dict[str, Tensor]:
    num_frames = samples["video_fts"].shape[1]
    return {
        "input_ids": samples["input_ids"],
        "labels": samples["labels"],
        "token_type_ids": samples["token_type_ids"][:, num_frames:],
    }
