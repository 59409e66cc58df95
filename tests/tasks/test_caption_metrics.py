"""The scores of captions: by hand, beside stored official ones, and beside pycocoevalcap's own."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavis_clone.tasks.metrics import java
from lavis_clone.tasks.metrics.caption import (
    METRICS,
    CaptionScores,
    bleu,
    cider,
    meteor,
    rouge_l,
    score_captions,
)
from tests.fixtures.ptb.make import official_scores

WITHOUT_JAVA = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
CASE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "ptb" / "scores.json").read_text(encoding="utf-8")
)


def needs_java(test: Callable[..., None]) -> Callable[..., None]:
    skip = pytest.mark.skipif(shutil.which("java") is None, reason="Java was not found")
    return pytest.mark.needs_java(skip(test))


def words(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def assert_official(scores: CaptionScores, official: dict[str, Any], ids: list[str]) -> None:
    """All of ``official`` is in ``scores``, overall and for each id, to 1e-6."""
    for name, (overall, per_item) in official.items():
        assert scores.overall[name] == pytest.approx(overall, abs=1e-6), name
        assert list(scores.per_item[name]) == ids
        assert list(scores.per_item[name].values()) == pytest.approx(per_item, abs=1e-6), name


# By hand.


def test_bleu_by_hand() -> None:
    """All n-grams are found, but three words of four: the penalty is exp(1 - 4/3)."""
    scores = bleu(words("the cat sat"), [words("the cat sat down")], max_order=3)
    assert [s.overall for s in scores] == pytest.approx([math.exp(-1 / 3)] * 3)
    assert [s.per_item for s in scores] == [[pytest.approx(math.exp(-1 / 3))]] * 3


def test_bleu_counts_a_word_as_often_as_one_reference_has_it() -> None:
    references = words("the cat", "the dog ate the rat")
    assert bleu(words("the the the"), [references], max_order=1)[0].overall == pytest.approx(2 / 3)


def test_bleu_compares_with_the_shorter_of_two_lengths_equally_close() -> None:
    """Four words beside three and five: with the five there would be a penalty."""
    references = words("a b c d e", "a b c")
    assert bleu(words("a b c d"), [references], max_order=1)[0].overall == pytest.approx(1.0)


def test_bleu_of_a_set_adds_up_counts() -> None:
    """1 of 1 and 1 of 3 words are found: 2 of 4 together, not 2/3 on average."""
    scores = bleu(words("a", "b x y"), [words("a"), words("b c d")], max_order=1)
    assert scores[0].per_item == pytest.approx([1.0, 1 / 3])
    assert scores[0].overall == pytest.approx(0.5)


def test_bleu_of_words_fewer_than_its_order_has_the_official_size() -> None:
    """No 2-gram is there to be found: the official guards give sqrt(1 * 1e-15 / 1e-9)."""
    scores = bleu(words("a"), [words("a")], max_order=2)
    assert scores[1].overall == pytest.approx(math.sqrt(1e-6), rel=1e-6)


def test_rouge_by_hand() -> None:
    """Two words of three, and of four, are common: P = 2/3, R = 1/2."""
    expected = 2.44 * (2 / 3) * (1 / 2) / (1 / 2 + 1.44 * 2 / 3)
    score = rouge_l(words("a b c"), [words("a x c d")])
    assert score.overall == pytest.approx(expected) == score.per_item[0]


def test_rouge_takes_the_best_precision_and_the_best_recall() -> None:
    """P = 2/2 beside the first reference, R = 1/1 beside the second."""
    assert rouge_l(words("a b"), [words("a b c d", "b")]).overall == pytest.approx(1.0)


def test_rouge_is_about_order() -> None:
    assert rouge_l(words("a b"), [words("b a")]).overall == pytest.approx(0.5)
    assert rouge_l(words("a a b"), [words("a b b")]).overall == pytest.approx(2 / 3)


def test_cider_by_hand() -> None:
    """``ball`` is with both images and counts nothing. Of four orders two have n-grams."""
    score = cider(words("red ball", "red ball"), [words("red ball"), words("blue ball")])
    assert score.per_item == pytest.approx([5.0, 0.0])
    assert score.overall == pytest.approx(2.5)


def test_cider_of_another_length_by_hand() -> None:
    """``ball ball`` is unseen, so 2-grams agree by 1/sqrt(2); the lengths differ by 1."""
    score = cider(words("red ball ball", "x"), [words("red ball"), words("blue ball")])
    expected = 10 / 4 * (1 + 1 / math.sqrt(2)) * math.exp(-1 / (2 * 6**2))
    assert score.per_item[0] == pytest.approx(expected)


def test_cider_averages_over_references() -> None:
    both = cider(words("red ball", "x"), [words("red ball", "green sky"), words("blue ball")])
    assert both.per_item[0] == pytest.approx(2.5)


def test_one_image_is_not_set_apart_by_anything() -> None:
    assert cider(words("a red ball"), [words("a red ball")]).overall == 0.0


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider, meteor])
def test_metrics_reject_what_they_cannot_score(metric: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no captions to score"):
        metric([], [])
    with pytest.raises(ValueError, match="2 captions, but references for 1"):
        metric(words("a", "b"), [words("a")])
    with pytest.raises(ValueError, match="caption 1 has no reference"):
        metric(words("a", "b"), [words("a"), []])


# Properties.

token = st.sampled_from(["a", "b", "c", "dog", "red"])
caption = st.lists(token, max_size=7)
images = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=3)), min_size=1)


def common_subsequence(a: list[str], b: list[str]) -> int:
    """The textbook's definition."""
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return common_subsequence(a[:-1], b[:-1]) + 1
    return max(common_subsequence(a[:-1], b), common_subsequence(a, b[:-1]))


