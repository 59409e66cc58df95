"""Which frames of a video are taken, how many, and what the processors make of them."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from lavis_clone.common.config import ConfigError
from lavis_clone.processors import load_processor
from lavis_clone.processors.augment import OPERATIONS, RandomAugment, VideoRandomAugment
from lavis_clone.processors.image import MEAN, STD
from lavis_clone.processors.video import (
    MAX_INT,
    AlproVideoEvalProcessor,
    AlproVideoTrainProcessor,
    load_video,
    read_video,
    sample_frames,
)
from tests.processors.videos import number, write_video

WAYS = ("uniform", "headtail", "random")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Thirty frames."""
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Three frames."""
    return write_video(tmp_path_factory.mktemp("video") / "short.mp4", 3)


def numbers(frames):
    return [number(frame) for frame in frames.unbind(1)]


# --- which frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_exactly_as_many_as_asked_and_none_twice(way):
    torch.manual_seed(0)
    for count in [*range(1, 40), 300, 901, 1_000_003]:
        for wanted in (1, 2, 3, 7, 8, 16, 39):
            found = sample_frames(count, wanted, way)
            assert len(found) == min(wanted, count)
            assert found == sorted(set(found)) and found[0] >= 0 and found[-1] < count
    assert sample_frames(5, MAX_INT, way) == [0, 1, 2, 3, 4]


def test_uniform_takes_the_first_of_equal_parts():
    assert sample_frames(30, 5) == [0, 6, 12, 18, 24]
    assert sample_frames(10, 4) == [0, 2, 5, 7]
    for count, wanted in ((47, 8), (300, 8), (750, 16), (11, 7)):
        found = np.arange(0, count, count / wanted).astype(int)[:wanted]  # v1.0.2's, without n + 1
        assert sample_frames(count, wanted) == found.tolist()


@pytest.mark.parametrize("count, wanted, head", [(10, 4, 2), (11, 5, 2), (9, 7, 3)])
def test_headtail_draws_from_both_halves(count, wanted, head):
    torch.manual_seed(0)
    drawn = [sample_frames(count, wanted, "headtail") for _ in range(60)]
    for found in drawn:
        assert sum(i < count // 2 for i in found) == head
    assert {i for found in drawn for i in found} == set(range(count))


def test_draws_come_from_the_generator():
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    first, same, other = (sample_frames(100, 8, "random", generator=g) for g in seeds)
    assert first == same != other
    torch.manual_seed(5)
    again = sample_frames(100, 8, "headtail")
    torch.manual_seed(5)
    assert sample_frames(100, 8, "headtail") == again


@pytest.mark.parametrize(
    "arguments, message",
    [((0, 1), "at least 1"), ((5, 0), "at least 1"), ((5, 1, "unifrom"), "uniform, headtail")],
)
def test_what_cannot_be_sampled(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_frames(*arguments)


# --- load_video ----------------------------------------------------------------------------------


def test_frames_in_order_at_a_size(video):
    found = load_video(video, 5, 32, 64)
    assert found.shape == (3, 5, 32, 64) and found.dtype == torch.uint8 and found.is_contiguous()
    assert numbers(found) == [0, 6, 12, 18, 24]
    assert load_video(str(video)).shape == (3, 30, 96, 128)


def test_a_short_video_is_padded_by_its_last_frame(short):
    padded, count = read_video(short, 5)
    assert numbers(padded) == [0, 1, 2, 2, 2] and count == 3
    assert padded[:, 2].equal(padded[:, 4])
    assert read_video(short, 3).num_frames == 3 and read_video(short).num_frames == 3
    one = read_video(short, 1)
    assert numbers(one.frames) == [0] and one.num_frames == 1


@pytest.mark.parametrize("way", WAYS)
def test_every_way_reads_the_frames_that_it_chose(video, way):
    found = load_video(video, 7, sampling=way, generator=torch.Generator().manual_seed(3))
    chosen = sample_frames(30, 7, way, generator=torch.Generator().manual_seed(3))
    assert numbers(found) == chosen


def test_what_cannot_be_asked(video):
    with pytest.raises(ValueError, match="n_frms"):
        load_video(video, 0)
    with pytest.raises(ValueError, match=r"height \(0\)"):
        load_video(video, 2, 0, 5)
    with pytest.raises(ValueError, match="backend must be auto, decord, pyav, got 'cv2'"):
        load_video(video, 2, backend="cv2")


# --- processors ----------------------------------------------------------------------------------


def drawn(processor, path, seed=0):
    torch.manual_seed(seed)
    return processor(path)


@pytest.mark.parametrize("name", ["alpro_video_train", "alpro_video_eval"])
def test_every_video_processor(name, video, short):
    processor = load_processor(name, {"name": name, "image_size": 32, "n_frms": 4})
    found = drawn(processor, video)
    assert found.shape == (3, 4, 32, 32) and found.dtype == torch.float32
    assert found.is_contiguous() and found.isfinite().all()
    assert drawn(pickle.loads(pickle.dumps(processor)), video).equal(found)
    assert processor.load(short).num_frames == 3 and processor.load(video).num_frames == 4
    assert (type(processor).build().image_size, type(processor).build().n_frms) == (256, MAX_INT)
    for key, value, message in [
        ("image_size", 0, r"image_size \(0\) must be at least 1"),
        ("n_frms", 0, r"n_frms \(0\) must be at least 1"),
        ("n_frm", 4, "unknown key; did you mean 'n_frms'"),
        ("sampling", "unifrom", "must be one of 'uniform'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_processor(name, {key: value})


def test_eval_is_the_frames_and_nothing_else(video):
    frames = load_video(video, 4, 32, 32)
    found = AlproVideoEvalProcessor(32, n_frms=4)(video)
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(found, (frames.float() / 255 - mean) / std)
    assert AlproVideoEvalProcessor(32, n_frms=4, sampling="random")(video).shape == found.shape


def test_random_numbers_come_from_torch_alone(video):
    processor = AlproVideoTrainProcessor(32, n_frms=4)
    states = random.getstate(), np.random.get_state()[1].tolist()
    views = [drawn(processor, video, seed) for seed in range(4)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert drawn(processor, video, 3).equal(views[3])
    assert len({view.numpy().tobytes() for view in views}) == 4


def test_all_frames_are_changed_in_the_same_way(tmp_path):
    """Of a video whose frames are all the same, they still are when it has been changed."""
    noise = torch.randint(0, 256, (3, 1, 40, 40), dtype=torch.uint8).expand(-1, 6, -1, -1)
    processor = AlproVideoTrainProcessor(40)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        found = processor.transform(noise)
        assert all(found[:, 0].equal(frame) for frame in found.unbind(1))
        seen.add(found[:, 0].numpy().tobytes())
    assert len(seen) == 12


def test_scales_must_fit():
    with pytest.raises(ConfigError, match=r"min_scale \(0.9\) and max_scale \(0.5\)"):
        AlproVideoTrainProcessor.build(min_scale=0.9, max_scale=0.5)


# --- augmentation --------------------------------------------------------------------------------


def test_operations_of_a_video_are_different_and_all_applied():
    augment = VideoRandomAugment(3, 5)
    for _ in range(30):
        assert len(set(augment.choose())) == 3
        chosen = augment.draw()
        assert len({operation for operation, _ in chosen}) == len(chosen)
        assert {sign for _, sign in chosen} <= {1, -1}
    without_effect = ("Identity", "Brightness", "Sharpness")  # at level 5 of 10
    assert {operation for _ in range(90) for operation, _ in augment.draw()} == {
        operation for name, operation in OPERATIONS.items() if name not in without_effect
    }
    with pytest.raises(ValueError, match=r"ops \(11\) must be at most 10"):
        VideoRandomAugment(11)


def test_frames_are_changed_as_one_picture_is():
    noise = [Image.effect_noise((24, 24), 80 + i).convert("RGB") for i in range(3)]
    augment = VideoRandomAugment(2, 5)
    torch.manual_seed(4)
    together = augment.of_frames(noise)
    for frame, found in zip(noise, together, strict=True):
        torch.manual_seed(4)
        assert augment(frame).tobytes() == found.tobytes()
    assert isinstance(augment, RandomAugment)
