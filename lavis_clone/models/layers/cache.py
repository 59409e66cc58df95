"""Keys and values of the tokens written so far.

Shapes: R rows, H heads, T tokens held, C capacity, K width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lavis_clone.models.layers.attention import KeyValue


class KeyValueCache:
    """Self-attention keys and values of every layer, in one buffer that is written in place.

    Args:
        num_layers: Layers of the decoder.
        capacity: C, the longest text that will be written, prompt included.
    """

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.num_layers = num_layers
        self.capacity = capacity
        self.length = 0
        self._buffer: Tensor | None = None  # (layers, 2, R, H, C, K)

    def append(self, layer: int, new: KeyValue) -> KeyValue:
        """Store ``(R, H, t, K)`` after what ``layer`` holds, and return all of it.

        ``length`` moves on when the last layer has stored its part.
        """
        rows, heads, count, width = new.key.shape
        if self.length + count > self.capacity:
            raise ValueError(f"a cache of {self.capacity} tokens cannot hold {self.length + count}")
        if self._buffer is None:
            shape = (self.num_layers, 2, rows, heads, self.capacity, width)
            self._buffer = new.key.new_empty(shape)
        end = self.length + count
        self._buffer[layer, 0, :, :, self.length : end] = new.key
        self._buffer[layer, 1, :, :, self.length : end] = new.value
        if layer == self.num_layers - 1:
            self.length = end
        return KeyValue(self._buffer[layer, 0, :, :, :end], self._buffer[layer, 1, :, :, :end])

    def select(self, rows: Tensor) -> None:
        """Let row i continue what row ``rows[i]`` holds; the number of rows may change."""
        if self._buffer is None:
            return
        held = self._buffer[..., : self.length, :].index_select(2, rows)
        shape = (*held.shape[:4], self.capacity, held.shape[-1])
        if len(rows) != self._buffer.shape[2]:
            self._buffer = torch.empty(shape, dtype=held.dtype, device=held.device)
        self._buffer[..., : self.length, :] = held
