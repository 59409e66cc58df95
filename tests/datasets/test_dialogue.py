"""Dialogue data sets, turn by turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavis_clone.common.dialogue import load_tokenizer
from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds.dialogue import (
    AvsdEvalDataset,
    DialogueDataset,
    VisDialDataset,
    VisDialEvalDataset,
)
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.skip import SampleError
from lavis_clone.processors.dialogue import GPTDialogueProcessor, GPTVideoFeatureProcessor
from tests.datasets.making import draw, small, write
from tests.models import tiny

DIALOGS: list[dict[str, Any]] = [
    {
        "image_id": "v1",
        "caption": "a man drinks",
        "summary": "he is happy",
        "dialog": [
            {"question": "is he alone ?", "answer": "yes"},
            {"question": "does he speak ?", "answer": ["no", "he does not"]},
        ],
    },
    {"image_id": "v2", "dialog": [{"question": "what ?", "answer": "__UNDISCLOSED__"}]},
    {"image_id": "v3", "caption": "a cup", "dialog": [{"question": "why ?", "answer": "a cup"}]},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, train={"type": "train", "version": "1", "dialogs": DIALOGS})
    for kind, width in (("rgb", 3), ("sound", 2)):
        (tmp_path / "ft" / kind).mkdir(parents=True)
        for number in (1, 2, 3):
            frames = np.full((number + 1, width), number, dtype=np.float32)
            np.save(tmp_path / "ft" / kind / f"v{number}.npy", frames)
    return tmp_path


def words(root: Path, **fields: Any) -> GPTDialogueProcessor:
    return GPTDialogueProcessor(tokenizer=str(tiny.write_gpt2_words(root)), **fields)


def made(cls: Any, root: Path, **processors: Any) -> Any:
    given: dict[str, Any] = {"vis_processor": GPTVideoFeatureProcessor(["rgb"], ["sound"])}
    given |= {"text_processor": words(root), "vis_root": root / "ft"}
    return cls(ann_paths=[root / "train.json"], **{**given, **processors})


def told(root: Path, sample: Any) -> list[str]:
    """The parts of a dialogue in words."""
    tokenizer = words(root).words
    ends = (sample["input_ids"] == tokenizer.id("<eos>")).nonzero()[:, 0] + 1
    parts = sample["input_ids"].tensor_split(ends[:-1])
    return [tokenizer.decode(part.tolist()) for part in parts]


def test_every_answered_turn_is_a_sample(root: Path) -> None:
    dataset = made(DialogueDataset, root)
    samples = [dataset[i] for i in range(len(dataset))]
    assert [told(root, sample) for sample in samples] == [
        ["a man drinks he is happy", "is he alone ?", "yes"],
        ["a man drinks he is happy", "is he alone ?", "yes", "does he speak ?", "no"],
        ["a cup", "why ?", "a cup"],
    ]
    assert [sample["instance_id"] for sample in samples] == ["0", "1", "2"]
    assert [sample["image_id"] for sample in samples] == ["v1", "v1", "v3"]
    sample = samples[2]
    assert sample["video_fts"].tolist() == [[3.0] * 5] * 4
    assert sample["video_token_type_ids"].tolist() == [words(root).words.id("<video>")] * 4
    assert sample["labels"].shape == sample["token_type_ids"].shape == sample["input_ids"].shape


def test_evaluation_asks_the_last_turn(root: Path) -> None:
    dataset = made(AvsdEvalDataset, root)
    assert len(dataset) == 3
    assert told(root, dataset[0])[-2:] == ["does he speak ?", "no"]
    assert told(root, dataset[1]) == ["what ?"]
    assert (dataset[1]["labels"] == -1).all()
    assert dataset.references() == {"0": ["no", "he does not"], "2": ["a cup"]}
    assert made(DialogueDataset, root).references()["0"] == ["yes"]


def test_a_batch_joins_video_and_text(root: Path) -> None:
    dataset = made(DialogueDataset, root)
    samples = [dataset[0], dataset[2]]
    batch = dataset.collater(samples)
    assert set(batch) == {
        *("input_ids", "token_type_ids", "labels", "video_fts", "attn_mask"),
        *("image_id", "instance_id"),
    }
    frames, longest = (2, 4), max(len(sample["input_ids"]) for sample in samples)
    assert batch["video_fts"].shape == (2, 4, 5)
    assert batch["video_fts"][0, 2:].eq(0).all()
    assert batch["input_ids"].shape == batch["labels"].shape == (2, longest)
    assert batch["token_type_ids"].shape == batch["attn_mask"].shape == (2, 4 + longest)
    pad, end = words(root).words.id("<pad>"), 4 + longest
    for row, sample in enumerate(samples):
        count = len(sample["input_ids"])
        text, rest = slice(4, 4 + count), slice(4 + count, end)
        assert batch["input_ids"][row, :count].equal(sample["input_ids"])
        assert batch["labels"][row, :count].equal(sample["labels"])
        assert batch["labels"][row, count:].eq(-1).all()
        assert batch["input_ids"][row, count:].eq(pad).all()
        assert batch["token_type_ids"][row, text].equal(sample["token_type_ids"])
        assert batch["token_type_ids"][row, rest].eq(pad).all()
        mask = torch.zeros(end, dtype=torch.bool)
        mask[: frames[row]] = mask[text] = True
        assert batch["attn_mask"][row].equal(mask)
    assert batch["image_id"] == ["v1", "v3"] and batch["instance_id"] == ["0", "2"]


def test_videos_of_another_width_make_no_batch(root: Path) -> None:
    np.save(root / "ft" / "rgb" / "v3.npy", np.ones((2, 4)))
    dataset = made(DialogueDataset, root)
    with pytest.raises(ValueError, match=r"features of different widths: \[5, 6\]"):
        dataset.collater([dataset[0], dataset[2]])


def test_a_video_without_features_is_left_out_and_named(root: Path) -> None:
    (root / "ft" / "sound" / "v3.npy").unlink()
    dataset = made(DialogueDataset, root)
    with pytest.raises(SampleError, match=r"sound/v3.npy: no such file of features"):
        dataset[2]
    loader = build_loader(dataset, batch_size=3, is_train=False)
    assert [batch["instance_id"] for batch in loader] == [["0", "1"]]
    assert loader.skips.count == 1


def test_other_text_processors_get_the_whole_dialogue(root: Path) -> None:
    dataset = made(AvsdEvalDataset, root, text_processor=str.upper)
    sample = dataset[0]
    assert sample["text_input"] == "A MAN DRINKS IS HE ALONE ? YES DOES HE SPEAK ?"
    assert sample["answer"] == "no"
    batch = dataset.collater([sample, dataset[1]])
    assert batch["text_input"][1] == "WHAT ?" and batch["answer"] == ["no", ""]
    assert batch["video_fts"].shape == (2, 3, 5)
    assert "attn_mask" not in batch


def test_what_people_are_shown(root: Path) -> None:
    shown = made(AvsdEvalDataset, root).displ_item(0)
    assert list(shown)[:2] == ["file", "caption"]
    assert (shown["file"], shown["answer"]) == ("v1", "no")
    assert shown["dialog"] == [{"question": "is he alone ?", "answer": "yes"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dialog": []}, "dialog must be a list of turns"),
        ({"dialog": "text"}, "dialog must be a list of turns"),
        ({"dialog": [{"answer": "x"}]}, "turn 1 of dialog must be a mapping with a question"),
        ({"dialog": [{"question": "a", "answer": 3}]}, "turn 1 of dialog answer must be text or"),
        (
            {"dialog": [{"question": "a"}, {"question": "b", "answer": "c"}]},
            "turn 1 of dialog has no answer, which only the last turn may lack",
        ),
        ({"caption": 3}, "caption must be text, got 3"),
        ({"image_id": None}, "has no 'image_id'"),
    ],
)
def test_bad_records_are_told_before_any_work(
    root: Path, changes: dict[str, Any], message: str
) -> None:
    write(root, train={"dialogs": [DIALOGS[0], {**DIALOGS[2], **changes}]})
    with pytest.raises(AnnotationError, match=f"train.json, record 2: {message}"):
        made(DialogueDataset, root)


def test_a_block_builds_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(root / "cache"))
    path = root / "own.yaml"
    path.write_text(f"""
