"""Random numbers that come again."""

from __future__ import annotations

import random

import numpy as np
import torch

NUM_SEEDS = 2**32
"""What numpy accepts."""


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, numpy and torch with ``seed + rank``, and ask cuDNN for repeatable results."""
    own = (seed + rank) % NUM_SEEDS
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
