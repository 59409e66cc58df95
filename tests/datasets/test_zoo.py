"""Every data set that is known by name, from small files as it is published to batches."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lavis_clone.common.files import FileError
from lavis_clone.common.reading import plain as plain_values
from lavis_clone.datasets.builders import dataset_zoo, load_dataset, load_dataset_config
from lavis_clone.datasets.builders.table import BENCHMARKS
from lavis_clone.datasets.check import CheckOptions, Part, check_parts
from lavis_clone.datasets.check_texts import TextProbe
from lavis_clone.datasets.kinds.dialogue import DialogueDataset
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.processors.dialogue import GPTVideoFeatureProcessor
from lavis_clone.processors.text import BlipCaptionProcessor
from lavis_clone.processors.video import AlproVideoEvalProcessor
from tests.datasets.making import small
from tests.datasets.zoo_beyond import BEYOND
from tests.datasets.zoo_cases import LAVIS
from tests.processors.videos import write_video

ALL = {**LAVIS, **BEYOND}
ELSEWHERE = {"easy_vqa", "emoji_", "own", "imagenet", "laion2B_multi"}
"""Data sets that are built by a script, shipped, described by a user, or tested below."""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """One of two frames."""
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", 2, size=(32, 32))


def place(cache, files, media, video):
    """Write a data set's files where its YAML file says that they belong."""
    for name, content in files.items():
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    for number, name in enumerate(media, start=1):
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp4":
            shutil.copy(video, path)
        elif path.suffix == ".npy":
            np.save(path, np.full((3, 2), number, np.float32))
        else:
            Image.new("RGB", (8, 6), (10 * number, 0, 0)).save(path)


def processors_for(dataset):
    """Small ones of the sort that the data set takes."""
    if "avsd" in dataset.name:
        return GPTVideoFeatureProcessor()
    return AlproVideoEvalProcessor(16, n_frms=2) if dataset.media == "video" else small()


def plain_config(name):
    """The block of a data set's own YAML file."""
    return plain_values(load_dataset_config(BENCHMARKS[name].files["default"], name=name))


def plain(batch):
    """Shapes of pictures and videos, and the values of all else."""

    def told(value):
        if not isinstance(value, torch.Tensor):
            return value
        return tuple(value.shape) if value.dim() > 2 else value.tolist()

    return {key: told(value) for key, value in batch.items()}


@pytest.mark.parametrize("name", ALL)
def test_batches_hold_what_they_should(name, cache, video):
    case = ALL[name]
    place(cache, case.files, case.media, video)
    datasets = load_dataset(name)
    assert list(datasets) == list(case.batches)
    for split, dataset in datasets.items():
        dataset.set_processors(processors_for(dataset), BlipCaptionProcessor())
        batch = plain(dataset.collater([dataset[0], dataset[1]]))
        expected = case.batches[split]
        assert set(batch) == set(expected), (split, batch)
        for key, value in expected.items():
            wanted = pytest.approx(value) if key == "weight" else value
            assert batch[key] == wanted, (split, key)
        loader = build_loader(dataset, batch_size=2, is_train=split == "train")
        assert set(next(iter(loader))) == set(expected)


@pytest.mark.parametrize("name", ALL)
def test_samples_are_described_without_being_opened(name, cache, video):
    case = ALL[name]
    place(cache, case.files, case.media, video)
    for dataset in load_dataset(name).values():
        if "avsd" in name:
            dataset.set_processors(GPTVideoFeatureProcessor(), None)
        for index in range(2):
            found = dataset.describe(index)
            assert found.media and all(path.is_file() for path in found.media.values())
            assert all(isinstance(text, str) for texts in found.texts.values() for text in texts)
            assert sum(found.answers.values()) in (0, pytest.approx(1), pytest.approx(0.2))
            if isinstance(dataset, DialogueDataset):
                assert found.texts["question"] == (f"q{index}",) or "avsd" in name
            assert TextProbe(dataset, len)[index].files  # the checker takes it


def test_what_a_description_says(cache, video):
    for name in ("coco_vqa", "aok_vqa", "nlvr", "snli_ve", "gqa"):
        place(cache, LAVIS[name].files, LAVIS[name].media, video)
    found = load_dataset("coco_vqa")["val"].describe(1)
    assert found.texts == {"question": ("What is 1?",)}
    assert found.answers == pytest.approx({"yes": 0.6, "no": 0.4})
    assert found.scalars == {"question_id": 71, "instance_id": "1"}
    found = load_dataset("aok_vqa")["val"].describe(0)
    assert found.texts["choices"] == ("a", "b") and found.labels == ("b",)
    found = load_dataset("nlvr")["train"].describe(1)
    assert [path.name for path in found.media.values()] == ["b-img0.png", "b-img1.png"]
    assert list(found.media) == ["image0", "image1"] and found.labels == ("False",)
    found = load_dataset("snli_ve")["test"].describe(0)
    assert found.labels == ("entailment",) and found.texts == {"sentence": ("Two cats.",)}
    found = load_dataset("gqa")["val"].describe(1)
    assert found.answers == {"two": 1.0} and "answer" not in found.scalars


