"""``index`` and ``search``: what is found, what is done again, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from lavis_clone.inference import Choice
from lavis_clone.search import PictureIndex, Query
from tests.e2e import toys
from tests.e2e.test_cli_inference import FEATURES, save
from tests.e2e.toys import invoke, refused


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model"), FEATURES, embed_dim=8)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, color in toys.COLORS.items():
        draw(folder / f"{name}.png", color)
    return folder


def draw(path, color):
    image = Image.new("RGB", (24, 20), color)
    image.paste("white", (0, 0, 9, 9))
    image.save(path)


def index(model, pictures, folder):
    return invoke("index", pictures, "-o", folder, "--type", model)


def found(*arguments):
    lines = invoke("search", *arguments, "--json").stdout.splitlines()
    return {row["name"]: row["score"] for row in map(json.loads, lines)}


def test_scores_are_the_cosines_of_the_model(model, pictures, tmp_path):
    assert "4 pictures (4 added" in index(model, pictures, tmp_path / "i").stdout
    opened = Choice(FEATURES, str(model), "cpu").open()
    names = sorted(str(path) for path in pictures.iterdir())
    images = opened.images(Image.open(name).convert("RGB") for name in names)
    with torch.inference_mode():
        seen = opened.model.embed_images(images).projected
        read = opened.model.embed_texts(["red cat"]).projected
        other = opened.model.embed_texts(["green bird"]).projected
    unit = torch.nn.functional.normalize
    wanted = {
        ("red cat",): read[0],
        ("--picture", names[1]): seen[1],
        ("red cat", "--picture", names[1]): read[0] + seen[1],
        ("red cat", "--without", "green bird"): read[0] - 0.5 * other[0],
    }
    for arguments, vector in wanted.items():
        scores = found(*arguments, "--index", tmp_path / "i")
        cosines = seen @ unit(vector, dim=0)
        assert list(scores) == [names[i] for i in cosines.argsort(descending=True)]
        assert [scores[name] for name in names] == pytest.approx(cosines.tolist(), abs=1e-4)


def test_the_best_come_first_and_no_more_than_asked(model, pictures, tmp_path):
    index(model, pictures, tmp_path / "i")
    scores = found("--picture", pictures / "blue.png", "--index", tmp_path / "i", "--top", 2)
    assert len(scores) == 2 and next(iter(scores)) == str(pictures / "blue.png")
    assert next(iter(scores.values())) == pytest.approx(1, abs=1e-4)


def test_only_what_changed_is_done_again(model, pictures, tmp_path):
    index(model, pictures, tmp_path / "i")
    assert "(0 added, 0 removed)" in index(model, pictures, tmp_path / "i").stdout
    (pictures / "red.png").unlink()
    draw(pictures / "blue.png", (250, 240, 20))
    draw(pictures / "new.png", (9, 9, 9))
    told = index(model, pictures, tmp_path / "i").stdout
    assert "4 pictures (2 added, 1 removed" in told
    again = index(model, pictures, tmp_path / "fresh").stdout
    assert "4 pictures (4 added" in again
    query = ("--picture", pictures / "blue.png", "--index")
    assert found(*query, tmp_path / "i") == found(*query, tmp_path / "fresh")
    assert len(list((tmp_path / "i").glob("*.faiss"))) == 1


def test_a_bad_picture_is_told_and_left_out(model, pictures, tmp_path):
    (pictures / "bad.png").write_bytes(b"no picture")
    result = index(model, pictures, tmp_path / "i")
    assert result.exit_code == 1 and "bad.png" in result.stderr
    assert "4 pictures (4 added" in result.stdout


def test_a_killed_run_goes_on_where_it_was_saved(model, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        draw(folder / f"{number:03}.png", (number % 256, 90, 255 - number % 256))
    script = (
        "import lavis_clone.search as s, sys; s.SECONDS_BETWEEN_SAVES = 0.0\n"
        "from lavis_clone.cli import main; sys.argv[0] = 'lavis-clone'; main()"
    )
    command = [sys.executable, "-c", script, "index", str(folder), "-o", str(tmp_path / "i")]
    options = ["--type", str(model), "--batch-size", "4"]
    process = subprocess.Popen([*command, *options], env=os.environ | toys.ALONE)
    content = tmp_path / "i" / "pictures.json"
    try:
        while not content.exists() and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(PictureIndex.open(tmp_path / "i"))
    assert 0 < kept < 400
    assert f"400 pictures ({400 - kept} added" in index(model, folder, tmp_path / "i").stdout


def test_what_is_refused(model, pictures, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    index(model, pictures, tmp_path / "i")
    where = ("--index", tmp_path / "i")
    for arguments, told in (
        (("search", "cat", "--index", tmp_path / "none"), "holds no index"),
        (("search", *where), "nothing to look for"),
        (("search", "--without", "cat", *where), "nothing to look for"),
        (("search", " ", *where), "text 1 is empty"),
        (("search", "--picture", tmp_path / "gone.png", *where), "gone.png"),
        (("index", pictures, "-o", tmp_path / "j", "--model", "blip_caption"), "BlipCaption"),
        (("index", pictures, "-o", tmp_path / "i", "--type", "base"), "was made by"),
        (("index", pictures, "-o", tmp_path / "full", "--type", model), "is not empty"),
        (("index", pictures, "-o", pictures / "red.png", "--type", model), "is a file"),
    ):
        lines = refused(*arguments)
        assert len(lines) == 1 and told in lines[0], lines
    vectors = next((tmp_path / "i").glob("*.faiss"))
    vectors.write_bytes(vectors.read_bytes()[:40])
    assert "cannot be used" in refused("search", "cat", *where)[0]


def test_other_weights_are_told(pictures, tmp_path):
    own = save(tmp_path / "own", FEATURES, embed_dim=8)
    index(own, pictures, tmp_path / "i")
    os.utime(own / "model.safetensors", ns=(1, 1))
    assert "have changed" in refused("search", "cat", "--index", tmp_path / "i")[0]


def test_an_empty_index_has_nothing_to_find(tmp_path):
    empty = PictureIndex(tmp_path, Choice(FEATURES, "base", "cpu"))
    with pytest.raises(ValueError, match="holds no picture"):
        empty.search(Query(["cat"]), None)
