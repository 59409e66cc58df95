"""What a check of the data finds: one planted fault of every sort."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lavis_clone.datasets import check
from lavis_clone.datasets.base import Description
from lavis_clone.datasets.check import CheckOptions, Part, check_parts
from lavis_clone.datasets.check_media import alike, difference_hash, facts_of
from lavis_clone.datasets.check_report import as_dict, as_markdown, summary, write_report
from lavis_clone.datasets.check_texts import script_of
from lavis_clone.datasets.kinds.caption import CaptionDataset, CaptionEvalDataset
from lavis_clone.datasets.kinds.classification import ClassificationDataset
from lavis_clone.datasets.kinds.vqa import VqaDataset, VqaEvalDataset
from lavis_clone.processors.text import BlipCaptionProcessor
from tests.datasets.making import write
from tests.processors.videos import write_video


def scene(seed, size=(96, 72)):
    """A picture with large shapes, which no other seed resembles."""
    levels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def pictures(tmp_path):
    """Six files, all different."""
    for number in range(6):
        scene(number).save(tmp_path / f"{number}.png")
    return tmp_path


def captions(folder, split, *rows, text=None):
    """A split of captions; each row is a file's name and its caption."""
    records = [{"image": file, "caption": caption} for file, caption in rows]
    kind = CaptionDataset if split == "train" else CaptionEvalDataset
    dataset = kind(None, text, folder, write(folder, **{split: records}))
    return Part("own", split, dataset, split == "train")


def found_in(*parts, **options):
    """The report, and its findings as (problem, part, where, message)."""
    report = check_parts(parts, CheckOptions(**options))
    return report, [(f.problem, f.part, f.where, f.message) for f in report.findings]


def test_nothing_is_wrong_with_good_data(pictures):
    train = captions(pictures, "train", ("0.png", "a cat"), ("0.png", "two cats"), ("1.png", "dog"))
    test = captions(pictures, "test", ("2.png", "a fox"))
    report, found = found_in(test, train, num_workers=1)
    assert found == [] and report.is_complete and report.count("error") == 0
    trained, tested = report.splits["own/train"], report.splits["own/test"]
    assert (trained["samples"], trained["files"], tested["files"]) == (3, 2, 1)
    assert trained["bytes"] == sum((pictures / f).stat().st_size for f in ("0.png", "1.png"))
    assert trained["smallest"] == trained["largest"] == [72, 96]
    assert trained["texts"]["caption"]["texts"] == 3
    assert trained["texts"]["caption"]["words"] == {
        **{"least": 1, "median": 2, "most_of_95_percent": 2, "most": 2}
    }
    assert trained["scripts"] == {"LATIN": 3}


