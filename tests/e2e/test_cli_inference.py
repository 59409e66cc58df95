"""``ask``, ``match``, ``classify`` and ``features``: what a user gives and what comes back."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from lavis_clone.common.registry import registry
from lavis_clone.models import load_model_and_preprocess
from tests.e2e import toys
from tests.e2e.toys import invoke, refused
from tests.models import tiny

LABELS = "red cat,blue dog,green bird,house"
FEATURES = "blip_feature_extractor"
MATCHING = "blip_image_text_matching"
ANSWERS = "blip_vqa"
PREPROCESS = {"vis_processor": toys.VIS, "text_processor": toys.TEXT}


def save(folder, name, **changes):
    """A model with random weights that are large enough to have opinions."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    block = tiny.block(name, **changes)(tiny.write_vocabulary(folder))
    model = registry.get_model_class(name).from_config(block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        if hasattr(model, "temp"):
            model.temp.fill_(0.2)
    return model.save_pretrained(folder, preprocess=PREPROCESS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A saved model for each name."""
    root = tmp_path_factory.mktemp("models")
    comparing = (FEATURES, MATCHING, "albef_feature_extractor", "albef_retrieval")
    saved = {name: save(root / name, name, embed_dim=8) for name in comparing}
    return saved | {name: save(root / name, name) for name in (ANSWERS, "albef_vqa")}


@pytest.fixture
def pictures(tmp_path):
    """Five pictures that differ, and their paths."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, color in enumerate([*toys.COLORS.values(), (250, 240, 20)]):
        image = Image.new("RGB", (24, 20), color)
        image.paste((10 * index, 90, 120), (0, 0, 4 + 3 * index, 9))
        image.save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def loaded(folder, name):
    model, images, texts = load_model_and_preprocess(name, str(folder), is_eval=True)
    return model, images["eval"], texts["eval"]


def rows_of(done):
    assert done.exit_code == 0, (done.stderr, done.exception)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("command", ["ask", "match", "classify", "features"])
def test_every_command_has_help(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout


# --- ask ----------------------------------------------------------------------------------------

QUESTIONS = ("What runs?", "is it a red house and is the bird on it", "where is the dog?")


def calls_of(monkeypatch, name):
    """How many pictures the vision tower gets, call by call."""
    calls = []
    tower = registry.get_model_class(name)
    encode = tower.image_tokens
    monkeypatch.setattr(
        tower, "image_tokens", lambda self, x: calls.append(len(x)) or encode(self, x)
    )
    return calls


def asked_alone(folder, name, path, **options):
    """What a model says to each question, asked by itself."""
    model, images, texts = loaded(folder, name)
    for question in QUESTIONS:
        samples = {"image": images(str(path))[None], "text_input": [texts(question)]}
        found = model.predict_answers_with_confidence(samples, **options)
        yield question, found.text[0], pytest.approx(found.confidence.item(), abs=2e-4)


def answers_of(rows):
    return [(row["question"], row["answer"], row["confidence"]) for row in rows]


@pytest.mark.parametrize("size", [1, 2, 32])
def test_written_answers_are_those_of_each_question_alone(folders, pictures, monkeypatch, size):
    expected = asked_alone(folders[ANSWERS], ANSWERS, pictures[0], inference_method="generate")
    expected = list(expected)
    calls = calls_of(monkeypatch, ANSWERS)
    options = ("--type", folders[ANSWERS], "--json", "--batch-size", size)
    rows = rows_of(invoke("ask", pictures[0], *QUESTIONS, *options))
    assert answers_of(rows) == expected
    assert all(row["image"] == str(pictures[0]) for row in rows)
    assert calls == [1] * -(-len(QUESTIONS) // size)


@pytest.mark.parametrize("name", [ANSWERS, "albef_vqa"])
def test_answers_are_chosen_from_a_list(folders, pictures, tmp_path, monkeypatch, name):
    choices = ["red", "the cat", "a blue bird", "house"]
    options = {"inference_method": "rank", "answer_list": choices}
    expected = list(asked_alone(folders[name], name, pictures[3], **options))
    (tmp_path / "answers.txt").write_text("\n".join(choices))
    calls = calls_of(monkeypatch, name)
    for given in (",".join(choices), tmp_path / "answers.txt"):
        model = ("--model", name, "--type", folders[name], "--answers", given)
        rows = rows_of(invoke("ask", pictures[3], *QUESTIONS, *model, "--json"))
        assert answers_of(rows) == expected
    assert calls == [1, 1]


def test_ask_prints_a_line_an_answer_and_writes_rows(folders, pictures, tmp_path):
    output = tmp_path / "out.jsonl"
    options = ("--type", folders[ANSWERS], "-o", output, "--num-beams", "1")
    done = invoke("ask", pictures[1], *QUESTIONS, *options)
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["question"] for row in rows] == list(QUESTIONS)
    assert done.stdout.splitlines() == [
        f"{row['question']} {row['answer']} ({row['confidence']:.2f})" for row in rows
    ]


# --- match --------------------------------------------------------------------------------------

TEXTS = ("a red cat", "The Blue Dog!", "house", "a picture of the bird and the house")


@pytest.mark.parametrize("size", [1, 3, 64])
def test_match_gives_the_models_own_numbers_the_likeliest_first(folders, pictures, size):
    model, images, texts = loaded(folders[MATCHING], MATCHING)
    samples = {
        "image": images(str(pictures[0]))[None].expand(len(TEXTS), -1, -1, -1),
        "text_input": [texts(text) for text in TEXTS],
    }
    sure = dict(zip(TEXTS, model.match(samples).confidence.tolist(), strict=True))
    alike = dict(zip(TEXTS, model(samples, match_head="itc")[0].tolist(), strict=True))
    options = ("--type", folders[MATCHING], "--json", "--batch-size", size)
    rows = rows_of(invoke("match", pictures[0], *TEXTS, *options))
    assert [row["text"] for row in rows] == sorted(TEXTS, key=lambda text: -sure[text])
    for row in rows:
        assert row["image"] == str(pictures[0])
        assert row["confidence"] == pytest.approx(sure[row["text"]], abs=2e-4)
        assert row["cosine"] == pytest.approx(alike[row["text"]], abs=2e-4)


def test_match_runs_the_vision_tower_once(folders, pictures, monkeypatch):
    calls = calls_of(monkeypatch, MATCHING)
    options = ("--type", folders[MATCHING], "--batch-size", "2")
    assert invoke("match", pictures[0], *TEXTS, *options).exit_code == 0
    assert calls == [1]


def test_match_prints_a_line_a_text_and_writes_rows(folders, pictures, tmp_path):
    output = tmp_path / "out.jsonl"
    options = ("--type", folders[MATCHING], "-o", output)
    done = invoke("match", pictures[1], *TEXTS, *options)
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert done.stdout.splitlines() == [
        f"{row['text']} ({row['confidence']:.2f}, cosine {row['cosine']:.2f})" for row in rows
    ]


def test_a_model_whose_texts_go_on_where_they_were_read_matches_too(folders, pictures):
    name = "albef_retrieval"
    model, images, texts = loaded(folders[name], name)
    image = model.embed_images(images(str(pictures[2]))[None])
    options = ("--model", name, "--type", folders[name], "--json")
    rows = rows_of(invoke("match", pictures[2], *TEXTS, *options))
    assert {row["text"] for row in rows} == set(TEXTS)
    assert all(0 < row["confidence"] < 1 for row in rows)
    hidden = []
    model.itm_head.register_forward_hook(lambda _m, _i, logits: hidden.append(logits))
    for text in (row["text"] for row in rows):
        score = model.match_pairs(image.tokens[0], model.embed_texts([texts(text)]))
        assert hidden[-1][0, 1] == score
    sure = [logits.softmax(dim=1)[0, 1].item() for logits in hidden]
    assert [row["confidence"] for row in rows] == pytest.approx(sure, abs=2e-4)


# --- classify -----------------------------------------------------------------------------------


def expected_confidences(folder, name, pictures, labels, *, prompt, temperature):
    model, images, texts = loaded(folder, name)
    embedded = model.embed_images(torch.stack([images(str(path)) for path in pictures])).projected
    prompted = [texts(prompt.replace("{}", label)) for label in labels]
    cosines = embedded @ model.embed_texts(prompted).projected.t()
    return (cosines / temperature).softmax(dim=1)


@pytest.mark.parametrize(
    ("name", "temperature"), [(FEATURES, 0.2), (MATCHING, 0.07), ("albef_feature_extractor", 0.2)]
)
def test_classify_is_the_softmax_of_cosines(folders, pictures, name, temperature):
    labels = LABELS.split(",")
    prompt = "the {}"
    expected = expected_confidences(
        folders[name], name, pictures, labels, prompt=prompt, temperature=temperature
    )
    options = ("--model", name, "--type", folders[name], "--batch-size", "2", "--json")
    folder = pictures[0].parent
    rows = rows_of(invoke("classify", folder, "--labels", LABELS, "--prompt", prompt, *options))
    assert [row["image"] for row in rows] == [str(p) for p in pictures for _ in labels]
    for index, values in enumerate(expected):
        mine = rows[4 * index : 4 * index + 4]
        assert sum(row["confidence"] for row in mine) == pytest.approx(1, abs=1e-3)
        sure = dict(zip(labels, values.tolist(), strict=True))
        assert [row["label"] for row in mine] == sorted(labels, key=lambda text: -sure[text])
        for row in mine:
            assert row["confidence"] == pytest.approx(sure[row["label"]], abs=2e-4)


def test_labels_from_a_file_and_the_top_ones(folders, pictures, tmp_path):
    listed = tmp_path / "labels.txt"
    listed.write_text("\n".join(LABELS.split(",")) + "\n\n")
    options = ("--type", folders[FEATURES])
    short = invoke("classify", pictures[0], "--labels", listed, "--top", "2", *options)
    whole = invoke("classify", pictures[0], "--labels", LABELS, *options)
    assert len(short.stdout.splitlines()) == 2
    assert len(whole.stdout.splitlines()) == 4
    assert whole.stdout.startswith(short.stdout)
    assert whole.stdout.startswith(f"{pictures[0]}: ")


def test_a_bad_picture_is_told_and_the_others_are_classified(folders, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    options = ("--labels", LABELS, "--type", folders[FEATURES], "--top", "1")
    done = invoke("classify", pictures[0], bad, pictures[1], *options)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {bad}: not a picture")
    assert len(done.stdout.splitlines()) == 2
    assert refused("classify", bad, *options) == [line]


# --- features -----------------------------------------------------------------------------------


def features(folders, *arguments, model=FEATURES):
    return invoke("features", *arguments, "--model", model, "--type", folders[model])


def opened(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("size", [1, 2, 8])
def test_image_features_are_those_of_the_model(folders, pictures, tmp_path, size):
    model, images, _ = loaded(folders[FEATURES], FEATURES)
    batch = torch.stack([images(str(path)) for path in pictures])
    expected = model.extract_features({"image": batch}, mode="image")
    output = tmp_path / "out.npz"
    done = features(folders, pictures[0].parent, "-o", output, "--tokens", "--batch-size", size)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{output}: 5 rows\n"
    found = opened(output)
    assert found["names"].tolist() == [str(path) for path in pictures]
    assert found["image_embeds_proj"].dtype == found["image_embeds"].dtype == np.float32
    np.testing.assert_allclose(
        found["image_embeds_proj"], expected.image_embeds_proj[:, 0], atol=1e-5
    )
    np.testing.assert_allclose(found["image_embeds"], expected.image_embeds, atol=1e-4)
    assert json.loads(str(found["settings"]))["mode"] == "image"
    assert not output.with_name("out.npz.part").exists()


def test_half_is_half(folders, pictures, tmp_path):
    for name, extra in (("whole", ()), ("half", ("--half",))):
        assert features(folders, *pictures, "-o", tmp_path / f"{name}.npz", *extra).exit_code == 0
    whole, half = (opened(tmp_path / f"{name}.npz") for name in ("whole", "half"))
    assert half["image_embeds_proj"].dtype == np.float16
    assert "image_embeds" not in whole
    np.testing.assert_allclose(half["image_embeds_proj"], whole["image_embeds_proj"], atol=1e-3)


@pytest.mark.parametrize("name", [FEATURES, "albef_feature_extractor"])
@pytest.mark.parametrize("mode", ["text", "multimodal"])
def test_texts_and_pairs(folders, pictures, tmp_path, name, mode):
    lines = ["A red cat.", "the dog runs and the dog sits", "house", "a bird", "blue"]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    model, images, texts = loaded(folders[name], name)
    rows = []
    for path, line in zip(pictures, lines, strict=True):  # alone, so without padding
        samples = {"image": images(str(path))[None], "text_input": [texts(line)]}
        output = model.extract_features(samples, mode=mode)
        both = mode == "multimodal"
        rows.append((output.multimodal_embeds if both else output.text_embeds_proj)[0, 0])
    output = tmp_path / "out.npz"
    sources = pictures if mode == "multimodal" else ()
    options = ("--mode", mode, "--texts", tmp_path / "texts.txt", "--batch-size", "3")
    done = features(folders, *sources, "-o", output, *options, model=name)
    assert done.exit_code == 0, done.stderr
    found = opened(output)
    assert found["texts"].tolist() == lines
    assert ("names" in found) == (mode == "multimodal")
    key = "multimodal_embeds" if mode == "multimodal" else "text_embeds_proj"
    np.testing.assert_allclose(found[key], torch.stack(rows), atol=1e-4)


def test_pictures_that_cannot_be_read_are_left_out(folders, pictures, tmp_path):
    pictures[2].write_text("no picture")
    output = tmp_path / "out.npz"
    done = features(folders, *pictures, "-o", output, "--batch-size", "2")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {pictures[2]}: not a picture")
    found = opened(output)
    assert found["names"].tolist() == [str(p) for p in pictures if p != pictures[2]]
    assert np.linalg.norm(found["image_embeds_proj"], axis=1) == pytest.approx(1, abs=1e-4)
    again = features(folders, *pictures, "-o", output)
    assert (again.exit_code, again.stdout) == (1, f"{output}: is there already, with 4 rows\n")
    alone = tmp_path / "alone.npz"
    assert refused("features", pictures[2], "-o", alone, "--type", folders[FEATURES])
    assert not alone.exists()


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def rows_done(folder):
    """How many rows a run has kept."""
    if not (folder / "settings.json").exists():
        return 0
    return int(np.load(folder / "done.npy").sum())


def kill_at(part, rows, command):
    """Start a command, and kill it when it has kept so many rows and waits for more."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lavis_clone.cli", *map(str, command)],
        cwd=toys.ROOT,
        env={**os.environ, **toys.ALONE, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: rows_done(part) >= rows or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL, told
    assert rows_done(part) == rows


def test_a_killed_run_goes_on_and_loses_nothing(folders, pictures, tmp_path):
    """A picture is a pipe that nothing comes out of, so the run waits there until it is killed."""
    for path in list(pictures):
        pictures.append(path.with_name(f"more_{path.name}"))
        Image.open(path).rotate(90).save(pictures[-1])
    whole, output = tmp_path / "whole.npz", tmp_path / "out.npz"
    part = tmp_path / "out.npz.part"
    options = ("--type", folders[FEATURES], "--tokens")
    assert invoke("features", *pictures, "-o", whole, *options).exit_code == 0
    command = ("features", *pictures, "-o", output, *options)

    pictures[7].rename(tmp_path / "aside.png")
    os.mkfifo(pictures[7])
    kill_at(part, 6, [*command, "--batch-size", "2"])
    assert not output.exists()
    pictures[7].unlink()
    (tmp_path / "aside.png").rename(pictures[7])
    assert refused(*command, "--half") == [
        f"error: {part} was made with other settings (half: False and not True); delete it, or "
        "choose another output"
    ]
    assert rows_done(part) == 6

    for path in pictures[:6]:
        path.unlink()  # what is done is not done again
    done = invoke(*command, "--batch-size", "3")
    assert done.exit_code == 0, done.stderr
    assert "going on after 6 of 10" in done.stderr
    assert not part.exists()
    found, expected = opened(output), opened(whole)
    assert found.keys() == expected.keys()
    assert found["names"].tolist() == expected["names"].tolist() == [str(p) for p in pictures]
    for name in ("image_embeds_proj", "image_embeds"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


def test_a_run_that_was_stopped_tries_bad_pictures_again(folders, pictures, tmp_path):
    good = pictures[1].read_bytes()
    pictures[1].write_text("no picture")
    os.mkfifo(tmp_path / "waiting.png")
    sources = [*pictures, tmp_path / "waiting.png"]
    output = tmp_path / "out.npz"
    command = ("features", *sources, "-o", output, "--type", folders[FEATURES])
    kill_at(tmp_path / "out.npz.part", 4, [*command, "--batch-size", "5"])
    (tmp_path / "waiting.png").unlink()
    for path in (pictures[1], tmp_path / "waiting.png"):
        path.write_bytes(good)
    assert invoke(*command).exit_code == 0
    found = opened(output)
    assert found["names"].tolist() == list(map(str, sources))
    np.testing.assert_allclose(
        found["image_embeds_proj"][1], found["image_embeds_proj"][5], atol=1e-5
    )


def test_a_finished_file_is_not_made_again_nor_lost(folders, pictures, tmp_path, monkeypatch):
    output = tmp_path / "out.npz"
    command = ("features", *pictures, "-o", output, "--type", folders[FEATURES])
    assert invoke(*command).exit_code == 0
    before = output.read_bytes()
    monkeypatch.setattr("lavis_clone.inference.load_model_and_preprocess", None)
    done = invoke(*command)
    assert (done.exit_code, done.stdout) == (0, f"{output}: is there already, with 5 rows\n")
    for other, told in (
        (command[:-1] + (folders[MATCHING],), "type: "),
        ((*command, "--tokens"), "tokens: False and not True"),
        ((*command, pictures[0]), "names: 5 ("),
    ):
        (line,) = refused(*other)
        assert line.startswith(f"error: {output} was made with other settings (")
        assert told in line
    assert output.read_bytes() == before


def test_features_that_cannot_be_written_are_told_first(folders, pictures):
    (line,) = refused("features", *pictures, "-o", "/proc/out.npz", "--type", folders[FEATURES])
    assert "/proc/out.npz.part: cannot be made: " in line


def test_features_of_other_weights_are_not_mixed(folders, pictures, tmp_path):
    output = tmp_path / "out.npz"
    model = save(tmp_path / "model", FEATURES, embed_dim=8)
    command = ("features", *pictures, "-o", output, "--type", model)
    assert invoke(*command).exit_code == 0
    save(tmp_path / "model", FEATURES, embed_dim=8)
    (line,) = refused(*command)
    assert "was made with other settings (weights: " in line


def test_a_file_of_somebody_else_is_left_alone(folders, pictures, tmp_path):
    output = tmp_path / "out.npz"
    contents = [b"", b"mine"]
    np.savez(tmp_path / "other.npz", names=np.arange(3))
    np.save(tmp_path / "other.npy", np.arange(3))
    contents += [(tmp_path / f"other.{kind}").read_bytes() for kind in ("npz", "npy")]
    for content in contents:
        output.write_bytes(content)
        assert refused("features", *pictures, "-o", output, "--type", folders[FEATURES]) == [
            f"error: {output} is there already, and was not made by this command; "
            "choose another output"
        ]
        assert output.read_bytes() == content


def test_without_pyarrow_it_says_what_to_install(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (line,) = refused("features", *pictures, "-o", tmp_path / "out.parquet")
    assert line == (
        "error: a .parquet file needs pyarrow, which is not installed: "
        "pip install 'lavis_clone[data]', or write .npz"
    )


@pytest.mark.parametrize("half", [False, True])
def test_parquet_holds_what_npz_holds(folders, pictures, tmp_path, half):
    parquet = pytest.importorskip("pyarrow.parquet")
    options = ("--tokens", "--batch-size", "2", *(["--half"] if half else []))
    for suffix in ("npz", "parquet"):
        done = features(folders, *pictures, "-o", tmp_path / f"out.{suffix}", *options)
        assert done.exit_code == 0, done.stderr
    expected = opened(tmp_path / "out.npz")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["names", "image_embeds_proj", "image_embeds"]
    assert table["names"].to_pylist() == expected["names"].tolist()
    for name in table.column_names[1:]:
        values = np.array(table[name].to_pylist(), dtype=expected[name].dtype)
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
    again = features(folders, *pictures, "-o", tmp_path / "out.parquet", *options)
    assert again.stdout.endswith("out.parquet: is there already, with 5 rows\n")
    (line,) = refused(
        *("features", *pictures, "-o", tmp_path / "out.parquet", "--type", folders[FEATURES])
    )
    assert "was made with other settings" in line


# --- what is refused, before weights are looked for ---------------------------------------------


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("ask a.png", "no question given; give at least one"),
        ("ask a.png 'what is this?' ' '", "question 2 is empty"),
        ("ask none.png what", "none.png: no such picture"),
        (
            "ask a.png what --answers yes",
            "answers: give two or more as a,b,c or as a file, got 'yes'",
        ),
        ("ask a.png what --answers yes,,no", "answers: number 2 of 'yes,,no' is empty"),
        ("ask a.png what --answers none.txt", "cannot read answers from none.txt: No such file"),
        ("ask a.png what --model albef_vqa", "albef_vqa does not write answers; give some by --an"),
        ("ask a.png what --model blip_caption", "task 'ask' needs a model with predict_answers_wi"),
        ("match a.png", "no text given; give at least one"),
        ("match none.png 'a dog'", "none.png: no such picture"),
        ("match a.png dog --model blip_caption", "task 'match' needs a model with match_pairs()"),
        ("match a.png dog --type larg", "unknown model type 'larg' of blip_image_text_matching; d"),
        ("match a.png dog --device gpu", "unknown device 'gpu'"),
        ("match a.png dog -o .", "cannot write .: it is a folder"),
        ("classify a.png", "labels: give two or more as a,b,c or as a file, got ''"),
        ("classify a.png --labels cat", "labels: give two or more as a,b,c or as a file"),
        ("classify a.png --labels cat,dog,", "labels: number 3 of 'cat,dog,' is empty"),
        ("classify a.png --labels cat,dog,Cat", "labels: 'cat' is there more than once"),
        ("classify a.png --labels a,b --prompt hello", "prompt: must hold {} where the label goes"),
        ("classify a.png --labels empty.txt", "empty.txt: holds no label"),
        ("classify a.png --labels a.png", "cannot read labels from a.png: is not UTF-8 text"),
        ("classify a.png --labels a,b --model blip_vaq", "unknown model 'blip_vaq'"),
        ("classify a.png --labels a,b --model blip_caption", "task 'classify' needs a model with"),
        ("classify none.png --labels a,b", "none.png: no such picture"),
        ("classify empty --labels a,b", "empty: the folder holds no picture"),
        ("features a.png", "no output given; say -o out.npz or -o out.parquet"),
        ("features a.png -o out.csv", "out.csv: must end in .npz or .parquet"),
        ("features a.png -o no/out.npz", "cannot write no/out.npz: there is no folder no"),
        ("features -o out.npz", "no picture given; give files, folders or URLs"),
        ("features none.png -o out.npz", "none.png: no such picture"),
        (
            "features a.png -o out.npz --mode both",
            "unknown mode 'both'; use one of image, text, mul",
        ),
        (
            "features -o out.npz --mode text",
            "--mode text needs --texts, a file with a text on each",
        ),
        ("features a.png -o out.npz --mode text --texts two.txt", "--mode text takes no pictures"),
        ("features a.png -o out.npz --texts two.txt", "--texts needs --mode text or --mode multim"),
        (
            "features a.png -o out.npz --mode multimodal --texts two.txt",
            "--mode multimodal needs a text for each picture, got 1 pictures and 2 texts",
        ),
        (
            "features -o out.npz --mode text --texts two.txt --tokens",
            "--tokens keeps image tokens, and needs --mode image, not text",
        ),
        (
            "features -o out.npz --mode text --texts no.txt",
            "cannot read texts from no.txt: No such",
        ),
        (
            "features a.png -o out.npz --model blip_caption",
            "task 'features' needs a model with ext",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, monkeypatch, command, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (8, 8), "red").save("a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "two.txt").write_text("a cat\na dog\n")
    before = sorted(tmp_path.iterdir())
    lines = refused(*shlex.split(command))
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {told}")
    assert sorted(tmp_path.iterdir()) == before


def test_a_text_of_which_nothing_is_left_is_told(folders, pictures, tmp_path):
    (tmp_path / "texts.txt").write_text("a cat\n!!!\n")
    mode = ("--mode", "text", "--texts", tmp_path / "texts.txt", "--batch-size", "1")
    output = tmp_path / "out.npz"
    line = "error: '!!!': holds no words"
    options = ("--type", folders[FEATURES])
    assert refused("features", "-o", output, *mode, *options) == [line]
    assert not output.with_name("out.npz.part").exists()
    assert refused("match", pictures[0], "!!!", "--type", folders[MATCHING]) == [line]
