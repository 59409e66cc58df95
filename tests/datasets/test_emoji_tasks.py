"""What the emoji set's tasks are made of: texts, questions, statements and classes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "projects/emoji"
SAMPLE = ROOT / "lavis_clone/assets/emoji/annotations"
PARTS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def emoji() -> Any:
    """The modules of ``projects/emoji`` that make annotations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import build_easy_vqa
        import emoji_chance
        import emoji_kinds
        import emoji_questions
        import emoji_statements
        import emoji_tasks
        import emoji_texts

        modules = (
            *(build_easy_vqa, emoji_chance, emoji_kinds, emoji_questions),
            *(emoji_statements, emoji_tasks, emoji_texts),
        )
        return SimpleNamespace(**{module.__name__: module for module in modules})


@pytest.fixture(scope="module")
def parts(emoji: Any) -> dict[str, Rows]:
    """The caption records of the shipped sample, by part."""
    return emoji.emoji_tasks.parts_of(
        {s: json.loads((SAMPLE / f"{s}.json").read_text()) for s in ("train", "val", "test")}
    )


def row(key: str, name: str, *more: str, **fields: Any) -> dict[str, Any]:
    return {
        "image": f"noto/{key}.png",
        "caption": [name],
        "references": [name, *more],
        "concept": key,
        "name": name,
        "base": name,
        "group": "animals-nature",
        "subgroup": "animal-mammal",
        "seen": True,
        **fields,
    }


# --- texts --------------------------------------------------------------------------------------


def test_a_picture_is_trained_on_with_its_name_and_its_concept_as_id(emoji: Any) -> None:
    rows = [row("1", "dog", "pet", "puppy") for _ in range(2)]
    found = list(emoji.emoji_texts.retrieval_train(rows))
    assert [r["caption"] for r in found] == ["dog", "dog"]
    assert {r["image_id"] for r in found} == {"1"}


def test_a_keyword_that_names_something_held_out_is_no_text_to_train_on(emoji: Any) -> None:
    texts = emoji.emoji_texts
    splits = {
        "train": [row("1", "dog face", "bus-stop", "puppy")],
        "test": [row("2", "busstop", seen=False), row("3", "puppies")],
    }
    held_out = texts.names_held_out(splits)
    assert held_out == {"busstop"}
    assert texts.phrases_of(splits["train"][0], held_out) == ["dog face", "puppy"]
    assert [r["caption"] for r in texts.pairs(splits["train"], held_out)] == ["dog face", "puppy"]


def test_a_picture_is_to_be_found_by_its_name_alone(emoji: Any) -> None:
    (found,) = emoji.emoji_texts.retrieval_eval([row("1", "dog", "pet")])
    assert found == {
        "image": "noto/1.png",
        "caption": ["dog"],
        "image_id": "1",
        "base": "dog",
    }


# --- kinds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "name", "subgroup", "truth"),
    [
        ("an animal", "dog", "animal-mammal", True),
        ("an animal", "trumpet", "musical-instrument", False),
        ("an animal", "weary cat", "cat-face", None),
        ("an animal", "feather", "animal-bird", None),
        ("an animal", "leo", "zodiac", None),
        ("something to eat", "tomato", "food-fruit", True),
        ("something to eat", "crab", "animal-marine", None),
        ("a vehicle", "bus", "transport-ground", True),
        ("a vehicle", "bus stop", "transport-ground", None),
        ("a person", "woman cook", "person-role", True),
        ("a person", "ogre", "face-costume", None),
    ],
)
def test_a_kind_is_true_false_or_not_clear(
    emoji: Any, phrase: str, name: str, subgroup: str, truth: bool | None
) -> None:
    kind = emoji.emoji_kinds.kind(phrase)
    assert kind.is_true_of(row("1", name, subgroup=subgroup)) is truth


def test_kinds_and_sorts_speak_of_what_there_is(emoji: Any, parts: dict[str, Rows]) -> None:
    kinds = emoji.emoji_kinds
    rows = [r for part in parts.values() for r in part]
    subgroups = {r["subgroup"] for r in rows}
    for kind in kinds.KINDS:
        yes, no = kinds.divide(rows, kind)
        assert len(yes) >= 10, kind.phrase
        assert len(no) > len(rows) / 2, kind.phrase
    for question, answers in kinds.SORTS.items():
        assert set(answers) <= subgroups, question
        assert kinds.kind(kinds.SORT_NEEDS[question])
    assert set(kinds.GROUPS) == {r["group"] for r in rows}