@given(st.lists(token, min_size=1, max_size=6), st.lists(token, min_size=1, max_size=6))
def test_rouge_finds_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    common = common_subsequence(a, b)
    p, r = common / len(a), common / len(b)
    expected = 2.44 * p * r / (r + 1.44 * p) if common else 0.0
    assert rouge_l([a], [[b]]).overall == pytest.approx(expected)


@given(images)
def test_scores_stay_in_their_range(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    for score in [*bleu(predictions, references), rouge_l(predictions, references)]:
        assert all(0.0 <= value <= 1.0 + 1e-9 for value in [score.overall, *score.per_item])
    score = cider(predictions, references)
    assert all(0.0 <= value <= 10.0 + 1e-9 for value in [score.overall, *score.per_item])


@given(st.lists(st.lists(token, min_size=4, max_size=9), min_size=1, max_size=5))
def test_captions_equal_to_a_reference_are_perfect(captions: list[list[str]]) -> None:
    references = [[c] for c in captions]
    assert [s.overall for s in bleu(captions, references)] == pytest.approx([1.0] * 4)
    assert rouge_l(captions, references).overall == pytest.approx(1.0)


def test_different_captions_equal_to_their_references_get_the_highest_cider() -> None:
    captions = words("a red dog runs fast", "one small boat at sea")
    assert cider(captions, [[c] for c in captions]).per_item == pytest.approx([10.0, 10.0])


# Texts, as tasks score them.


def test_texts_are_tokenized() -> None:
    scores = score_captions(
        {1: "A dog's RED ball!", 2: "Two cats."},
        {1: ["a dog's red ball"], 2: ["two cats"]},
        metrics=["Bleu_1", "ROUGE_L"],
    )
    assert scores.per_item["Bleu_1"] == pytest.approx({1: 1.0, 2: 1.0})
    assert scores.per_item["ROUGE_L"] == pytest.approx({1: 1.0, 2: 1.0})


def test_stored_official_scores() -> None:
    official = {name: CASE["scores"][name] for name in WITHOUT_JAVA}
    scores = score_captions(CASE["predictions"], CASE["references"], metrics=WITHOUT_JAVA)
    assert_official(scores, official, list(CASE["references"]))
    assert list(scores.overall) == WITHOUT_JAVA
    assert scores.not_computed == {}


def test_the_order_of_predictions_and_of_references_of_an_image_do_not_matter() -> None:
    backwards = dict(reversed(CASE["predictions"].items()))
    references = {i: own[::-1] for i, own in CASE["references"].items()}
    one = score_captions(CASE["predictions"], CASE["references"], metrics=WITHOUT_JAVA)
    assert score_captions(backwards, CASE["references"], metrics=WITHOUT_JAVA) == one
    other = score_captions(backwards, references, metrics=WITHOUT_JAVA)
    assert other.overall == pytest.approx(one.overall, abs=1e-12)


def test_the_order_of_images_does_not_matter() -> None:
    images = list(CASE["references"])
    random.Random(0).shuffle(images)
    references = {i: CASE["references"][i] for i in images}
    one = score_captions(CASE["predictions"], CASE["references"], metrics=WITHOUT_JAVA)
    other = score_captions(CASE["predictions"], references, metrics=WITHOUT_JAVA)
    assert other == one  # dicts are equal in any order


def test_repeating_every_image_changes_neither_bleu_nor_rouge() -> None:
    names = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L"]
    copies = [(i, n) for i in CASE["references"] for n in range(3)]
    other = score_captions(
        {(i, n): CASE["predictions"][i] for i, n in copies},
        {(i, n): CASE["references"][i] for i, n in copies},
        metrics=names,
    )
    one = score_captions(CASE["predictions"], CASE["references"], metrics=names)
    assert other.overall == pytest.approx(one.overall, abs=1e-9)


@pytest.mark.parametrize("nothing", ["", "   ", "...", "\n"])
def test_an_empty_prediction_scores_nothing(nothing: str) -> None:
    scores = score_captions(
        {"a": nothing, "b": "a red ball"},
        {"a": ["a dog runs"], "b": ["a red ball"]},
        metrics=WITHOUT_JAVA,
    )
    assert all(per_item["a"] == pytest.approx(0.0) for per_item in scores.per_item.values())
    assert scores.per_item["ROUGE_L"]["b"] == pytest.approx(1.0)


def test_two_empty_captions_agree_in_rouge_as_officially() -> None:
    assert score_captions({1: ""}, {1: ["."]}, metrics=["ROUGE_L"]).overall == {"ROUGE_L": 1.0}


def test_metrics_can_be_chosen() -> None:
    scores = score_captions({1: "a"}, {1: ["a"]}, metrics=["CIDEr", "Bleu_2"])
    assert list(scores.overall) == list(scores.per_item) == ["Bleu_2", "CIDEr"]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({}, {}, "there are no captions to score"),
        ({1: "a", 2: "b", 3: "c"}, {1: ["a"]}, "2 predictions have no references, e.g. 2"),
        ({1: "a"}, {1: ["a"], 2: ["b"]}, "1 images have no prediction, e.g. 2"),
        ({}, {"x": ["b"]}, "1 images have no prediction, e.g. 'x'"),
        ({1: "a"}, {"1": ["a"]}, "ids of predictions are int, of references str"),
        ({1: "a"}, {1: []}, "image 1 has no references"),
        ({1: "a"}, {1: "a dog"}, "the references of 1 are 'a dog', expected a list of texts"),
        ({1: "a"}, {1: [7]}, "the references of 1 are"),
        ({1: ["a"]}, {1: ["a"]}, "the prediction of 1 is"),
        ({1: None}, {1: ["a"]}, "the prediction of 1 is None, expected one text"),
    ],
)
def test_bad_input_is_named_in_a_line(predictions: Any, references: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        score_captions(predictions, references)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_metric_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="unknown caption metric 'Cider', expected Bleu_1.*CIDEr"):
        score_captions({1: "a"}, {1: ["a"]}, metrics=["Bleu_1", "Cider"])


