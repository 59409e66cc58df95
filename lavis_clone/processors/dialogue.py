"""Turns dialogues into GPT-2's ids, and files of video features into tensors.

A dialogue is written as its caption, the turns so far and the answer, each ended by ``<eos>``;
every token carries the id of who speaks as its type (Li et al., https://arxiv.org/abs/2002.00163).
Shapes: R texts or videos, T tokens, V frames, F width of a frame.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lavis_clone.common.dialogue import (
    ANSWERER,
    ASKER,
    CAPTION,
    EOS,
    IGNORED_LABEL,
    PAD,
    VIDEO,
    DialogueTokenizer,
    load_tokenizer,
)
from lavis_clone.common.registry import registry
from lavis_clone.processors.base import BaseProcessor

logger = logging.getLogger(__name__)

Ids = list[int]


class FeatureError(ValueError):
    """A file of features cannot be used. The message is one line and names the file."""


class FeatureNotFound(FeatureError, FileNotFoundError):
    """There is no file where the features should be."""


@registry.register_processor("gpt_dialogue")
@dataclass
class GPTDialogueProcessor(BaseProcessor):
    """A turn of a dialogue to ``input_ids``, ``token_type_ids`` and ``labels``.

    >>> GPTDialogueProcessor()(  # doctest: +SKIP
    ...     {"caption": "a man cooks", "dialog": [], "question": "is he alone?", "answer": "yes"}
    ... )
    """

    takes_dialogues: ClassVar[bool] = True

    max_turns: int = 3
    """Earlier questions with their answers that are read, the latest ones."""
    use_caption: bool = True
    """Begin with ``caption`` and ``summary``."""
    tokenizer: str = "gpt2"
    """A folder, or a name on the hub: see ``common.dialogue``. Not in LAVIS."""
    max_length: int = 512
    """Tokens in all. A longer dialogue loses its oldest turns, then the end of its caption, then
    those of question and answer. Not in LAVIS."""

    def __post_init__(self) -> None:
        if self.max_turns < 0:
            raise ValueError(f"max_turns ({self.max_turns}) must be at least 0")
        if self.max_length < 4:
            raise ValueError(f"max_length ({self.max_length}) must be at least 4")

    @property
    def words(self) -> DialogueTokenizer:
        """The vocabulary, read at first use."""
        return load_tokenizer(self.tokenizer)

    @property
    def video_type_id(self) -> int:
        """The type of the frames that stand before a dialogue."""
        return self.words.id(VIDEO)

    @property
    def pad_id(self) -> int:
        """What fills up ids and types."""
        return self.words.id(PAD)

    def transform(self, item: Any) -> dict[str, Tensor]:
        """Encode one turn.

        Args:
            item: ``question``; ``caption``, ``summary``, ``dialog`` (earlier turns, each a mapping
                with ``question`` and ``answer``) and ``answer`` may be absent.

        Returns:
            ``input_ids``, ``token_type_ids`` and ``labels``, ``(T,)`` each; labels are -1 but for
            the answer and its end.

        Raises:
            TypeError: it is no mapping with a question.
        """
        if not isinstance(item, Mapping) or not isinstance(item.get("question"), str):
            raise TypeError(f"a turn must be a mapping with a question, got {item!r:.80}")
        about = [item.get("caption"), item.get("summary")] if self.use_caption else []
        caption = " ".join(text for text in about if text)
        turns = list(item.get("dialog") or [])[-self.max_turns :] if self.max_turns else []
        said = [turn[key] for turn in turns for key in ("question", "answer")]
        encode = self.words.encode
        answer = item.get("answer")
        sequence = self.sample_sequence(
            encode(caption) if caption else [],
            [encode(text) for text in [*said, item["question"]]],
            None if answer is None else encode(answer),
        )
        return {name: torch.tensor(ids, dtype=torch.long) for name, ids in sequence.items()}

    def sample_sequence(
        self, caption: Ids, history: Sequence[Ids], answer: Ids | None
    ) -> dict[str, Ids]:
        """Put the parts of a dialogue together.

        Args:
            caption: May be empty, and is left out then.
            history: Question, answer, question, ..., the last one the question that is asked.
            answer: None when it is to be written.
        """
        words = self.words
        eos, asker, answerer = words.id(EOS), words.id(ASKER), words.id(ANSWERER)
        speakers = [asker if number % 2 == 0 else answerer for number in range(len(history))]
        parts = [(words.id(CAPTION), list(caption))] if caption else []
        parts += [(who, list(said)) for who, said in zip(speakers, history, strict=True)]
        parts += [(answerer, list(answer))] if answer is not None else []
        kept = _shortened(parts, self.max_length, num_last=1 if answer is None else 2)
        ended = [(who, [*ids, eos]) for who, ids in kept]
        input_ids = [i for _, ids in ended for i in ids]
        num_learned = 0 if answer is None else len(ended[-1][1])
        num_ignored = len(input_ids) - num_learned
        return {
            "input_ids": input_ids,
            "token_type_ids": [who for who, ids in ended for _ in ids],
            "labels": [IGNORED_LABEL] * num_ignored + input_ids[num_ignored:],
        }

    def padding(self, seq: Sequence[Any], pad_token: int = IGNORED_LABEL) -> Tensor:
        """R sequences of ids as ``(R, T)``, filled up at their ends."""
        rows = [torch.as_tensor(ids, dtype=torch.long) for ids in seq]
        return pad_sequence(rows, batch_first=True, padding_value=pad_token)

    def get_attention_mask(self, seq: Sequence[Any], pad_token: int = IGNORED_LABEL) -> Tensor:
        """``(R, T)`` bool, True where R sequences of ids have one that is not ``pad_token``."""
        return self.padding(seq, pad_token) != pad_token


@registry.register_processor("gpt_video_ft")
@dataclass
class GPTVideoFeatureProcessor(BaseProcessor):
    """Folder and name of a video to its features, ``(V, F)`` float32.

    The features of each kind lie in a folder of their own: ``<folder>/i3d_rgb/<name>.npy``. Kinds
    of different lengths are cut to the shortest, and put side by side. AVSD's are ``i3d_flow`` and
    ``i3d_rgb`` of 2,048 numbers each and ``vggish`` of 128.
    """

    takes_features: ClassVar[bool] = True

    visual_ft: list[str] = field(default_factory=lambda: ["i3d_rgb"])
    audio_ft: list[str] = field(default_factory=lambda: ["vggish"])
    """May be empty."""
    max_frames: int = 512
    """Of a longer video so many frames are taken, evenly spaced. Not in LAVIS."""

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError("visual_ft and audio_ft name no features")
        if self.max_frames < 1:
            raise ValueError(f"max_frames ({self.max_frames}) must be at least 1")

    @property
    def kinds(self) -> list[str]:
        """The folders that are read."""
        return [*self.visual_ft, *self.audio_ft]

    def __call__(self, ft_root: Any, vname: str | None = None) -> Tensor:
        """Read one video.

        Args:
            ft_root: The folder; or folder and name as a pair.
            vname: The name.

        Raises:
            FeatureError: a file is missing or broken, or holds no numbers.
        """
        return self.transform(ft_root if vname is None else (ft_root, vname))

    def transform(self, item: Any) -> Tensor:
        root, name = item
        paths = [Path(root) / kind / f"{name}.npy" for kind in self.kinds]
        parts = [read_features(path) for path in paths]
        length = min(len(part) for part in parts)
        frames = np.concatenate([part[:length] for part in parts], axis=1)
        if length > self.max_frames:
            frames = frames[np.linspace(0, length - 1, self.max_frames).round().astype(int)]
        return torch.from_numpy(frames)

    def padding(self, seq: Sequence[Tensor]) -> Tensor:
        """R videos as ``(R, V, F)``, filled up with zeros at their ends."""
        return pad_sequence(list(seq), batch_first=True)

    def get_attention_mask(self, seq: Sequence[Tensor]) -> Tensor:
        """``(R, V)`` bool, True on the frames that R videos have."""
        lengths = torch.tensor([len(frames) for frames in seq])
        return torch.arange(int(lengths.max()))[None] < lengths[:, None]


def _shortened(
    parts: list[tuple[int, Ids]], max_length: int, *, num_last: int
) -> list[tuple[int, Ids]]:
    """Take away what is furthest from the answer until everything fits, the ends counted.

    Args:
        num_last: Parts at the end that belong to the turn that is asked.
    """

    def excess() -> int:
        return sum(len(ids) + 1 for _, ids in parts) - max_length

    if excess() <= 0:
        return parts
    logger.debug("a dialogue is %d tokens too long and is cut", excess())
    first = (len(parts) - num_last) % 2  # 1 when a caption stands in front of whole turns
    while excess() > 0 and len(parts) - first > num_last:
        del parts[first : first + 2]
    for number, (who, ids) in enumerate(parts):
        keep = max(len(ids) - max(excess(), 0), 0)
        parts[number] = (who, ids[:keep])
    return parts


def read_features(path: Path) -> np.ndarray:
    """One file of features, ``(V, F)`` float32.

    Raises:
        FeatureNotFound: there is no such file.
        FeatureError: it is broken, or holds no numbers.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise FeatureNotFound(f"{path}: no such file of features") from error
    except (OSError, ValueError, EOFError) as error:
        raise FeatureError(f"{path}: not a file of features: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or not found.size:
        shape = getattr(found, "shape", None)
        raise FeatureError(f"{path}: must hold frames by features, has the shape {shape}")
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise FeatureError(f"{path}: holds values that are no finite numbers ({found.dtype})")
    return found.astype(np.float32)