# --- questions ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=PARTS)
def part(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def by_image(rows: Rows) -> dict[str, dict[str, Any]]:
    return {r["image"]: r for r in rows}


def everything(emoji: Any) -> Any:
    return emoji.emoji_questions.Shares(what=1, name=1, kind=1, group=1, sort=1)


def test_answers_are_true(emoji: Any, parts: dict[str, Rows], part: str) -> None:
    kinds, drawings = emoji.emoji_kinds, by_image(parts[part])
    records = emoji.emoji_questions.question_records(parts[part], everything(emoji))
    assert Counter(r["question_type"] for r in records).keys() == {
        *("what", "name", "kind", "group", "sort")
    }
    for record in records:
        drawing, question, answer = (
            drawings[record["image"]],
            record["question"],
            record["answer"],
        )
        if record["question_type"] == "what":
            assert answer == drawing["name"]
        elif record["question_type"] == "name":
            name = re.fullmatch(r"can this be called (.*)\?", question)
            assert name is not None
            known = drawing.get("references", drawing["caption"])
            assert (answer == "yes") == (name[1] == drawing["name"])
            assert answer == "yes" or name[1] not in known
        elif record["question_type"] == "kind":
            phrase = question.removeprefix("is this ").removesuffix("?")
            assert kinds.kind(phrase).is_true_of(drawing) is (answer == "yes")
        elif record["question_type"] == "group":
            assert kinds.GROUPS[drawing["group"]] == answer
        else:
            assert kinds.SORTS[question][drawing["subgroup"]] == answer


def test_a_question_is_answered_with_yes_as_often_as_with_no(
    emoji: Any, parts: dict[str, Rows], part: str
) -> None:
    records = emoji.emoji_questions.question_records(parts[part], everything(emoji).times(0.6))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record["question_type"] in ("name", "kind"):
            counts[record["question"]][record["answer"]] += 1
    assert len(counts) > 30
    assert all(count["yes"] == count["no"] for count in counts.values())
    asked = Counter((r["image"], r["question"]) for r in records)
    assert max(asked.values()) == 1


def test_a_smaller_share_is_a_part_of_a_larger_one(emoji: Any) -> None:
    items = list(map(str, range(1000)))
    few, more = (emoji.emoji_chance.thinned(items, share, key=str) for share in (0.2, 0.5))
    assert set(few) < set(more) < set(items)
    assert 150 < len(few) < 250
    assert 430 < len(more) < 570
    assert emoji.emoji_chance.thinned(items, 1, key=str) == items
    assert emoji.emoji_chance.thinned(items, 0, key=str) == []


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (row("2", "dog"), True),
        (row("2", "poodle", base="dog face"), True),
        (row("2", "face of a cute dog"), True),
        (row("2", "hound", "dogface"), True),
        (row("2", "cat face", "dog"), False),
    ],
)
def test_what_people_might_call_the_same_is_no_wrong_answer(
    emoji: Any, other: dict[str, Any], alike: bool
) -> None:
    dog = row("1", "dog face")
    assert emoji.emoji_questions.can_be_called(other, dog) is alike
    wrong = emoji.emoji_questions.another(dog, [other])
    assert wrong is (None if alike else other)


# --- two drawings, classes ----------------------------------------------------------------------


def is_true(emoji: Any, sentence: str, pair: list[dict[str, Any]]) -> bool:
    """Judge a sentence by the labels of the two drawings."""
    left, right = pair
    if found := re.fullmatch(r"the (left|right) picture shows (.*)", sentence):
        return {"left": left, "right": right}[found[1]]["name"] == found[2]
    if found := re.fullmatch(r"one of the pictures shows (.*)", sentence):
        return found[1] in (left["name"], right["name"])
    forms = "both pictures show|neither picture shows|at least one picture shows|only the"
    found = re.fullmatch(
        rf"({forms})(?: (left|right) picture shows)? (an? .*|something .*)", sentence
    )
    assert found is not None, sentence
    truths = [emoji.emoji_kinds.kind(found[3]).is_true_of(r) for r in pair]
    assert None not in truths
    if found[1] == "only the":
        return truths == [found[2] == "left", found[2] == "right"]
    return {
        "both pictures show": all(truths),
        "neither picture shows": not any(truths),
        "at least one picture shows": any(truths),
    }[found[1]]


def test_a_sentence_is_true_once_and_false_once(
    emoji: Any, parts: dict[str, Rows], part: str
) -> None:
    drawings = by_image(parts[part])
    records = emoji.emoji_statements.statement_records(parts[part], 1)
    assert len(records) > len(parts[part])
    labels: dict[str, list[str]] = defaultdict(list)
    for record in records:
        pair = [drawings[image] for image in record["images"]]
        assert pair[0] is not pair[1]
        assert (record["label"] == "True") is is_true(emoji, record["sentence"], pair), record
        labels[record["sentence"]].append(record["label"])
    assert all(2 * found.count("True") == len(found) for found in labels.values())
    assert max(len(re.findall(r"\b(left|right)\b", s)) for s in labels) == 1
    assert {s.split()[0] for s in labels} == {"the", "one", "both", "neither", "at", "only"}