# METEOR and SPICE: what can be checked without Java is checked with a program in its place.


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a Python program in Java's place; the folder that it may write to is given back."""

    def install(program: str) -> Path:
        path = tmp_path / "java"
        header = (
            f"#!{sys.executable}\nimport json, os, pathlib, sys, time\nhere = {str(tmp_path)!r}\n"
        )
        path.write_text(header + program)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        return tmp_path

    return install


TWO = ({1: "a red ball", 2: ""}, {1: ["red", "a ball"], 2: ["dogs"]})

FAKE_METEOR = """
log = open(here + "/log", "w")
log.write(f"{os.getpid()}\\n")
for line in sys.stdin:
    log.write(line)
    log.flush()
    kind, *rest = line.rstrip("\\n").split(" ||| ")
    if kind == "SCORE":
        print(len(rest), "1.0", flush=True)
    else:
        print("\\n".join(f"0.{i + 1}" for i in range(len(rest) + 1)), flush=True)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_meteor_is_asked_in_its_own_language(fake_java: Callable[[str], Path]) -> None:
    folder = fake_java(FAKE_METEOR)
    scores = score_captions(*TWO, metrics=["METEOR"])
    assert scores.overall == {"METEOR": 0.3}
    assert scores.per_item == {"METEOR": {1: 0.1, 2: 0.2}}
    pid, *asked = (folder / "log").read_text().splitlines()
    assert asked == [
        "SCORE ||| red ||| a ball ||| a red ball",
        "SCORE ||| dogs ||| ",
        "EVAL ||| 3 1.0 ||| 2 1.0",
    ]
    assert not is_running(int(pid))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("sys.exit('Error: no memory')", "its program failed: Error: no memory"),
        ("sys.exit(1)", "its program failed"),
        ("print('what?\\n' * 9, flush=True); time.sleep(600)", "its program failed"),
    ],
)
def test_a_failing_program_is_a_reason(
    fake_java: Callable[[str], Path], program: str, reason: str
) -> None:
    folder = fake_java(f"open(here + '/log', 'w').write(str(os.getpid()))\n{program}")
    scores = score_captions(*TWO, metrics=["Bleu_1", "METEOR"])
    assert scores.not_computed == {"METEOR": reason}
    assert list(scores.overall) == ["Bleu_1"]
    assert not is_running(int((folder / "log").read_text()))


FAKE_SPICE = """
given = json.loads(pathlib.Path(sys.argv[5]).read_text())
pathlib.Path(here, "log").write_text(json.dumps([given, sys.argv[4]]))
rows = [{"image_id": g["image_id"], "scores": {"All": {"f": 0.5 * g["image_id"]}}} for g in given]
pathlib.Path(sys.argv[sys.argv.index("-out") + 1]).write_text(json.dumps(rows[::-1]))
print("noise")
"""


def test_spice_is_asked_by_file(
    fake_java: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "_SPICE_MODELS", ())
    folder = fake_java(FAKE_SPICE)
    scores = score_captions(*TWO, metrics=["SPICE"])
    assert scores.per_item == {"SPICE": {1: 0.0, 2: 0.5}}
    assert scores.overall == {"SPICE": 0.25}
    given, jar = json.loads((folder / "log").read_text())
    assert jar == "spice-1.0.jar"
    assert given == [
        {"image_id": 0, "test": "a red ball", "refs": ["red", "a ball"]},
        {"image_id": 1, "test": "", "refs": ["dogs"]},
    ]


def test_spice_never_downloads(fake_java: Callable[[str], Path], monkeypatch: Any) -> None:
    fake_java("sys.exit('must not run')")
    monkeypatch.setattr(java, "_SPICE_MODELS", ("nowhere.jar",))
    reason = score_captions(*TWO, metrics=["SPICE"]).not_computed["SPICE"]
    assert reason.startswith("its models are not on disk")
    assert "nowhere.jar" in reason


def test_without_java_the_rest_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java, "_SPICE_MODELS", ())
    scores = score_captions(*TWO)
    assert list(scores.overall) == WITHOUT_JAVA
    assert scores.not_computed == {name: "Java was not found" for name in ("METEOR", "SPICE")}


def test_without_pycocoevalcap_the_rest_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    scores = score_captions(*TWO)
    assert list(scores.overall) == WITHOUT_JAVA
    assert "not installed" in scores.not_computed["METEOR"]


# Against pycocoevalcap itself.


PHRASES = (
    "a man|two women|A little girl|the dog|several people|an old man's dog|a U.S. soldier|kids|"
    "a black-and-white cat|the St. Bernard|a 20-year-old|Mr. Smith|“somebody”",
    "is riding|rides|sits on|stands near|is holding|doesn't like|jumps over|can't reach|"
    "walks past|are playing with|cannot see|wanna buy",
    "a surfboard|the red bus|a slice of pizza|a frisbee|an umbrella|a no. 5 sign|3 kites|a t-shirt|"
    'the teacher\'s desk|a $5 sandwich|a "stop" sign|letter B|AT&T tower|1 1/2 cakes',
    "on the beach|in a park|at 10:30 a.m.|in the street|near the water (again)|by night...|:)|"
    "with 1,000 others|in St. Louis, Mo.|of course|, it'll be fine|– really|<unk>",
)


def images_with_noise(count: int, *, seed: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions that share much with their references, written as carelessly as people do."""
    rng = random.Random(seed)
    subjects, verbs, objects, places = (part.split("|") for part in PHRASES)

    def text(subject: str, thing: str) -> str:
        own = rng.random() < 0.6
        parts = [subject if own else rng.choice(subjects), rng.choice(verbs)]
        parts += [thing if rng.random() < 0.6 else rng.choice(objects), rng.choice(places)]
        line = " ".join(parts)
        line = line[0].upper() + line[1:] if rng.random() < 0.5 else line
        return line + rng.choice(["", ".", " .", "!", ". "])

    predictions, references = {}, {}
    for i in range(count):
        subject, thing = rng.choice(subjects), rng.choice(objects)
        references[f"image{i}"] = [text(subject, thing) for _ in range(5)]
        predictions[f"image{i}"] = rng.choice([text(subject, thing)] * 40 + ["", "."])
    return predictions, references


@needs_java
def test_a_thousand_images_score_as_with_pycocoevalcap() -> None:
    predictions, references = images_with_noise(1000, seed=3)
    shuffled = dict(sorted(predictions.items(), key=lambda item: item[1]))
    scores = score_captions(shuffled, references, metrics=WITHOUT_JAVA)
    official = official_scores(predictions, references, meteor=False)
    assert_official(scores, official, list(references))


@pytest.mark.slow
@needs_java
def test_all_stored_scores_are_official_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    scores = score_captions(CASE["predictions"], CASE["references"])
    assert capfd.readouterr() == ("", "")
    assert_official(scores, CASE["scores"], list(CASE["references"]))
    official = official_scores(CASE["predictions"], CASE["references"], meteor=False)
    assert_official(scores, official, list(CASE["references"]))
    assert {*scores.overall, *scores.not_computed} == set(METRICS)