def test_missing_and_corrupt_pictures(pictures):
    whole = (pictures / "1.png").read_bytes()
    (pictures / "1.png").write_bytes(whole[: len(whole) // 2])  # its header is all right
    (pictures / "2.png").write_bytes(b"no picture")
    rows = [("gone.png", "a"), ("1.png", "b"), ("0.png", "c"), ("2.png", "d"), ("gone.png", "e")]
    report, found = found_in(captions(pictures, "train", *rows))
    assert [(problem, where) for problem, _, where, _ in found] == [
        ("missing_media", "sample 0"),
        ("corrupt_media", "sample 1"),
        ("corrupt_media", "sample 3"),
    ]
    assert found[0][3] == f"{pictures / 'gone.png'}: no such picture"
    assert "1.png: damaged picture" in found[1][3] and "2.png: not a picture" in found[2][3]
    assert report.count("error") == 3
    without, found = found_in(captions(pictures, "train", *rows), decode=False)
    assert found == [] and "files" not in without.splits["own/train"]


def test_videos_and_features_are_read_to_their_end(tmp_path):
    write_video(tmp_path / "good.mp4")
    data = (tmp_path / "good.mp4").read_bytes()
    spoilt = bytearray(data)
    middle = data.index(b"mdat") + 600  # behind the encoder's own words
    spoilt[middle : middle + 300] = bytes(300)
    (tmp_path / "bad.mp4").write_bytes(spoilt)
    good = facts_of(tmp_path / "good.mp4", is_video=True)
    assert good.problem is None and good.height > 0 and good.look is not None
    bad = facts_of(tmp_path / "bad.mp4", is_video=True)
    assert bad.problem is not None and "damaged" in bad.problem and not bad.is_missing
    assert facts_of(tmp_path / "no.mp4", is_video=True).is_missing
    np.save(tmp_path / "good.npy", np.ones((5, 3)))
    np.save(tmp_path / "bad.npy", np.full((5, 3), np.nan))
    assert facts_of(tmp_path / "good.npy", is_video=False)[4:] == (None, 5, 3)
    assert "no finite numbers" in str(facts_of(tmp_path / "bad.npy", is_video=False).problem)
    assert facts_of(tmp_path / "no.npy", is_video=False).is_missing


def test_a_picture_in_training_and_test(pictures):
    shutil.copy(pictures / "0.png", pictures / "copy.png")
    large = scene(1, (320, 240))
    large.save(pictures / "1.png")
    large.resize((160, 120)).save(pictures / "small.jpg", quality=80)
    train = captions(pictures, "train", ("0.png", "a"), ("1.png", "b"), ("2.png", "c"))
    rows = [("copy.png", "d"), ("small.jpg", "e"), ("2.png", "f"), ("3.png", "g"), ("2.png", "h")]
    report, found = found_in(captions(pictures, "test", *rows), train)
    assert [(problem, part, where) for problem, part, where, _ in found] == [
        ("shared_picture", "own/test", "sample 2"),
        ("shared_picture", "own/test", "sample 0"),
        ("similar_picture", "own/test", "sample 1"),
    ]
    assert found[0][3].endswith("2.png: is trained on too, as own/train, sample 2")
    assert "copy.png is the same as" in found[1][3] and "own/train, sample 0" in found[1][3]
    assert "small.jpg looks like" in found[2][3] and "own/train, sample 1" in found[2][3]
    assert (report.count("error"), report.count("warning")) == (2, 1)
    allowed, _ = found_in(
        captions(pictures, "test", *rows), train, allowed=frozenset(["shared_picture"])
    )
    assert (allowed.count("error"), allowed.count("warning")) == (0, 3)


def test_one_picture_under_two_names(pictures):
    shutil.copy(pictures / "0.png", pictures / "copy.png")
    rows = [("0.png", "a"), ("copy.png", "b"), ("1.png", "c")]
    _, found = found_in(captions(pictures, "train", *rows))
    assert [(problem, where) for problem, _, where, _ in found] == [
        ("repeated_picture", "sample 1")
    ]


def test_empty_garbled_and_repeated_texts(pictures):
    rows = [
        ("0.png", " "),
        ("1.png", "a caf\ufffd"),
        ("2.png", "!!!"),
        ("3.png", "x"),
        ("3.png", "x"),
    ]
    _, found = found_in(captions(pictures, "train", *rows, text=BlipCaptionProcessor()))
    assert [(problem, where) for problem, _, where, _ in found] == [
        ("empty_text", "sample 0"),
        ("garbled_text", "sample 1"),
        ("empty_text", "sample 2"),
        ("repeated_sample", "sample 4"),
    ]
    _, found = found_in(captions(pictures, "train", *rows))
    assert ("empty_text", "sample 2") not in [(problem, where) for problem, _, where, _ in found]


def test_long_texts_by_tokens_and_by_words(pictures):
    rows = [("0.png", "one two three four"), ("1.png", "one two")]
    count = {"count_tokens": lambda text: len(text.split()) + 2}
    report, found = found_in(captions(pictures, "train", *rows), **count, max_tokens=5)
    assert [f[3] for f in found] == [
        "caption has 6 tokens, but the model reads 5: 'one two three four'..."
    ]
    spread = report.splits["own/train"]["texts"]["caption"]["tokens"]
    assert (spread["least"], spread["most"]) == (4, 6)
    text = BlipCaptionProcessor(max_words=3)
    _, found = found_in(captions(pictures, "train", *rows, text=text), **count, max_tokens=5)
    assert [f[3] for f in found] == [
        "caption has 4 words, more than its processor keeps: 'one two three four'..."
    ]


def questions(folder, split, *records):
    kind = VqaDataset if split == "train" else VqaEvalDataset
    paths = write(folder, **{split: [{"question": "what is it?", **r} for r in records]})
    return Part("own", split, kind(None, None, folder, paths), split == "train")


def test_ids_that_two_samples_have(pictures):
    asked = [
        {"image": "0.png", "question_id": 7, "answer": "a"},
        {"image": "1.png", "question_id": 7, "answer": "b"},
    ]
    _, found = found_in(questions(pictures, "train", *asked))
    assert [f[3] for f in found] == ["question_id 7 is an earlier sample's, too"]
    for file in ("0.png", "1.png"):
        shutil.copy(pictures / file, pictures / f"other_{file}")
    shown = [{"image": "0.png"}, {"image": "other_0.png"}]  # what follows "_" is the id
    dataset = CaptionEvalDataset(None, None, pictures, write(pictures, val=shown))
    _, found = found_in(Part("own", "val", dataset, False), decode=False)
    assert [f[0] for f in found] == ["duplicate_id"] and "image_id '0' is that of" in found[0][3]


def test_labels_and_answers_are_counted(pictures):
    def labelled(split, *labels):
        records = [{"image": f"{n}.png", "label": label} for n, label in enumerate(labels)]
        paths = write(pictures, **{split: records})
        names = ["cat", "dog", "fox"]
        dataset = ClassificationDataset(None, None, pictures, paths, class_names=names)
        return Part("own", split, dataset, split == "train")

    report, found = found_in(
        labelled("train", "cat", "dog", "cat"), labelled("test", "fox", "cat"), decode=False
    )
    assert report.splits["own/train"]["labels"] == {"cat": 2, "dog": 1}
    assert found[-1][:3] == ("unknown_label", "own/test", "")
    assert found[-1][3] == "label 'fox' of 1 samples is not trained on"
    records = [
        {"image": "0.png", "answers": ["yes", "yes", "no"]},
        {"image": "1.png", "answer": "perhaps"},
    ]
    (pictures / "list.txt").write_text("yes\nno\n")
    asked = [{"question": "is it?", "question_id": n, **r} for n, r in enumerate(records)]
    paths = [*write(pictures, val=asked), pictures / "list.txt"]
    split = Part("own", "val", VqaEvalDataset(None, None, pictures, paths), False)
    counts = found_in(split, decode=False)[0].splits["own/val"]
    assert counts["answers"] == {"yes": 1, "no": 1, "perhaps": 1}
    assert counts["share_answerable"] == 0.5


def test_scripts_are_told_apart():
    texts = ["2 chiens", "две собаки", "два dogs да", "犬と猫", "كلبان", "2!", ""]
    assert [script_of(text) for text in texts] == [
        *("LATIN", "CYRILLIC", "CYRILLIC", "CJK", "ARABIC", "none", "none")
    ]


def test_hashes_that_differ_in_few_bits_are_found():
    generator = np.random.default_rng(0)
    looks = [int(n) for n in generator.integers(0, 2**63, 400, dtype=np.uint64)]
    near = [looks[3], looks[5] ^ 1 << 17, looks[8] ^ (1 | 1 << 20 | 1 << 40), looks[9] ^ 0xF, None]
    found = sorted(alike([*looks, None], near))
    slow = [  # every pair, without bands
        (i, j, (a ^ b).bit_count())
        for i, a in enumerate(looks)
        for j, b in enumerate(near)
        if b is not None and (a ^ b).bit_count() <= 3
    ]
    assert found == slow == [(3, 0, 0), (5, 1, 1), (8, 2, 3)]
    assert difference_hash(Image.new("RGB", (20, 20), "red")) is None


def test_an_interrupted_check_tells_what_it_found(pictures, monkeypatch):
    part = captions(pictures, "train", ("gone.png", ""), ("0.png", "a"))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "MediaProbe", interrupted)
    report = check_parts([part], CheckOptions())
    assert not report.is_complete and report.counts == {"empty_text": 1}
    assert "Interrupted" in summary(report) and "Interrupted" in as_markdown(report, title="a")


class Many:
    """A data set of nothing but empty texts."""

    def __len__(self):
        return 300

    def describe(self, index):
        return Description(media={}, texts={"caption": (" \n",)}, scalars={"image_id": index})


def test_a_report_lists_some_and_counts_all(tmp_path):
    part = Part("many", "train", Many(), True)
    report = check_parts([part], CheckOptions(max_listed=3), {"other|val": "no such file"})
    content = as_dict(report, title="a.yaml")
    assert content["errors"] == 301 and content["complete"]
    assert [p["count"] for p in content["problems"].values()] == [1, 300, 299]
    assert len(content["findings"]) == 7
    assert content["findings"][0] == {
        **{"level": "error", "problem": "unreadable_annotations", "part": "other|val"},
        **{"where": "", "message": "no such file"},
    }
    paths = write_report(report, tmp_path / "out", title="a.yaml")
    assert json.loads(paths[0].read_text()) == content
    page = paths[1].read_text()
    assert "and 297 more" in page and "| many/train | 300 | 0 |" in page
    assert "- other|val: no such file" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allowed": frozenset(["shared"])}, "no such problem: 'shared'"),
        ({"num_workers": -1}, "must be at least 0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        CheckOptions(**options)


def test_facts_of_a_file_that_cannot_be_opened(tmp_path):
    assert (
        facts_of(tmp_path, is_video=False).problem == f"{tmp_path}: is a directory, not a picture"
    )
