"""Dialogues as ids, and features as they lie in files."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lavis_clone.common.dialogue import load_tokenizer
from lavis_clone.common.reading import ConfigError
from lavis_clone.processors import load_processor
from lavis_clone.processors.dialogue import (
    FeatureError,
    GPTDialogueProcessor,
    GPTVideoFeatureProcessor,
)
from tests.models import tiny

TURN = {
    "caption": "a man drinks",
    "summary": "he is happy",
    "dialog": [{"question": f"q{n} ?", "answer": f"a{n}"} for n in range(5)],
    "question": "does he speak ?",
    "answer": "no",
}
PARTS = ["a man drinks he is happy", "q3 ?", "a3", "q4 ?", "a4", "does he speak ?", "no"]
WHO = ["<cap>", *["<speaker1>", "<speaker2>"] * 3]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.write_gpt2_words(tmp_path_factory.mktemp("words")))


def made(words: str, **fields: Any) -> GPTDialogueProcessor:
    return GPTDialogueProcessor.build(tokenizer=words, **{"max_turns": 2, **fields})


def read(words: str, encoded: dict[str, Tensor]) -> list[tuple[str, str, bool]]:
    """Who says what, and whether it is learned; part by part."""
    tokenizer = load_tokenizer(words)
    names = {tokenizer.id(name): name for name in ("<cap>", "<speaker1>", "<speaker2>")}
    found, start = [], 0
    ids, types, labels = (encoded[k] for k in ("input_ids", "token_type_ids", "labels"))
    for end in (ids == tokenizer.id("<eos>")).nonzero()[:, 0].tolist():
        part = slice(start, end + 1)
        assert len(set(types[part].tolist())) == 1
        learned = labels[part].equal(ids[part])
        assert learned or (labels[part] == -1).all()
        text = tokenizer.decode(ids[part].tolist())
        found.append((text, names[int(types[start])], learned))
        start = end + 1
    assert start == len(ids) == len(types) == len(labels)
    return found


def test_the_defaults_are_those_of_lavis() -> None:
    text, video = load_processor("gpt_dialogue"), load_processor("gpt_video_ft")
    assert (text.max_turns, text.use_caption, text.tokenizer) == (3, True, "gpt2")
    assert (video.visual_ft, video.audio_ft) == (["i3d_rgb"], ["vggish"])


def test_caption_turns_and_answer_follow_each_other(words: str) -> None:
    found = read(words, made(words)(TURN))
    expected = [(text, who, False) for text, who in zip(PARTS, WHO, strict=True)]
    expected[-1] = ("no", "<speaker2>", True)
    assert found == expected


def test_without_caption_turns_or_answer(words: str) -> None:
    assert read(words, made(words, use_caption=False)(TURN))[0] == ("q3 ?", "<speaker1>", False)
    alone = made(words, use_caption=False, max_turns=0)
    assert [part[0] for part in read(words, alone(TURN))] == ["does he speak ?", "no"]
    asked = alone({"question": "why ?", "answer": None})
    assert read(words, asked) == [("why ?", "<speaker1>", False)]
    assert (asked["labels"] == -1).all()
    assert made(words)({"question": "why ?", "caption": ""})["input_ids"].equal(asked["input_ids"])


def test_more_turns_than_there_are(words: str) -> None:
    assert len(read(words, made(words, max_turns=9)(TURN))) == 1 + 10 + 2


def test_a_long_dialogue_loses_what_is_furthest_from_the_answer(words: str, caplog: Any) -> None:
    whole = len(made(words)(TURN)["input_ids"])
    with caplog.at_level(logging.DEBUG, "lavis_clone.processors.dialogue"):
        assert len(made(words, max_length=whole)(TURN)["input_ids"]) == whole
        assert not caplog.records
        shorter = read(words, made(words, max_length=whole - 1)(TURN))
    assert "1 tokens too long" in caplog.text
    assert [part[0] for part in shorter] == [PARTS[0], *PARTS[3:]]
    last = read(words, made(words, use_caption=False, max_turns=0)(TURN))
    num_last = sum(len(load_tokenizer(words).encode(text)) + 1 for text, *_ in last)
    cut = read(words, made(words, max_length=num_last + 3)(TURN))
    assert cut[1:] == last
    assert PARTS[0].startswith(cut[0][0]) and 0 < len(cut[0][0]) < len(PARTS[0])


@pytest.mark.parametrize("use_caption", [True, False])
@pytest.mark.parametrize("max_length", range(4, 60, 3))
def test_no_dialogue_is_longer_than_it_may_be(
    words: str, max_length: int, use_caption: bool
) -> None:
    encoded = made(words, max_length=max_length, use_caption=use_caption)(TURN)
    assert len(encoded["input_ids"]) <= max_length
    assert encoded["labels"][-1] == load_tokenizer(words).id("<eos>")
    assert encoded["token_type_ids"][-1] == load_tokenizer(words).id("<speaker2>")


def test_padding_and_mask(words: str) -> None:
    text = made(words)
    padded = text.padding([[5, 6, 7], [8]], 3)
    assert padded.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert text.padding([torch.tensor([5, 6]), [8]]).tolist() == [[5, 6], [8, -1]]
    assert text.get_attention_mask([[5, 6], [8]]).tolist() == [[True, True], [True, False]]


def test_what_is_no_turn_is_refused(words: str) -> None:
    for item in ("text", {"answer": "no"}, {"question": 3}):
        with pytest.raises(TypeError, match="a turn must be a mapping with a question"):
            made(words)(item)
    with pytest.raises(ConfigError, match=r"max_turns \(-1\) must be at least 0"):
        made(words, max_turns=-1)
    with pytest.raises(ConfigError, match=r"max_length \(3\) must be at least 4"):
        made(words, max_length=3)


def test_processors_travel_to_workers(words: str) -> None:
    text = made(words)
    expected = text(TURN)["input_ids"]
    assert pickle.loads(pickle.dumps(text))(TURN)["input_ids"].equal(expected)
    assert pickle.loads(pickle.dumps(load_processor("gpt_video_ft"))).max_frames == 512


# --- features -----------------------------------------------------------------------------------


@pytest.fixture
def features(tmp_path: Path) -> Path:
    for kind, shape in {"flow": (6, 2), "rgb": (7, 3), "sound": (5, 1)}.items():
        (tmp_path / kind).mkdir()
        values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + 100 * shape[1]
        np.save(tmp_path / kind / "v1.npy", values)
    return tmp_path


def seen(**fields: Any) -> GPTVideoFeatureProcessor:
    return GPTVideoFeatureProcessor.build(visual_ft=["rgb", "flow"], audio_ft=["sound"], **fields)


def test_features_lie_side_by_side_as_long_as_the_shortest(features: Path) -> None:
    frames = seen()(features, "v1")
    assert (frames.shape, frames.dtype) == ((5, 6), torch.float32)
    assert frames[0].tolist() == [300, 301, 302, 200, 201, 100]
    assert frames[4].tolist() == [312, 313, 314, 208, 209, 104]
    assert seen()((features, "v1")).equal(frames)
    pictures = GPTVideoFeatureProcessor(["rgb"], [])
    assert pictures(features, "v1").shape == (7, 3)


def test_of_a_long_video_frames_are_taken_evenly(features: Path) -> None:
    frames = seen(max_frames=3)(features, "v1")
    assert frames[:, 5].tolist() == [100, 102, 104]
    assert seen(max_frames=1)(features, "v1")[:, 5].tolist() == [100]


def test_videos_are_padded_with_zeros() -> None:
    videos = [torch.ones(3, 2), torch.ones(1, 2)]
    assert seen().padding(videos).sum(dim=2).tolist() == [[2, 2, 2], [2, 0, 0]]
    assert seen().get_attention_mask(videos).tolist() == [[True] * 3, [True, False, False]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file of features"),
        (b"words", "not a file of features: "),
        (b"", "not a file of features: "),
        (np.zeros(3), r"must hold frames by features, has the shape \(3,\)"),
        (np.zeros((0, 3)), r"must hold frames by features, has the shape \(0, 3\)"),
        (np.array([[1.0, np.nan]]), "holds values that are no finite numbers"),
        (np.array([["a"]]), "holds values that are no finite numbers"),
        (np.array([[None]]), "not a file of features: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named(features: Path, content: Any, message: str) -> None:
    path = features / "rgb" / "v1.npy"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(FeatureError, match=f"^{path}: {message}") as told:
        seen()(features, "v1")
    assert len(str(told.value).splitlines()) == 1


def test_features_must_be_named() -> None:
    with pytest.raises(ConfigError, match="visual_ft and audio_ft name no features"):
        GPTVideoFeatureProcessor.build(visual_ft=[], audio_ft=[])
    with pytest.raises(ConfigError, match=r"max_frames \(0\) must be at least 1"):
        seen(max_frames=0)
