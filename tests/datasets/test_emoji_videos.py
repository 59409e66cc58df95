"""The build of the animated emoji set, on animations drawn here and without a network."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lavis_clone.datasets.builders import load_dataset
from lavis_clone.processors.video import load_video

FOLDER = Path(__file__).parents[2] / "projects/emoji"
PARTS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")

# md5(key) % 10 puts 1f436 and 1f681 among the test concepts, 1f431 among val's, and of the rest
# those that stand for a base among train's.
ROWS = [
    ("1F436", "animals-nature", "animal-mammal", "dog"),
    ("1F431", "animals-nature", "animal-mammal", "cat"),
    ("1F98A", "animals-nature", "animal-mammal", "fox"),
    ("1F981", "animals-nature", "animal-mammal", "lion"),
    ("1F984", "animals-nature", "animal-bird", "swan"),
    ("1F42F", "animals-nature", "animal-mammal", "tiger"),
    ("1F680", "travel-places", "transport-air", "rocket"),
    ("1F68C", "travel-places", "transport-ground", "bus"),
    ("1F697", "travel-places", "transport-ground", "automobile"),
    ("1F681", "travel-places", "transport-air", "helicopter"),
    ("1F6B4-200D-2642-FE0F", "people-body", "person-sport", "man biking"),
    ("1F6B4", "people-body", "person-sport", "person biking"),
    ("1F6B4-200D-2640-FE0F", "people-body", "person-sport", "woman biking"),
    ("1F91B", "people-body", "hand-fingers-closed", "left-facing fist"),
    ("1F355", "food-drink", "food-prepared", "pizza"),
]
STILL = "1f355"
"""A file with one picture."""
FADING = "1f984"
"""One that hardly moves."""
COUNT = 12


@pytest.fixture(scope="module")
def emoji() -> Any:
    """The modules of ``projects/emoji`` that make videos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import build_videos
        import emoji_clips
        import emoji_video_questions
        import emoji_videos

        modules = (build_videos, emoji_clips, emoji_video_questions, emoji_videos)
        yield SimpleNamespace(**{module.__name__: module for module in modules})


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def animate(path: Path, count: int = COUNT) -> None:
    """A square on nothing that goes right; its colour comes of the name of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (sum(path.stem.encode()) * 37 % 200, 40, 90, 255)
    frames = []
    for i in range(count):
        frame = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(frame).rectangle((i * 4, 8, i * 4 + 20, 56), fill=colour)
        frames.append(frame)
    more = {"save_all": True, "append_images": frames[1:], "duration": 40} if count > 1 else {}
    frames[0].save(path, lossless=True, **more)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, emoji: Any) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    texts = folder / "texts/node_modules"
    for name, version in emoji.build_videos.TEXT_PINS.items():
        put(texts / name / "package.json", {"version": version})
    fields = ("hexcode", "group", "subgroups", "annotation")
    more = {"tags": "", "openmoji_tags": "", "skintone": ""}
    rows = [dict(zip(fields, row, strict=True)) | more for row in ROWS]
    put(texts / "openmoji/data/openmoji.json", rows)
    put(
        texts / "cldr-annotations-full/annotations/en/annotations.json",
        {"annotations": {"annotations": {}}},
    )
    put(texts / "emojilib/dist/emoji-en-US.json", {})
    pack = folder / "anim-3/node_modules/@lobehub/fluent-emoji-anim-3"
    put(pack / "package.json", {"version": "1.0.0"})
    for row in ROWS:
        key = row[0].lower()
        animate(pack / "assets" / f"{key}.webp", 1 if key == STILL else COUNT)
    animate(pack / "assets/1f6b4-1f3fb.webp")  # of a skin tone: no concept
    flicker(pack / f"assets/{FADING}.webp")
    return folder


def flicker(path: Path) -> None:
    """An animation of which one pixel changes."""
    frames = []
    for i in range(COUNT):
        frame = Image.new("RGBA", (64, 64), (90, 200, 90, 255))
        frame.putpixel((0, 0), (i, 0, 0, 255))
        frames.append(frame)
    frames[0].save(path, lossless=True, save_all=True, append_images=frames[1:], duration=40)


def build(emoji: Any, packages: Path, out: Path) -> int:
    arguments = [str(out), "--packs", "3", "--packages", str(packages), "--workers", "1"]
    return emoji.build_videos.main(arguments)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, emoji: Any, packages: Path) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "emoji_videos"
    assert build(emoji, packages, folder) == 0
    return folder


@pytest.fixture(scope="module")
def files(out: Path) -> dict[str, Any]:
    """What each annotation file holds, by name."""
    return {path.stem: json.loads(path.read_text()) for path in out.glob("annotations/*.json")}


def shown(emoji: Any, record: dict[str, Any]) -> tuple[str, ...]:
    return emoji.emoji_clips.Clip.at(record["video"]).keys


def test_a_concept_that_is_held_out_is_in_no_other_part(emoji: Any, files: Any) -> None:
    concepts = defaultdict(set)
    for name, rows in files.items():
        if name.startswith(("retrieval_", "qa_")) and name != "qa_ans2label":
            for row in rows:
                concepts[name.partition("_")[2]] |= {*shown(emoji, row)}
    assert concepts["test_unseen"] == {"1f436", "1f681"}
    assert concepts["val_unseen"] == {"1f431"}
    assert not concepts["train"] & {"1f436", "1f681", "1f431", STILL, "1f91b"}
    assert {*concepts["val_seen"], *concepts["test_seen"]} <= concepts["train"]
    assert not concepts["val_seen"] & concepts["test_seen"]


def test_variants_by_gender_are_one_concept(emoji: Any, files: Any) -> None:
    biking = [r for r in files["retrieval_train"] if r["image_id"] == "biking"]
    assert [(r["video"], r["caption"]) for r in biking] == [("plain/first_1f6b4.mp4", "biking")]
    asked = {shown(emoji, row)[0] for row in files["qa_train"] if row["question_type"] == "what"}
    assert {"1f6b4", "1f6b4-200d-2642", "1f6b4-200d-2640"} <= asked
    names = [r["answer"] for r in files["qa_train"] if shown(emoji, r)[0].startswith("1f6b4")]
    assert "biking" in names and not {"man biking", "person biking"} & {*names}


def test_names_are_distinct_where_they_are_to_find_clips(files: Any) -> None:
    for part in PARTS:
        captions = [r["caption"] for r in files[f"retrieval_{part}"]]
        texts = captions if part == "train" else [text for (text,) in captions]
        assert texts and len(set(texts)) == len(texts)


def test_clips_that_train_and_clips_that_evaluate_show_other_frames(emoji: Any, out: Path) -> None:
    first, second = (
        load_video(out / f"videos/plain/{half}_1f98a.mp4") for half in ("first", "second")
    )
    assert first.shape == second.shape == (3, 16, 96, 96)
    assert {first[:, :, 0].min().item() > 230, first[:, :, 1].max().item() > 245} == {True}
    places = [
        (frames[1] < 128).float().mean(dim=(0, 1)).nonzero().min() for frames in (first, second)
    ]
    assert places[0] == 0 and 30 < places[1] < 42  # the square starts at 0, or 6 steps of 4 px


def test_the_background_is_white(out: Path) -> None:
    frames = load_video(out / "videos/plain/first_1f680.mp4")
    assert frames[:, :, 88:, 88:].min() > 245


def test_made_clips_are_what_is_said_of_them(emoji: Any, out: Path) -> None:
    clips = emoji.emoji_clips
    fox, bus = (clips.decoded(out / f"videos/plain/first_{k}.mp4") for k in ("1f98a", "1f68c"))
    assert clips.motion(clips.made("still", [fox])) == 0 < 6 < clips.motion(fox)
    tops = {w: [top_of(f) for f in clips.made(w, [fox])] for w in ("rising", "sinking")}
    assert tops["rising"] == sorted(tops["rising"], reverse=True) and len({*tops["rising"]}) > 8
    assert tops["sinking"] == sorted(tops["sinking"]) and len({*tops["sinking"]}) > 8
    for what, way in (("growing", 1), ("shrinking", -1)):
        heights = [height_of(frame) for frame in clips.made(what, [fox])][::way]
        assert heights == sorted(heights) and heights[-1] > 1.5 * heights[0]
    both = clips.made("then", [fox, bus])
    assert np.array_equal(both[:8], fox[::2]) and np.array_equal(both[8:], bus[::2])


def top_of(frame: Any) -> int:
    return int((frame[:, :, 1] < 128).any(axis=1).argmax())


def height_of(frame: Any) -> int:
    return int((frame[:, :, 1] < 128).any(axis=1).sum())


def test_every_file_of_the_annotations_is_there_and_no_half_one(files: Any, out: Path) -> None:
    named = {r["video"] for name in files if name != "qa_ans2label" for r in files[name]}
    found = {str(p.relative_to(out / "videos")) for p in out.glob("videos/*/*")}
    assert named == found


def test_no_text_tells_its_answer(files: Any) -> None:
    types = set()
    for part in PARTS:
        answers = defaultdict(Counter)
        for row in files[f"qa_{part}"]:
            types.add(row["question_type"])
            if row["question_type"] not in ("what", "group", "sort"):
                answers[row["question"]][row["answer"]] += 1
        assert answers
        for question, counts in answers.items():
            assert len(counts) == 2 and len({*counts.values()}) == 1, (part, question, counts)
    made = {"motion", "change", "order", "order_name", "count"}
    assert types == made | {"what", "name", "kind", "group", "sort"}


def test_answers_are_classes_and_true(emoji: Any, files: Any) -> None:
    classes = files["qa_ans2label"]
    assert list(classes.values()) == list(range(len(classes)))
    kinds = {"1f9": "an animal", "1f4": "an animal", "1f6b4": "a person", "1f68": "a vehicle"}
    for part in PARTS:
        for row in files[f"qa_{part}"]:
            clip = emoji.emoji_clips.Clip.at(row["video"])
            assert row["answer"] in classes
            if row["question_type"] == "order":
                (prefix,) = [p for p in (*kinds, "1f697") if clip.keys[0].startswith(p)]
                assert row["answer"] == kinds.get(prefix, "a vehicle")
                assert row["answer"] in row["question"]
            if row["question_type"] == "motion":
                assert (row["answer"] == "yes") == (clip.what == "plain")
                assert clip.keys != (FADING,)
            if row["question_type"] == "count":
                assert (row["answer"] == "two") == (clip.what == "then") == (len(clip.keys) == 2)
            if row["question_type"] == "change":
                assert row["answer"][:3] == clip.what[:3]


def test_only_what_trains_is_asked_for_by_name(files: Any) -> None:
    for part in ("val_unseen", "test_unseen"):
        assert not {"what", "order_name"} & {r["question_type"] for r in files[f"qa_{part}"]}
    trained = {r["caption"] for r in files["retrieval_train"]}
    held_out = {r["caption"][0] for p in ("val", "test") for r in files[f"retrieval_{p}_unseen"]}
    assert held_out == {"cat", "dog", "helicopter"} and not held_out & trained
    assert not held_out & {*files["qa_ans2label"]}


def test_a_text_with_one_unknown_answer_is_left_out(emoji: Any) -> None:
    ask = emoji.emoji_video_questions
    rows = [
        {"question": "a or b?", "answer": "a", "question_type": "order"},
        {"question": "a or b?", "answer": "b", "question_type": "order"},
        {"question": "which?", "answer": "a", "question_type": "group"},
        {"question": "which?", "answer": "b", "question_type": "group"},
    ]
    assert ask.with_known_answers(rows, {"a": 0}) == [rows[2]]
    assert ask.with_known_answers(rows, {"a": 0, "b": 1}) == rows


def test_a_blind_guess_knows_the_texts_and_the_types(emoji: Any) -> None:
    def row(question: str, answer: str) -> dict[str, str]:
        return {"question": question, "answer": answer, "question_type": "t"}

    train = [row("q", "x"), row("q", "y"), row("q", "y"), row("r", "x"), row("r", "x")]
    guess = emoji.emoji_video_questions.blind_accuracy
    assert guess(train, [row("q", "y"), row("q", "x"), row("r", "y"), row("new", "x")]) == 0.5
    assert guess(train, [{**row("q2", "x"), "question_type": "new"}]) == 0


def test_a_second_run_keeps_what_is_there_and_makes_what_is_not(
    emoji: Any, packages: Path, out: Path, tmp_path: Path
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*.mp4")}
    kept, *lost = sorted(path for path in before if path.parent.name in ("plain", "rising"))
    for path in (lost[0], lost[-1]):
        path.unlink()
    assert build(emoji, packages, out) == 0
    after = {path: path.read_bytes() for path in out.rglob("*.mp4")}
    assert after == {path: content for path, (content, _) in before.items()}
    assert kept.stat().st_mtime_ns == before[kept][1]


def test_other_packages_do_not_mix(
    emoji: Any, packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "packages.json", {"openmoji": "1.0.0"})
    assert build(emoji, packages, tmp_path) == 1
    assert "was built from other packages" in caplog.messages[-1]
    assert not (tmp_path / "videos").exists()


def test_broken_animations_are_named(
    emoji: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assets = tmp_path / "anim-3/node_modules/@lobehub/fluent-emoji-anim-3/assets"
    animate(assets / "1f98a.webp")
    put(assets.parent / "package.json", {"version": "1.0.0"})
    whole = (assets / "1f98a.webp").read_bytes()
    (assets / "1f98a.webp").write_bytes(b"RIFF")
    with pytest.raises(emoji.build_videos.BuildError, match=r"cannot read .*1f98a\.webp"):
        emoji.build_videos.find_animations(tmp_path, [3])
    (assets / "1f98a.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(emoji.build_videos.BuildError, match=r"cannot read .*1f98a\.webp"):
        emoji.emoji_clips.read_halves(assets / "1f98a.webp")


def test_an_empty_pack_is_refused(emoji: Any, tmp_path: Path) -> None:
    pack = tmp_path / "anim-2/node_modules/@lobehub/fluent-emoji-anim-2"
    put(pack / "package.json", {"version": "1.0.0"})
    with pytest.raises(emoji.build_videos.BuildError, match="holds no WebP files"):
        emoji.build_videos.find_animations(tmp_path, [2])


def test_what_is_missing_is_said(
    emoji: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(emoji.build_videos.NEEDED, "av", "no_such_module")
    assert emoji.build_videos.main([str(tmp_path / "out")]) == 1
    assert caplog.messages == ["not installed: av; pip install av"]


def test_the_library_reads_both_sets(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(out.parent))
    found = load_dataset("emoji_video_retrieval")
    assert tuple(found) == PARTS
    assert found["test_unseen"].text == ["dog", "helicopter"]
    questions = load_dataset("emoji_video_qa")
    assert tuple(questions) == PARTS
    sample = questions["train"][0]
    assert Path(sample["video"]).is_file()
    record = questions["train"].annotation[0]
    assert questions["train"].classnames[sample["answers"]] == record["answer"]