def test_other_types_of_a_data_set(cache, video):
    for name in ("gqa", "coco_vqa"):
        place(cache, LAVIS[name].files, LAVIS[name].media, video)
    files = BENCHMARKS["gqa"].files
    testdev = load_dataset("gqa", files["balanced_testdev"])
    assert list(testdev) == ["train", "val", "test"]
    assert (
        testdev["val"][0]["answer"]
        == load_dataset("gqa", files["balanced_val"])["val"][0]["answer"]
    )
    val = load_dataset("coco_vqa", BENCHMARKS["coco_vqa"].files["eval"])
    assert list(val) == ["val"] and val["val"].answer_list == ["yes", "no", "two"]
    files = {k.replace("random", "zeroshot"): v for k, v in BEYOND["vsr"].files.items()}
    place(cache, files, BEYOND["vsr"].media, video)
    zeroshot = load_dataset("vsr", BENCHMARKS["vsr"].files["zeroshot"])
    assert zeroshot["val"].classnames == ["false", "true"] and len(zeroshot["train"]) == 2


def test_references_of_captions_in_many_records(cache, video):
    for name in ("textcaps", "vizwiz_caption"):
        place(cache, BEYOND[name].files, BEYOND[name].media, video)
    assert load_dataset("textcaps")["val"].references() == {
        "000": ["One.", "Two."],
        "001": ["Three."],
    }
    found = load_dataset("vizwiz_caption")
    assert found["val"].references() == {"0": ["A cat."], "1": ["A dog."]}
    assert found["test"].references() == {} and len(found["test"]) == 2


def test_imagenet(cache):
    (cache / "imagenet" / "val").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(cache / "one.jpeg")
    for number in range(1000):
        folder = cache / "imagenet" / "val" / f"n{number:08}"
        folder.mkdir()
        os.link(cache / "one.jpeg", folder / "ILSVRC2012_val_00000001.JPEG")
    dataset = load_dataset("imagenet")["val"]
    dataset.set_processors(small(), None)
    batch = plain(dataset.collater([dataset[0], dataset[999]]))
    names = [f"n{n:08}/ILSVRC2012_val_00000001.JPEG" for n in (0, 999)]
    assert batch == {
        **{"image": (2, 3, 4, 4), "text_input": ["", ""], "label": [0, 999]},
        **{"image_id": names, "instance_id": ["0", "999"]},
    }
    assert dataset.classnames[0] == "tench" and dataset.describe(0).labels == ("tench",)


def test_laion_is_read_from_shards(cache):
    folder = cache / "laion/laion2B-multi/part-00000"
    folder.mkdir(parents=True)
    for number in (0, 1):
        with tarfile.open(folder / f"0000{number}.tar", "w") as shard:
            for sample in (0, 1):
                key = f"0000{number}000{sample}"
                image = io.BytesIO()
                Image.new("RGB", (8, 6), (100 * number, 100 * sample, 0)).save(image, "JPEG")
                told = {"caption": f"Un chat {key}.", "url": "http://a", "key": key}
                for end, data in (("jpg", image.getvalue()), ("json", json.dumps(told).encode())):
                    info = tarfile.TarInfo(f"{key}.{end}")
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))
    config = plain_config("laion2B_multi")
    storage = config["build_info"]["annotations"]["train"]["storage"]
    assert storage == "laion/laion2B-multi/part-00000/{00000..01743}.tar"  # of LAVIS
    config["build_info"]["annotations"]["train"]["storage"] = storage.replace("01743", "00001")
    dataset = load_dataset("laion2B_multi", config)["train"]
    dataset.set_processors(small(), BlipCaptionProcessor())
    assert len(dataset) == 4
    batch = plain(dataset.collater([dataset[0], dataset[3]]))
    texts = ["un chat 000000000", "un chat 000010001"]
    assert batch == {"image": (2, 3, 4, 4), "text_input": texts}
    found = dataset.describe(3)
    assert (
        found.texts == {"caption": ("Un chat 000010001.",)} and found.scalars["url"] == "http://a"
    )
    report = check_parts([Part("laion", "train", dataset, True)], CheckOptions())
    assert report.counts == {} and report.splits["laion/train"]["files"] == 4
    with pytest.raises(FileError, match=r"00002\.tar"):
        load_dataset("laion2B_multi")


def test_the_page_about_data_sets_has_their_rows():
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    told = {
        f"| {' | '.join((f'[{listed.name}]({listed.homepage})', *listed.cells[1:]))} |"
        for listed in dataset_zoo.listings()
        if listed.homepage
    }
    assert set(rows) == told and len(rows) == len(told)


def test_all_data_sets_are_tested():
    prefixes = tuple(ELSEWHERE)
    assert {name for name in BENCHMARKS if not name.startswith(prefixes)} == set(ALL)
    assert len(LAVIS) == 23  # and imagenet and laion2B_multi: 25
