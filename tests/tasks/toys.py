"""Models that compare and judge by a formula, and data sets of random pictures.

A text is a list of words such as ``w3 w17``, each of which has a vector; all others mean ``w1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lavis_clone.models.outputs import ImageEmbeddings, TextEmbeddings

WORDS, WIDTH, LENGTH = 40, 6, 4


class Comparing:
    """A dual encoder: the mean colour of a picture, and the mean of a text's words."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(7)
        self.words = torch.randn(WORDS, WIDTH, generator=random)
        self.colours = torch.randn(3, WIDTH, generator=random)
        self.num_encoded = 0

    def embed_images(self, images: Tensor) -> ImageEmbeddings:
        self.num_encoded += len(images)
        tokens = images.flatten(2).transpose(1, 2)  # (B, H * W, 3)
        return ImageEmbeddings(F.normalize(tokens.mean(dim=1) @ self.colours, dim=-1), tokens)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        ids = torch.zeros(len(texts), LENGTH, dtype=torch.long)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                ids[row, place] = int(word[1:]) if word.startswith("w") else 1
        return TextEmbeddings(F.normalize(self.words[ids].mean(dim=1), dim=-1), ids, ids > 0)


class Judging(Comparing):
    """Judges a pair by every token and every word of it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_judged: list[int] = []

    def match_pairs(self, tokens: Tensor, texts: TextEmbeddings) -> Tensor:
        self.num_judged.append(len(texts))
        seen = torch.tanh(tokens.float() @ self.colours)  # (N, F)
        return (self.words[texts.input_ids] @ seen.t()).amax(dim=(1, 2))


class Pictures:
    """Random pictures, each with some texts.

    Args:
        texts: How many texts each picture has.
    """

    name, split = "shapes", "test"

    def __init__(self, texts: Sequence[int] = (2, 1, 3, 2, 1, 2, 1)) -> None:
        random = torch.Generator().manual_seed(3)
        self.pixels = torch.randn(len(texts), 3, 2, 2, generator=random)
        self.image = [f"{i}.png" for i in range(len(texts))]
        self.img2txt: dict[int, list[int]] = {}
        self.txt2img: dict[int, int] = {}
        self.text: list[str] = []
        for image, count in enumerate(texts):
            self.img2txt[image] = [len(self.text) + i for i in range(count)]
            for _ in range(count):
                self.txt2img[len(self.text)] = image
                words = torch.randint(1, WORDS, (2,), generator=random).tolist()
                self.text.append(f"w{words[0]} w{words[1]}")

    def __len__(self) -> int:
        return len(self.image)


class Batches:
    """Batches of some of a data set's pictures, which count how often they are asked for."""

    def __init__(
        self, dataset: Any, size: int = 2, order: Sequence[int] | None = None, dtype: Any = None
    ) -> None:
        self.dataset, self.size, self.num_times = dataset, size, 0
        self.order = range(len(dataset)) if order is None else order
        self.dtype = dtype

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        self.num_times += 1
        for start in range(0, len(self.order), self.size):
            index = torch.tensor(self.order[start : start + self.size])
            yield {"image": self.dataset.pixels[index].to(self.dtype), "index": index}
