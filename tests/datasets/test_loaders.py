"""Loaders: the same samples whoever loads them, each one once, and bad ones left out."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from lavis_clone.common.context import RunContext
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.skip import SampleError, SkipLog, SkippedSample, appender


class Toy(Dataset):
    """Samples that draw from all three generators. ``bad`` ones cannot be used."""

    name, split = "toy", "train"

    def __init__(self, length=10, bad=(), start=0):
        self.length, self.bad, self.start = length, bad, start

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.bad:
            raise SampleError(f"{index}.png: damaged picture")
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return {"index": index + self.start, "drawn": torch.tensor(drawn)}


def loader(dataset, **options):
    options = {"batch_size": 4, "is_train": True, **options}
    return build_loader(dataset, **options)


def context(rank, world_size, tmp_path):
    return RunContext(tmp_path, torch.device("cpu"), rank=rank, world_size=world_size)


def seen(batches):
    return [batch["index"].tolist() for batch in batches]


def by_index(batches):
    return {
        i: tuple(d.tolist())
        for b in batches
        for i, d in zip(b["index"].tolist(), b["drawn"], strict=True)
    }


@pytest.mark.parametrize("is_train", [True, False])
def test_samples_do_not_depend_on_workers(is_train):
    alone, helped = (loader(Toy(), is_train=is_train, num_workers=n) for n in (0, 2))
    for epoch in (0, 3):
        for each in (alone, helped):
            each.set_epoch(epoch)
        first, second = list(alone), list(helped)
        assert seen(first) == seen(second)
        assert by_index(first) == by_index(second)


def test_workers_that_are_spawned_give_the_same():
    plain, spawned = loader(Toy()), loader(Toy(), num_workers=1)
    spawned._loader.multiprocessing_context = "spawn"
    assert by_index(plain) == by_index(spawned)


def test_epochs_and_seeds_differ_and_repeat():
    each = loader(Toy())
    first, again = list(each), list(each)
    assert seen(first) == seen(again) and by_index(first) == by_index(again)
    each.set_epoch(1)
    later = list(each)
    shared = by_index(first).keys() & by_index(later).keys()
    assert seen(first) != seen(later)
    assert all(by_index(first)[i] != by_index(later)[i] for i in shared)
    assert seen(loader(Toy(), seed=1)) != seen(first)


def test_evaluation_is_the_same_in_every_epoch():
    each = loader(Toy(), is_train=False)
    first = list(each)
    each.set_epoch(5)
    assert seen(each) == seen(first) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert by_index(each) == by_index(first)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_generators_alone(num_workers):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert len(list(loader(Toy(), num_workers=num_workers))) == 2
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 12, 13])
def test_evaluation_gives_every_sample_to_one_rank(tmp_path, world_size, length):
    found = []
    for rank in range(world_size):
        each = loader(
            Toy(length), is_train=False, batch_size=2, context=context(rank, world_size, tmp_path)
        )
        batches = list(each)
        assert len(batches) == len(each)
        found += [index for batch in seen(batches) for index in batch]
    assert sorted(found) == list(range(length))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 12, 13])
def test_training_gives_all_ranks_as_many_batches(tmp_path, world_size, length):
    ranks = []
    for rank in range(world_size):
        each = loader(Toy(length), batch_size=2, context=context(rank, world_size, tmp_path))
        ranks.append(seen(each))
        assert len(ranks[-1]) == len(each) >= 1
    sizes = [[len(batch) for batch in batches] for batches in ranks]
    assert sizes == [sizes[0]] * world_size
    flat = [index for batches in ranks for batch in batches for index in batch]
    if length >= 2 * world_size:  # full batches, no sample twice
        assert set(sizes[0]) == {2}
        assert len(set(flat)) == len(flat) == length // (2 * world_size) * 2 * world_size
    else:
        assert set(flat) == set(range(length))


def test_a_sample_is_the_same_on_any_rank(tmp_path):
    whole = by_index(loader(Toy(12)))
    parts = [by_index(loader(Toy(12), context=context(r, 3, tmp_path))) for r in range(3)]
    assert {k: v for part in parts for k, v in part.items()} == whole


def test_a_short_rest_is_dropped_only_if_there_is_more():
    assert [len(b) for b in seen(loader(Toy(9)))] == [4, 4]
    assert [len(b) for b in seen(loader(Toy(3)))] == [3]


def test_resuming_within_an_epoch():
    each = loader(Toy(16))
    each.set_epoch(2)
    whole = list(each)
    each.set_epoch(2, skip=3)
    rest = list(each)
    assert len(each) == 4 and len(rest) == 1
    assert by_index(rest) == by_index(whole[3:])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_iteration_may_be_left_early(num_workers):
    each = loader(Toy(32), num_workers=num_workers)
    whole = seen(each)
    assert next(iter(each))["index"].tolist() == whole[0]
    assert seen(each) == whole


def test_several_data_sets_are_one():
    each = loader([Toy(3), Toy(4, start=100)], is_train=False)
    assert seen(each) == [[0, 1, 2, 100], [101, 102, 103]]
    assert each.dataset.name == "toy+toy"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_replaces_bad_samples(num_workers, tmp_path):
    skips = SkipLog(on_skip=appender(tmp_path / "job" / "skipped.jsonl"))
    each = loader(Toy(8, bad=(3, 4)), num_workers=num_workers, skips=skips)
    for epoch in range(3):
        each.set_epoch(epoch)
        batches = seen(each)
        assert [len(b) for b in batches] == [4, 4]
        assert {i for b in batches for i in b} == {0, 1, 2, 5, 6, 7}
    assert skips.count == 2  # of three epochs
    lines = (tmp_path / "job" / "skipped.jsonl").read_text().splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: row["index"])
    assert rows[0] == {"dataset": "toy/train", "index": 3, "reason": "3.png: damaged picture"}
    assert [row["index"] for row in rows] == [3, 4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_leaves_bad_samples_out(num_workers):
    skips = SkipLog()
    bad = (1, 4, 5, 6, 7)
    each = loader(Toy(10, bad=bad), is_train=False, num_workers=num_workers, skips=skips)
    assert seen(each) == [[0, 2, 3], [8, 9]]  # a batch of bad ones alone is no batch
    assert skips.count == 5


def test_beyond_the_limit_the_run_stops():
    for is_train in (True, False):
        each = loader(Toy(10, bad=range(5)), is_train=is_train, skips=SkipLog(limit=3))
        with pytest.raises(SampleError, match=r"^more than 3 bad samples; the last: \d.png"):
            list(each)
    with pytest.raises(SampleError, match="no sample could be used; the last: "):
        list(loader(Toy(3, bad=range(3))))
    with pytest.raises(ValueError, match="limit"):
        SkipLog(limit=-1)


def test_a_bug_is_not_a_bad_sample():
    class Broken(Toy):
        def __getitem__(self, index):
            raise KeyError("image")

    with pytest.raises(KeyError):
        list(loader(Broken()))


def test_skip_log_tells_each_sample_once(caplog):
    told = []
    log = SkipLog(limit=1, on_skip=told.append)
    sample = SkippedSample("toy", 1, "1.png: damaged")
    log.record(sample)
    log.record(sample)
    assert told == [sample] and caplog.text.count("1.png: damaged") == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, r"batch_size \(0\)"),
        ({"num_workers": -1}, r"num_workers \(-1\)"),
        ({"seed": -1}, r"seed \(-1\)"),
    ],
)
def test_wrong_numbers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        loader(Toy(), **options)


def test_what_cannot_be_loaded_from():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(TypeError, match="Stream is not map-style"):
        loader(Stream())
    with pytest.raises(ValueError, match="holds no sample"):
        loader(Toy(0))
    with pytest.raises(ValueError, match="no data set"):
        loader([])
    with pytest.raises(ValueError, match="epoch"):
        loader(Toy()).set_epoch(-1)