def test_a_text_goes_once_with_each_class(emoji: Any, parts: dict[str, Rows], part: str) -> None:
    drawings = by_image(parts[part])
    named = {r["name"]: r for r in parts[part]}
    records = emoji.emoji_statements.class_records(parts[part], 1)
    assert len(records) > len(parts[part])
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        drawing, meant = drawings[record["image"]], named[record["sentence"]]
        if drawing["name"] == meant["name"]:
            truth = "same"
        elif drawing["subgroup"] == meant["subgroup"]:
            truth = "alike"
        else:
            truth = "different"
            assert drawing["group"] != meant["group"]
        assert record["label"] == truth
        labels[record["sentence"]][truth] += 1
    assert all(len(count) == 3 and len({*count.values()}) == 1 for count in labels.values())


# --- files --------------------------------------------------------------------------------------

WRITE = """
import json, sys
from pathlib import Path
from emoji_tasks import SAMPLE, write_tasks
given, out = map(Path, sys.argv[1:])
splits = {s: json.loads((given / f"{s}.json").read_text()) for s in ("train", "val", "test")}
write_tasks(splits, out, SAMPLE)
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_shipped_files_come_out_again(tmp_path: Path, seed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", WRITE, str(SAMPLE), str(tmp_path)]
    subprocess.run(command, env=environment, check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_bytes() for path in SAMPLE.iterdir()}
    assert set(shipped) - set(written) == {"train.json", "val.json", "test.json"}
    assert written == {name: shipped[name] for name in written}


# --- easy-VQA -----------------------------------------------------------------------------------


def put_wheel(path: Path, *, answers: str = "red\nyes\nno\ncircle\n") -> Path:
    """A package of 40 training pictures and one test picture."""
    train = [["what color is the shape?", "red", i] for i in range(40)]
    train += [["is there a circle in the image?", "yes", i] for i in range(40)]
    with zipfile.ZipFile(path, "w") as wheel:
        for folder, questions, count in (("train", train, 40), ("test", train[:1], 1)):
            wheel.writestr(f"easy_vqa/data/{folder}/questions.json", json.dumps(questions))
            for i in range(count):
                wheel.writestr(f"easy_vqa/data/{folder}/images/{i}.png", f"{folder} {i}")
        wheel.writestr("easy_vqa/data/answers.txt", answers)
        wheel.writestr("easy_vqa-1.0.dist-info/LICENSE", "MIT")
    return path


def test_easy_vqa_keeps_its_test_and_parts_val_by_picture(emoji: Any, tmp_path: Path) -> None:
    easy = emoji.build_easy_vqa
    wheel, out = put_wheel(tmp_path / "easy.whl"), tmp_path / "out"
    assert easy.main([str(out), "--wheel", str(wheel)]) == 0
    splits = {
        s: json.loads((out / f"annotations/{s}.json").read_text()) for s in ("train", "val", "test")
    }
    images = {split: {r["image"] for r in rows} for split, rows in splits.items()}
    assert not images["train"] & images["val"]
    assert images["train"] | images["val"] == {f"train/{i}.png" for i in range(40)}
    assert 0 < len(images["val"]) < 15
    assert len(splits["train"]) + len(splits["val"]) == 80
    assert splits["test"] == [
        {
            "image": "test/0.png",
            "question": "what color is the shape?",
            "answer": "red",
            "question_id": "test_0",
            "question_type": "color",
        }
    ]
    ids = [r["question_id"] for rows in splits.values() for r in rows]
    assert len(ids) == len(set(ids))
    assert json.loads((out / "annotations/answer_list.json").read_text()) == [
        *("circle", "no", "red", "yes")
    ]
    for rows in splits.values():
        for record in rows:
            folder, name = record["image"].split("/")
            stem = name.removesuffix(".png")
            assert (out / "images" / record["image"]).read_text() == f"{folder} {stem}"
    assert (out / "LICENSE").read_text() == "MIT"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no zip", "cannot read"), (None, "answers that are not in its list: red")],
)
def test_a_broken_easy_vqa_is_told_in_one_line(
    emoji: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
    message: str,
) -> None:
    wheel = tmp_path / "easy.whl"
    if content is None:
        put_wheel(wheel, answers="yes\nno\ncircle\n")
    else:
        wheel.write_bytes(content)
    assert emoji.build_easy_vqa.main([str(tmp_path / "out"), "--wheel", str(wheel)]) == 1
    assert message in caplog.messages[-1]
    assert "\n" not in caplog.messages[-1]
