"""The command line: lists, and captions of all kinds of pictures."""

from __future__ import annotations

import io
import json

import pytest
import torch
import yaml
from PIL import ExifTags, Image

from tests.e2e import toys
from tests.e2e.toys import invoke, refused
from tests.models import tiny

GREEDY = ("--num-beams", "1", "--max-length", "8", "--min-length", "1")


def picture(size=(24, 20)):
    """A picture without any symmetry, so that turning it shows."""
    image = Image.new("RGB", size, (250, 240, 230))
    image.paste((200, 20, 20), (0, 0, size[0] // 3, size[1]))
    image.paste((20, 20, 200), (0, 0, size[0], size[1] // 4))
    return image


def captions(model, *paths, output):
    """Rows of JSON for pictures."""
    done = invoke("caption", *paths, "--type", model, "-o", output, *GREEDY)
    assert done.exit_code == 0, (done.stderr, done.exception)
    return [json.loads(line) for line in output.read_text().splitlines()]


# --- lists --------------------------------------------------------------------------------------


def test_lists():
    listed = [line.split(maxsplit=1) for line in invoke("models").stdout.splitlines()]
    assert ["blip_caption", "base_coco, large_coco, tiny_emoji"] in listed
    assert "emoji_caption" in invoke("datasets").stdout
    told = [json.loads(line) for line in invoke("datasets", "--json").stdout.splitlines()]
    (nlvr,) = [row for row in told if row["name"] == "nlvr"]
    assert nlvr["kind"] == "nlvr" and nlvr["licence"] == "CC BY 4.0 (sentences)"
    assert nlvr["splits"] == {"train": 86373, "val": 6982, "test": 6967}
    assert "blip_image_eval" in invoke("processors").stdout.split()


@pytest.mark.parametrize("command", ["caption", "train", "evaluate", "export", "config", "models"])
def test_every_command_has_help(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout


# --- caption ------------------------------------------------------------------------------------


def test_a_line_per_caption_and_a_row_in_the_file(saved, tmp_path):
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    names = ["pictures/b.png", "pictures/deep/a.jpg", "c.webp"]
    for name in names:
        picture().save(tmp_path / name)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture, and not asked for")
    output = tmp_path / "out.jsonl"
    sources = [tmp_path / "c.webp", tmp_path / "pictures", tmp_path / "c.webp"]
    options = ("--num", "2", "--batch-size", "2", "-o", output)
    done = invoke("caption", *sources, "--type", saved, *GREEDY, *options)
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    expected = [str(tmp_path / name) for name in (names[2], names[0], names[1], names[2])]
    assert [row["image"] for row in rows] == [name for name in expected for _ in range(2)]
    assert rows[0] == rows[6]
    assert rows[0]["caption"] != rows[1]["caption"]
    assert all(0 < row["confidence"] <= 1 for row in rows)
    lines = [f"{row['image']}: {row['caption']} ({row['confidence']:.2f})" for row in rows]
    assert done.stdout.splitlines() == lines


def test_samples_differ_from_the_search(saved, tmp_path):
    picture().save(tmp_path / "a.png")
    torch.manual_seed(0)
    options = ("--type", saved, "--num", "4", "--max-length", "8", "--min-length", "1")
    drawn = invoke("caption", tmp_path / "a.png", "--sample", *options).stdout.splitlines()
    assert len(drawn) == 4
    assert drawn != invoke("caption", tmp_path / "a.png", *options).stdout.splitlines()


def in_mode(mode):
    image = picture()
    if mode == "I;16":
        grey = image.convert("L")
        wide = Image.new("I;16", grey.size)
        wide.putdata([value * 257 for value in grey.tobytes()])
        return wide
    if mode == "P":
        return image.quantize(16)
    if mode in ("RGBA", "LA"):
        clear = image.convert(mode)
        clear.putalpha(255)
        return clear
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix", "same_as"),
    [
        ("L", "png", "L"),
        ("1", "png", "1"),
        ("P", "png", "RGB"),
        ("P", "gif", "RGB"),
        ("RGBA", "png", "RGB"),
        ("RGBA", "webp", "RGB"),
        ("LA", "png", "L"),
        ("I;16", "png", "L"),
        ("CMYK", "tif", None),
        ("CMYK", "jpg", None),
        ("L", "jpg", None),
    ],
)
def test_every_kind_of_picture_is_described(saved, tmp_path, mode, suffix, same_as):
    path, plain = tmp_path / f"picture.{suffix}", tmp_path / "plain.png"
    options = {"lossless": True} if suffix == "webp" else {}
    in_mode(mode).save(path, **options)
    picture().convert(same_as or "RGB").convert("RGB").save(plain)
    row, expected = captions(saved, path, plain, output=tmp_path / "out.jsonl")
    assert row["caption"]
    if same_as is not None:
        assert row["caption"] == expected["caption"]
        assert row["confidence"] == pytest.approx(expected["confidence"], abs=2e-4)


def test_transparent_is_white(saved, tmp_path):
    clear = picture().convert("RGBA")
    clear.paste((9, 9, 9, 0), (12, 10, 24, 20))
    clear.save(tmp_path / "clear.png")
    white = picture()
    white.paste((255, 255, 255), (12, 10, 24, 20))
    white.save(tmp_path / "white.png")
    paths = tmp_path / "clear.png", tmp_path / "white.png"
    one, other = captions(saved, *paths, output=tmp_path / "out.jsonl")
    assert (one["caption"], one["confidence"]) == (other["caption"], other["confidence"])


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_taken_with_a_turned_camera_is_seen_upright(saved, tmp_path, orientation):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpositions
    turned = picture().transpose(undo[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned.save(tmp_path / "turned.png", exif=exif)
    turned.save(tmp_path / "as_stored.png")
    picture().save(tmp_path / "upright.png")
    paths = [tmp_path / f"{name}.png" for name in ("turned", "upright", "as_stored")]
    seen, upright, stored = captions(saved, *paths, output=tmp_path / "out.jsonl")
    assert (seen["caption"], seen["confidence"]) == (upright["caption"], upright["confidence"])
    assert stored["confidence"] != upright["confidence"]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2)])
def test_odd_sizes_are_described(saved, tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "odd.png")
    (row,) = captions(saved, tmp_path / "odd.png", output=tmp_path / "out.jsonl")
    assert row["caption"]


def bad_picture(folder, kind):
    path = folder / "bad.jpg"
    if kind == "text":
        path.write_text("this is no picture\n")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        buffer = io.BytesIO()
        picture((200, 200)).save(buffer, "JPEG")
        path.write_bytes(buffer.getvalue()[:1500])
    elif kind == "huge":
        Image.new("1", (300, 300)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "bad.jpg: no such picture"),
        ("text", "bad.jpg: not a picture"),
        ("empty", "bad.jpg: is empty"),
        ("truncated", "bad.jpg: damaged picture"),
        ("huge", "bad.jpg: too large"),
    ],
)
def test_a_bad_picture_is_told_in_one_line_and_the_others_are_described(
    saved, tmp_path, monkeypatch, kind, told
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200 * 200)
    path = bad_picture(tmp_path, kind)
    (line,) = refused("caption", path, "--type", saved)
    assert line.startswith("error: ") and told in line
    picture().save(tmp_path / "good.png")
    done = invoke("caption", path, tmp_path / "good.png", "--type", saved, *GREEDY)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [line]
    (said,) = done.stdout.splitlines()
    assert said.startswith(str(tmp_path / "good.png"))


def test_bad_pictures_are_told_before_any_weights_are_loaded(tmp_path):
    (line,) = refused("caption", tmp_path / "none.png", "--type", "base_coco")
    assert "none.png: no such picture" in line  # and not that the weights are missing


def test_a_folder_without_pictures_is_told(tmp_path):
    (line,) = refused("caption", tmp_path, "--type", "base_coco")
    assert line == f"error: {tmp_path}: the folder holds no picture"


def test_offline_and_without_weights_it_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("LAVIS_CLONE_CACHE", str(tmp_path / "cache"))
    picture().save(tmp_path / "a.png")
    (line,) = refused("caption", tmp_path / "a.png")
    assert "/LAVIS/models/BLIP/blip_coco_caption_base.pth is not on this machine" in line
    assert f"place the file at {tmp_path / 'cache'}/" in line
    assert line.endswith("/blip_coco_caption_base.pth")
    (line,) = refused("caption", "https://example.org/a.png")
    assert "cannot read https://example.org/a.png: LAVIS_CLONE_OFFLINE forbids" in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model", "blip_captoin"], "unknown model 'blip_captoin'; did you mean 'blip_caption'?"),
        (["--type", "base_cooc"], "unknown model type 'base_cooc' of blip_caption; did you mean"),
        (["--type", "no/such/folder"], "no such file: no/such/folder/config.yaml"),
        (["--device", "gpu"], "unknown device 'gpu'; use auto, cpu or cuda"),
        (["--min-length", "9", "--max-length", "5"], "min_length must be between 0 and max_length"),
        (["--max-length", "0"], "max_length must be at least 1, got 0"),
        (["-o", "no/such/folder/out"], "cannot write no/such/folder/out: there is no folder no/"),
        (["-o", "."], "cannot write .: it is a folder"),
    ],
)
def test_wrong_options_of_caption(tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    picture().save("a.png")
    lines = refused("caption", "a.png", *options)
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {told}")


def test_a_saved_model_without_processors_is_told(words, tmp_path):
    folder = tiny.caption_model(words).save_pretrained(tmp_path / "model")
    picture().save(tmp_path / "a.png")
    (line,) = refused("caption", tmp_path / "a.png", "--type", folder)
    assert line == f"error: {folder}: preprocess.vis_processor.eval: not given"


# --- config check -------------------------------------------------------------------------------


def test_config_check_prints_the_merged_config(recipe):
    done = invoke("config", "check", recipe, "--set", "run.max_epoch=9")
    assert done.exit_code == 0, done.stderr
    head, _, text = done.stdout.partition("\n")
    assert head == f"# {recipe}"
    merged = yaml.safe_load(text)
    assert merged["run"]["max_epoch"] == 9
    assert merged["datasets"]["emoji_caption"]["kind"] == "caption"


def test_config_check_tells_all_problems_of_all_files(recipe, tmp_path):
    content = yaml.safe_load(recipe.read_text())
    content["run"] |= {"max_iters": 5, "train_dataset_ratios": {"emoji_caption": 1}}
    bad = toys.write_recipe(tmp_path / "bad.yaml", content)
    lines = refused("config", "check", bad, recipe, tmp_path / "none.yaml")
    assert len(lines) == 3
    assert lines[0].startswith(f"{bad}: run.train_dataset_ratios: ")
    assert lines[2].startswith(f"{tmp_path / 'none.yaml'}: no such config file")
