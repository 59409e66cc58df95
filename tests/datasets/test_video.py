"""Videos with captions, with texts that are to find them, and with questions."""

from __future__ import annotations

import json

import pytest
import torch

from lavis_clone.common.reading import ConfigError
from lavis_clone.common.task_options import CaptioningOptions
from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.kinds.video import (
    VideoCaptionDataset,
    VideoCaptionEvalDataset,
    VideoQADataset,
    VideoQAEvalDataset,
    VideoRetrievalDataset,
    VideoRetrievalEvalDataset,
    read_classes,
)
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.skip import SampleError, SkipLog
from lavis_clone.processors.text import BlipCaptionProcessor
from lavis_clone.processors.video import AlproVideoEvalProcessor, AlproVideoTrainProcessor
from lavis_clone.tasks.captioning import CaptionTask
from tests.datasets.making import write
from tests.processors.videos import write_sound, write_video

CAPTIONS = [
    {"video": "a.mp4", "caption": ["One.", "UNO!"]},
    {"video": "b.mp4", "caption": "Two"},
    {"video": "short.mp4", "caption": ["Three"]},
]
QUESTIONS = [
    {"video": "a.mp4", "question": "What is it?", "answer": "grey", "question_id": 7},
    {"video": "short.mp4", "question": "How dark?", "answer": "very", "question_id": "q8"},
]
CLASSES = {"very": 1, "grey": 0, "loud": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two videos of 12 frames, and a short one of 2."""
    made = tmp_path_factory.mktemp("videos")
    for name, count in (("a.mp4", 12), ("b.mp4", 12), ("short.mp4", 2)):
        write_video(made / name, count)
    return made


def small(n_frms=4):
    return AlproVideoEvalProcessor(16, n_frms=n_frms)


def test_train_batches_of_captions(folder, tmp_path):
    dataset = VideoCaptionDataset(
        small(), BlipCaptionProcessor(), folder, write(tmp_path, a=CAPTIONS)
    )
    batch = dataset.collater([dataset[0], dataset[1], dataset[2]])
    assert set(batch) == {"video", "num_frames", "text_input", "image_id"}
    assert batch["video"].shape == (3, 3, 4, 16, 16) and batch["video"].dtype == torch.float32
    assert batch["num_frames"].tolist() == [4, 4, 2]
    assert batch["text_input"][0] in ("one", "uno") and batch["text_input"][1:] == ["two", "three"]
    assert batch["image_id"].tolist() == [0, 1, 2]
    assert dataset.displ_item(1)["file"] == "b.mp4"


def test_eval_batches_of_captions(folder, tmp_path):
    records = [{**CAPTIONS[0], "image_id": "v1"}, CAPTIONS[2]]
    dataset = VideoCaptionEvalDataset(small(), None, folder, write(tmp_path, a=records))
    batch = dataset.collater([dataset[0], dataset[1]])
    assert set(batch) == {"video", "num_frames", "image_id", "instance_id"}
    assert batch["image_id"] == ["v1", "short"] and batch["instance_id"] == ["0", "1"]
    assert dataset.references() == {"v1": ["One.", "UNO!"], "short": ["Three"]}


def test_the_captioning_task_checks_videos(folder, tmp_path):
    task = CaptionTask(CaptioningOptions())
    task.check_data(VideoCaptionEvalDataset(None, None, folder, write(tmp_path, a=CAPTIONS)))
    bare = [{"video": "a.mp4"}, CAPTIONS[1]]
    with pytest.raises(
        ValueError, match="1 pictures have no caption to compare with, e.g. image_id"
    ):
        task.check_data(VideoCaptionEvalDataset(None, None, folder, write(tmp_path, b=bare)))


def test_retrieval_has_the_attributes_of_pictures(folder, tmp_path):
    files = write(tmp_path, a=CAPTIONS)
    dataset = VideoRetrievalEvalDataset(small(), BlipCaptionProcessor(), folder, files)
    assert dataset.text == ["one", "uno", "two", "three"]
    assert dataset.image == ["a.mp4", "b.mp4", "short.mp4"]
    assert dataset.img2txt == {0: [0, 1], 1: [2], 2: [3]}
    assert dataset.txt2img == {0: 0, 1: 0, 2: 1, 3: 2}
    batch = dataset.collater([dataset[2], dataset[0]])
    assert set(batch) == {"video", "num_frames", "index"}
    assert batch["index"].tolist() == [2, 0] and batch["num_frames"].tolist() == [2, 4]
    assert dataset.displ_item(0)["caption"] == ["One.", "UNO!"]
    train = VideoRetrievalDataset(small(), None, folder, files)
    assert set(train[1]) == {"video", "num_frames", "text_input", "image_id"}


def test_questions(folder, tmp_path):
    files = write(tmp_path, a=QUESTIONS, classes=CLASSES)
    train = VideoQADataset(small(), None, folder, files[:1], ans2label=files[1])
    assert train.classnames == train.answer_list == ["grey", "very", "loud"]
    batch = train.collater([train[0], train[1]])
    keys = {"video", "num_frames", "text_input", "answers", "question_id", "instance_id"}
    assert set(batch) == keys
    assert batch["answers"].dtype == torch.int64 and batch["answers"].tolist() == [0, 1]
    assert batch["question_id"] == [7, "q8"] and batch["instance_id"] == ["0", "1"]
    assert batch["text_input"] == ["What is it?", "How dark?"]
    assert batch["num_frames"].tolist() == [4, 2]


def test_questions_to_evaluate(folder, tmp_path):
    records = [*QUESTIONS, {"video": "b.mp4", "question": "And?", "answer": "blue"}]
    records.append({"video": "b.mp4", "question": "Why?"})
    dataset = VideoQAEvalDataset(
        None, None, folder, write(tmp_path, a=records), class_names=["grey", "very"]
    )
    batch = dataset.collater([dataset[i] for i in range(4)])
    assert batch["answers"].tolist() == [0, 1, 2, 2]  # one more than the last is no class
    assert batch["answer"] == ["grey", "very", "blue", None]
    assert batch["question_id"] == [7, "q8", 2, 3]
    assert batch["video"][0] == str(folder / "a.mp4")  # there is no processor
    unknown = [{"video": "a.mp4", "question": "What?"}]
    dataset = VideoQAEvalDataset(None, None, folder, write(tmp_path, b=unknown), class_names=["x"])
    assert set(dataset[0]) == {"video", "text_input", "question_id", "instance_id"}
    dataset = VideoQAEvalDataset(None, None, folder, write(tmp_path, c=QUESTIONS))
    assert dataset.answer_list is None and "answers" not in dataset[0]


@pytest.mark.parametrize(
    "record, message",
    [
        ({"video": "a.mp4", "question": "x"}, "has no 'answer'"),
        ({"video": "a.mp4", "question": "x", "answer": ["a", "b"]}, "answer must be one text"),
        ({"video": "a.mp4", "question": "", "answer": "a"}, "question must be text"),
        ({"image": "a.mp4", "question": "x", "answer": "a"}, "has no 'video'"),
        ({"video": 3, "question": "x", "answer": "a"}, "video must be text"),
    ],
)
def test_bad_records_are_told(tmp_path, record, message):
    with pytest.raises(AnnotationError, match=f"record 1: {message}"):
        VideoQADataset(ann_paths=write(tmp_path, a=[record]))


@pytest.mark.parametrize("content", [[], ["a"], {}, {"a": 0, "b": 2}, {"a": 0, "b": 0}, {"a": "x"}])
def test_what_is_no_file_of_classes(tmp_path, content):
    (path,) = write(tmp_path, classes=content)
    with pytest.raises(AnnotationError, match=r"classes\.json: "):
        read_classes(path)


def test_a_bad_video_is_skipped_and_listed(folder, tmp_path):
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "empty.mp4").touch()
    write_video(tmp_path / "good.mp4", 5)
    names = ["sound.mp4", "good.mp4", "empty.mp4", "missing.mp4"]
    records = [{"video": name, "caption": "x"} for name in names]
    dataset = VideoCaptionEvalDataset(small(), None, tmp_path, write(tmp_path, a=records))
    with pytest.raises(SampleError, match=r"sound\.mp4: has sound, but no pictures"):
        dataset[0]
    listed = []
    skips = SkipLog(on_skip=listed.append)
    batches = list(build_loader(dataset, batch_size=4, is_train=False, skips=skips))
    assert [batch["image_id"] for batch in batches] == [["good"]]
    assert [skipped.index for skipped in listed] == [0, 2, 3]
    assert all("\n" not in skipped.reason for skipped in listed)


def test_videos_of_different_lengths_are_told(folder, tmp_path):
    processor = AlproVideoEvalProcessor(16)
    dataset = VideoCaptionDataset(processor, None, folder, write(tmp_path, a=CAPTIONS))
    with pytest.raises(ValueError, match="differ in shape.* give the processor n_frms"):
        dataset.collater([dataset[0], dataset[2]])


def test_workers_draw_the_same_frames(folder, tmp_path):
    processor = AlproVideoTrainProcessor(16, n_frms=4)
    dataset = VideoCaptionDataset(processor, None, folder, write(tmp_path, a=CAPTIONS))
    alone, shared = (
        next(iter(build_loader(dataset, batch_size=3, is_train=True, num_workers=workers)))
        for workers in (0, 1)
    )
    assert alone["video"].equal(shared["video"])


# --- benchmarks and own data ----------------------------------------------------------------------


def own_yaml(folder, videos, **annotations):
    lines = "".join(f"        {k}: {{storage: {v}}}\n" for k, v in annotations.items())
    path = folder / "own.yaml"
    path.write_text(
        f"""
datasets:
  own:
    kind: video_qa
    data_type: videos
    vis_processor:
      eval: {{name: alpro_video_eval, image_size: 16, n_frms: 2}}
    build_info:
      annotations:
{lines}      videos: {{storage: {videos}}}
"""
    )
    return path


def test_ans2label_is_no_split(folder, tmp_path):
    records, classes = write(tmp_path, records=QUESTIONS, classes=CLASSES)
    path = own_yaml(tmp_path, folder, train=records, val=records, ans2label=classes)
    splits = load_dataset("own", path)
    assert set(splits) == {"train", "val"}
    assert isinstance(splits["val"], VideoQAEvalDataset)
    assert splits["val"].answer_list == ["grey", "very", "loud"]
    assert splits["val"][1]["answers"] == 1 and splits["val"][1]["video"].shape == (3, 2, 16, 16)
    text = path.read_text().replace("kind: video_qa", "kind: video_retrieval")
    path.write_text(text)
    with pytest.raises(ConfigError, match="own.ans2label: VideoRetrievalDataset has no classes"):
        load_dataset("own", path)


@pytest.mark.parametrize(
    "name, records",
    [
        ("msrvtt_caption", CAPTIONS),
        ("msrvtt_retrieval", CAPTIONS),
        ("msrvtt_qa", QUESTIONS),
        ("msvd_caption", CAPTIONS),
        ("msvd_qa", QUESTIONS),
        ("didemo_retrieval", CAPTIONS),
        ("vatex_caption", CAPTIONS),
    ],
)
def test_a_benchmark_reads_what_lies_in_the_cache(cache, folder, name, records):
    place = cache / name.rpartition("_")[0]
    kind = {"caption": "cap", "retrieval": "retrieval", "qa": "qa"}[name.rpartition("_")[2]]
    (place / "annotations").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (place / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(records))
    (place / "annotations" / "qa_ans2label.json").write_text(json.dumps(CLASSES))
    splits = load_dataset(name, vis_path=str(folder))
    assert {split: len(data) for split, data in splits.items()} == dict.fromkeys(
        ("train", "val", "test"), len(records)
    )
    splits["test"].set_processors(small(), None)
    assert splits["test"][0]["video"].shape == (3, 4, 16, 16)


def test_the_kinds_have_these_classes():
    assert dataset_classes("video_caption") == (VideoCaptionDataset, VideoCaptionEvalDataset)
    assert dataset_classes("video_retrieval") == (VideoRetrievalDataset, VideoRetrievalEvalDataset)
    assert dataset_classes("video_qa") == (VideoQADataset, VideoQAEvalDataset)
