"""Training and evaluating as a user does it, on sixteen pictures."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lavis_clone import load_model, load_model_and_preprocess
from lavis_clone.cli import evaluate_file, train_file
from lavis_clone.common.config import load_config
from lavis_clone.job import export_checkpoint
from tests.e2e import toys


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data, words):
    """train.py, started elsewhere: its directory, recipe, job, and what it printed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    content = toys.recipe(data, words, "jobs", max_epoch=3, log_freq=2)  # a relative output_dir
    recipe = toys.write_recipe(folder / "recipe.yaml", content)
    arguments = ("--cfg-path", "recipe.yaml", "--options", "run.num_workers=1", "run.seed", "7")
    done = toys.start(str(toys.ROOT / "train.py"), *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, recipe, toys.the_job(folder / "jobs"), done


def numbers(printed):
    """The scores of ``split name value`` lines."""
    found = {}
    for line in printed.splitlines():
        split, name, value = line.split()
        found.setdefault(split, {})[name] = float(value)
    return found


def rounded(scores):
    return {s: {k: round(v, 4) for k, v in values.items()} for s, values in scores.items()}


def test_train_script_writes_a_whole_job_below_the_working_directory(trained):
    _, _, job, done = trained
    assert {p.relative_to(job).as_posix() for p in job.rglob("*") if p.is_file()} == {
        "checkpoint_2.pth",
        "checkpoint_best.pth",
        "config.yaml",
        "console.log",
        "evaluate.txt",
        "job.json",
        "log.txt",
        "metrics.jsonl",
        *(f"result/val_epoch{n}.json" for n in range(3)),
        "result/test_epochbest.json",
    }
    assert "epoch 2, batch 4 of 4: loss" in (job / "console.log").read_text()
    assert "Traceback" not in done.stderr
    entries = toys.log_entries(job)
    losses = [entry["train_loss"] for entry in entries if "train_loss" in entry]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < 0.8 * losses[0]
    validated = [entry["val_agg_metrics"] for entry in entries if "val_agg_metrics" in entry]
    assert entries[-1]["best_epoch"] == validated.index(max(validated))
    (tested,) = (json.loads(line) for line in (job / "evaluate.txt").read_text().splitlines())
    assert numbers(done.stdout) == rounded(tested)


def test_options_are_in_the_saved_config_which_loads_again(trained):
    _, recipe, job, _ = trained
    saved = yaml.safe_load((job / "config.yaml").read_text())
    assert (saved["run"]["seed"], saved["run"]["num_workers"]) == (7, 1)
    assert load_config(job / "config.yaml") == load_config(
        recipe, ["run.seed=7", "run.num_workers=1"]
    )
    assert toys.json_head(job / "log.txt") == saved


def test_rows_name_every_picture_once(trained):
    _, _, job, _ = trained
    rows = json.loads((job / "result/test_epochbest.json").read_text())
    assert [row["image_id"] for row in rows] == [f"test_{n}" for n in range(6)]
    assert {tuple(sorted(row)) for row in rows} == {("caption", "confidence", "image_id")}
    assert all(0 < row["confidence"] <= 1 for row in rows)


def test_evaluate_script_repeats_the_scores_that_training_ended_with(trained):
    folder, _, job, done = trained
    best = f"model.finetuned={job / 'checkpoint_best.pth'}"
    arguments = ("--cfg-path", "recipe.yaml", "--options", best, "run.output_dir=evaluated")
    again = toys.start(str(toys.ROOT / "evaluate.py"), *arguments, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    rows = (toys.the_job(folder / "evaluated") / "result/test_epochbest.json").read_text()
    assert rows == (job / "result/test_epochbest.json").read_text()


def test_batch_size_does_not_change_what_evaluation_says(trained, tmp_path):
    _, recipe, job, done = trained
    found = []
    for size in (1, 5):
        options = [f"model.finetuned={job / 'checkpoint_best.pth'}", "run.num_workers=0"]
        output = tmp_path / str(size)
        options += [f"run.batch_size_eval={size}", f"run.output_dir={output}"]
        scores = evaluate_file(str(recipe), options)
        rows = json.loads((toys.the_job(output) / "result/test_epochbest.json").read_text())
        found.append((scores, rows))
    (scores, rows), (other_scores, other_rows) = found
    assert scores == other_scores
    assert rounded(scores) == numbers(done.stdout)
    for row, other in zip(rows, other_rows, strict=True):
        assert row["caption"] == other["caption"]
        assert row["confidence"] == pytest.approx(other["confidence"], abs=2e-6)


def losses_of(recipe, output, *options):
    train_file(str(recipe), [*options, f"run.output_dir={output}"])
    entries = toys.log_entries(toys.the_job(output))
    return [entry["train_loss"] for entry in entries if "train_loss" in entry]


def test_same_seed_same_losses_whoever_loads_the_data(recipe, tmp_path):
    first = losses_of(recipe, tmp_path / "a", "run.num_workers=0")
    assert len(first) == 2
    assert losses_of(recipe, tmp_path / "b", "run.num_workers=0") == first
    assert losses_of(recipe, tmp_path / "c", "run.num_workers=1") == first
    assert losses_of(recipe, tmp_path / "d", "run.seed=43") != first


def test_checkpoint_loads_into_a_model_of_the_zoo(trained, saved):
    _, _, job, _ = trained
    best = str(job / "checkpoint_best.pth")
    model = load_model("blip_caption", str(saved), is_eval=True, checkpoint=best)
    state = torch.load(best, weights_only=True)["model"]
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_export_makes_a_folder_that_writes_what_the_job_wrote(trained, data, tmp_path, monkeypatch):
    _, _, job, _ = trained
    monkeypatch.chdir(tmp_path)
    done = toys.invoke(*["export", str(job), "model"])
    assert (done.exit_code, done.stdout) == (0, "model\n"), done.stderr
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.yaml",
        "model.safetensors",
        "vocab.txt",
    ]
    _, processors, texts = load_model_and_preprocess("blip_caption", str(tmp_path / "model"))
    assert (processors["eval"].image_size, type(processors["train"]).__name__) == (
        16,
        "BlipImageTrainProcessor",
    )
    assert type(texts["train"]).__name__ == "BlipCaptionProcessor"
    pictures = [str(data / "images" / f"test_{n:02}.png") for n in range(6)]
    arguments = ["caption", *pictures, "--type", "model", "-o", "captions.jsonl"]
    arguments += ["--num-beams", "2", "--max-length", "8", "--min-length", "1"]
    done = toys.invoke(*arguments)
    assert done.exit_code == 0, done.stderr
    said = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    rows = json.loads((job / "result/test_epochbest.json").read_text())
    assert [row["caption"] for row in said] == [row["caption"] for row in rows]
    assert [row["confidence"] for row in said] == pytest.approx(
        [row["confidence"] for row in rows], abs=1e-4
    )


def test_export_takes_a_checkpoint_and_without_a_best_one_the_last(trained, tmp_path):
    _, _, job, _ = trained
    copy = tmp_path / "job"
    copy.mkdir()
    shutil.copy(job / "config.yaml", copy)
    for epoch in (2, 10):
        shutil.copy(job / "checkpoint_2.pth", copy / f"checkpoint_{epoch}.pth")
    state = torch.load(copy / "checkpoint_10.pth", weights_only=True)
    state["model"]["text_decoder.cls.predictions.bias"].fill_(3.0)
    torch.save(state, copy / "checkpoint_10.pth")
    for source, expected in ((copy, True), (copy / "checkpoint_2.pth", False)):
        done = toys.invoke(*["export", str(source), str(tmp_path / "model")])
        assert done.exit_code == 0, done.stderr
        model = load_model("blip_caption", str(tmp_path / "model"))
        bias = model.state_dict()["text_decoder.cls.predictions.bias"]
        assert bool((bias == 3.0).all()) == expected


def test_a_bad_picture_is_skipped_counted_and_listed(recipe, data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (copy / "images" / "train_03.png").write_text("no picture")
    (copy / "images" / "test_02.png").unlink()
    content = yaml.safe_load(recipe.read_text().replace(str(data), str(copy)))
    train_file(str(toys.write_recipe(tmp_path / "bad.yaml", content)))
    job = toys.the_job(tmp_path / "output")
    skipped = [json.loads(line) for line in (job / "skipped.jsonl").read_text().splitlines()]
    assert [(entry["dataset"], entry["index"]) for entry in skipped] == [
        ("emoji_caption/train", 3),
        ("emoji_caption/test", 2),
    ]
    assert "no such picture" in skipped[1]["reason"]
    rows = json.loads((job / "result/test_epochbest.json").read_text())
    assert [row["image_id"] for row in rows] == [f"test_{n}" for n in (0, 1, 3, 4, 5)]


def test_scores_of_groups_are_reported_apart(recipe, tmp_path):
    scores = train_file(str(recipe), ["run.score_by=color", "run.max_epoch=1"])["test"]
    assert {name.partition("/")[0] for name in scores if "/" in name} == {
        f"color={color}" for color in toys.COLORS
    }
    assert "color=red/exact_match" in scores


def test_without_metrics_only_captions_are_written(recipe, tmp_path):
    assert train_file(str(recipe), ["run.report_metric=False"]) == {"test": {}}
    job = toys.the_job(tmp_path / "output")
    assert (job / "result/test_epoch1.json").exists()
    assert not (job / "checkpoint_best.pth").exists()
    assert (job / "checkpoint_1.pth").exists()


def test_evaluate_flag_of_train_validates_and_tests_and_trains_nothing(recipe, saved, tmp_path):
    options = ["run.evaluate=True", f"model.finetuned={saved / 'model.safetensors'}"]
    assert list(train_file(str(recipe), options)) == ["val", "test"]
    job = toys.the_job(tmp_path / "output")
    assert not list(job.glob("*.pth"))
    assert toys.log_entries(job) == []


def test_a_loss_that_is_no_number_stops_in_one_line(recipe, tmp_path):
    done = toys.invoke(*["train", str(recipe), "run.init_lr=1e30"])
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert re.match(r"error: the loss is nan in epoch 0, batch \d; a lower run.init_lr", line)
    assert "Traceback" not in done.stderr
    assert not list(toys.the_job(tmp_path / "output").glob("*.pth"))


def test_export_can_store_half_the_bytes(trained, tmp_path):
    _, _, job, _ = trained
    full = export_checkpoint(job, tmp_path / "full") / "model.safetensors"
    half = export_checkpoint(job, tmp_path / "half", half=True) / "model.safetensors"
    assert half.stat().st_size < full.stat().st_size
    weights = load_file(half)
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float16}
    for name, weight in load_file(full).items():
        torch.testing.assert_close(weights[name].float(), weight.float(), rtol=1e-3, atol=1e-6)
