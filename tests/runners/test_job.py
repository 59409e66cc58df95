"""The wiring of a job: what is looked at before it begins, and where it goes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lavis_clone import job
from lavis_clone.common.files import FileError
from lavis_clone.common.launch import Launch, LaunchError
from lavis_clone.common.reading import ConfigError
from lavis_clone.datasets.builders.base import BaseDatasetBuilder
from lavis_clone.datasets.skip import SampleError
from lavis_clone.job import (
    build_datasets,
    check_output_dir,
    check_picture_size,
    check_processors,
    check_splits,
    join_processes,
    new_job_directory,
    rehearse,
)
from lavis_clone.processors.base import BaseProcessor
from tests.runners import toys


def test_no_two_jobs_share_a_directory(tmp_path):
    made = []

    def make():
        made.extend(new_job_directory(tmp_path / "deep" / "output") for _ in range(10))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 80
    assert all(path.is_dir() and path.parent == tmp_path / "deep" / "output" for path in made)
    assert all(path.name[:14].isdigit() for path in made)


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(FileError, match=r"^run.output_dir: "):
            new_job_directory(place)
        with pytest.raises(FileError, match=r"file is a file, not a folder$"):
            check_output_dir(place)


def test_a_place_that_is_not_there_yet_will_do_and_is_not_made(tmp_path, monkeypatch):
    check_output_dir(tmp_path / "not" / "yet")
    monkeypatch.chdir(tmp_path)
    check_output_dir(Path("output/x"))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(FileError, match=f"^run.output_dir: {tmp_path} cannot be written to"):
        check_output_dir(tmp_path / "x")


def test_the_only_process_of_torchrun_will_do(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert join_processes(toys.run_config()) == (0, 1, 0)


def test_a_run_that_is_not_distributed_takes_no_notice_of_others(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert join_processes(toys.run_config(distributed=False)) == (0, 1, 0)
    with pytest.raises(LaunchError, match="MASTER_ADDR and MASTER_PORT"):
        join_processes(toys.run_config(device="cpu"))


def test_what_several_processes_cannot_do_is_told_before_any_work(monkeypatch):
    monkeypatch.setattr(job, "init_distributed", lambda **_: Launch(0, 2, 0))
    with pytest.raises(ConfigError, match=r"^run.strategy: none trains in one process"):
        join_processes(toys.run_config(strategy="none"))


# --- data sets ----------------------------------------------------------------------------------


def block(shapes, *splits, **changes):
    annotations = {split: {"storage": str(shapes / f"{split}.json")} for split in splits}
    info = {"annotations": annotations, "images": {"storage": str(shapes / "images")}}
    return {"kind": "caption", "data_type": "images", "build_info": info, **changes}


@pytest.fixture
def shapes(tmp_path):
    (tmp_path / "images").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text('[{"image": "a.png", "caption": "a"}]')
    return tmp_path


def test_only_the_splits_that_are_needed_are_built(shapes):
    blocks = {"emoji_caption": block(shapes, "train", "val", "gone")}
    built = build_datasets(blocks, ["val", "train"])
    assert sorted(built["emoji_caption"]) == ["train", "val"]
    with pytest.raises(FileError, match="gone.json"):
        build_datasets(blocks)
    assert sorted(blocks["emoji_caption"]["build_info"]["annotations"]) == ["gone", "train", "val"]


def test_a_data_set_with_none_of_the_splits_is_left_out(shapes):
    blocks = {
        "emoji_caption": block(shapes, "val"),
        "coco_caption": block(shapes / "no" / "such", "train"),
    }
    assert list(build_datasets(blocks, ["val"])) == ["emoji_caption"]


def test_a_split_that_an_override_took_out_is_not_missed(shapes):
    emoji = block(shapes, "val")
    emoji["build_info"]["annotations"]["test"] = None
    assert list(build_datasets({"emoji_caption": emoji})["emoji_caption"]) == ["val"]
    with pytest.raises(ConfigError, match=r"no data set has a split 'test'; there are val"):
        check_splits(
            ["val", "test"], {"emoji_caption": emoji}, {"emoji_caption": {"val": object()}}
        )


def test_a_builder_of_its_own_way_is_always_asked(monkeypatch):
    class Own(BaseDatasetBuilder):
        def build_datasets(self):
            return {"train": [1], "dev": [2]}

    from lavis_clone.common.registry import registry

    monkeypatch.setitem(registry.builders._items, "own", Own)
    built = build_datasets({"own": {"anything": 1}}, ["dev"])
    assert built == {"own": {"train": [1], "dev": [2]}}
    check_splits(["dev"], {"own": {}}, built)
    with pytest.raises(ConfigError, match="^run: no data set has a split 'val'; there are dev, tr"):
        check_splits(["dev", "val"], {"own": {}}, built)


def dataset(processor):
    return SimpleNamespace(vis_processor=processor)


def test_data_sets_without_processors_are_named():
    datasets = {"a": {"train": dataset(BaseProcessor()), "val": dataset(BaseProcessor())}}
    with pytest.raises(ConfigError) as told:
        check_processors(datasets | {"b": {"val": dataset(object()), "test": object()}})
    assert str(told.value).splitlines() == [
        "datasets.a.vis_processor.train: required, but not given",
        "datasets.a.vis_processor.eval: required, but not given",
    ]


def test_pictures_of_a_wrong_size_are_named():
    datasets = {"a": {"val": dataset(SimpleNamespace(image_size=224))}}
    with pytest.raises(ConfigError, match=r"a.vis_processor.eval.image_size: is 224, .* 384 pix"):
        check_picture_size(SimpleNamespace(image_size=384), datasets)
    for model in (SimpleNamespace(image_size=224), SimpleNamespace(image_size=None), object()):
        check_picture_size(model, datasets | {"b": {"val": object()}})


class Samples(list):
    """Indices of which some are bad."""

    def __getitem__(self, index):
        if super().__getitem__(index) == "bad":
            raise SampleError(f"{index}.png: damaged")
        return {"x": float(index), "id": str(index)}


def test_a_rehearsal_evaluates_the_first_good_sample():
    model, asked = toys.OneWeight(), []
    model.answer = lambda x: asked.append((x.tolist(), model.training)) or x
    rehearse(toys.AnswerTask(), model, Samples(["bad", "good", "good"]), device=torch.device("cpu"))
    assert asked == [([1.0], False)]


def test_a_rehearsal_without_any_good_sample_is_told():
    for count, told in ((3, "^3 bad samples in a row; the last: 2.png"), (500, "^101 bad samples")):
        with pytest.raises(SampleError, match=told):
            rehearse(toys.AnswerTask(), None, Samples(["bad"] * count), device=torch.device("cpu"))
