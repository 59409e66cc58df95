"""What a batch holds, for each kind of data.

B is the number of samples. Nothing is in a batch that did not come from the data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor


class CaptionBatch(TypedDict):
    """Images with a caption each, to train on."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    text_input: list[str]
    """B captions."""
    image_id: Tensor
    """``(B,)`` int64, the same for two captions of one image."""


class CaptionEvalBatch(TypedDict):
    """Images to describe."""

    image: Tensor
    """``(B, 3, H, W)`` float32, normalised as the model's processor does."""
    image_id: list[str]
    """B ids, as the annotation file gives them."""
    instance_id: list[str]
    """B ids of the rows of the annotation file."""