datasets:
  avsd_dialogue:
    kind: avsd
    data_type: features
    vis_processor: {{eval: {{name: gpt_video_ft, visual_ft: [rgb], audio_ft: [sound]}}}}
    text_processor:
      eval: {{name: gpt_dialogue, tokenizer: {tiny.write_gpt2_words(root)}, max_turns: 0}}
    build_info:
      features: {{storage: {root}/ft}}
      annotations:
        val: {{storage: {root}/train.json}}
""")
    dataset = load_dataset("avsd_dialogue", cfg_path=path)["val"]
    assert isinstance(dataset, AvsdEvalDataset)
    assert len(told(root, dataset[0])) == 3


# --- VisDial ------------------------------------------------------------------------------------

QUESTIONS, ANSWERS = ["is it red", "is it big", "where"], ["no", "yes", "at sea"]


def visdial(split: str, *dialogues: dict[str, Any]) -> dict[str, Any]:
    listed = {"questions": QUESTIONS, "answers": ANSWERS, "dialogs": list(dialogues)}
    return {"version": "1.0", "split": split, "data": listed}


def round_of(question: int, answer: int) -> dict[str, Any]:
    return {"question": question, "answer": answer, "answer_options": [0, 1, 2], "gt_index": answer}


BOAT = {"image_id": 7, "caption": "a boat", "dialog": [round_of(0, 1), round_of(2, 2)]}
ASKED = {"image_id": 8, "caption": "a tree", "dialog": [round_of(1, 0), {"question": 2}]}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    names = [
        *("train2014/COCO_train2014_000000000007.jpg", "val2014/COCO_val2014_000000000008.jpg"),
        *(f"VisualDialog_val2018/VisualDialog_val2018_00000000000{n}.jpg" for n in (7, 8)),
    ]
    for name in names:
        (tmp_path / "ft" / name).parent.mkdir(parents=True, exist_ok=True)
    draw(tmp_path / "ft", *names)
    return tmp_path


def test_visdial_in_training(pictures: Path) -> None:
    write(pictures, train=visdial("train", BOAT, ASKED))
    dataset = made(VisDialDataset, pictures, vis_processor=None, text_processor=None)
    samples = [dataset[i] for i in range(len(dataset))]
    assert [(s["text_input"], s["answer"], s["image_id"]) for s in samples] == [
        ("a boat is it red", "yes", "7"),
        ("a boat is it red yes where", "at sea", "7"),
        ("a tree is it big", "no", "8"),
    ]
    reds = [round(sample["image"].getpixel((0, 0))[0] / 10) for sample in samples]
    assert reds == [1, 1, 2]  # the second picture is one of COCO's val2014


def test_visdial_in_evaluation(pictures: Path) -> None:
    write(pictures, train=visdial("val", BOAT, ASKED))
    dataset = made(VisDialEvalDataset, pictures, vis_processor=small())
    assert [told(pictures, dataset[i])[-1] for i in range(3)] == ["yes", "at sea", "where"]
    batch = dataset.collater([dataset[0], dataset[2]])
    assert batch["image"].shape == (2, 3, 4, 4)
    assert batch["token_type_ids"].shape == batch["attn_mask"].shape == batch["input_ids"].shape
    assert dataset.references() == {"0": ["yes"], "1": ["at sea"]}
    assert dataset.displ_item(2)["file"].endswith("VisualDialog_val2018_000000000008.jpg")


def test_visdial_with_features_is_what_the_model_for_videos_takes(root: Path) -> None:
    write(root, train=visdial("train", {**BOAT, "image_id": "v1"}))
    dataset = made(VisDialDataset, root)
    batch = dataset.collater([dataset[0], dataset[1]])
    assert batch["video_fts"].shape == (2, 2, 5)
    assert batch["attn_mask"].shape[1] == 2 + batch["input_ids"].shape[1]


def test_visdial_from_records(root: Path) -> None:
    dataset = made(VisDialDataset, root, text_processor=None)
    assert dataset[1]["text_input"].endswith("is he alone ? yes does he speak ?")
    assert load_tokenizer(words(root).tokenizer) is words(root).words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (visdial("val", {**BOAT, "dialog": [round_of(3, 0)]}), "dialogue 1: does not fit the lis"),
        (
            visdial("val", BOAT, {"caption": "x", "dialog": []}),
            "dialogue 2: does not fit .*image_i",
        ),
        (visdial("val", {**BOAT, "dialog": []}), "dialogue 1: dialog must be a list of turns"),
        ({"data": {"dialogs": [], "questions": []}}, "data has no 'answers'"),
        (visdial("val"), "holds no records"),
        ([{"image_id": 1}], "record 1: has no 'dialog'"),
    ],
)
def test_broken_files_of_visdial_are_told(root: Path, content: Any, message: str) -> None:
    write(root, train=content)
    with pytest.raises(AnnotationError, match=rf"train.json[,:] {message}"):
        made(VisDialDataset, root)
