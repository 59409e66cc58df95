"""Order, mixtures and resuming: every sample once per pass, whoever loads it and however often a
run is broken off."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from lavis_clone.common.context import RunContext
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.schema import RunConfig
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.mixture import EpochBatches, Mix, Part, counts_after, mix_of
from lavis_clone.datasets.skip import SampleError, SkipLog

SEEDS, EPOCHS = st.integers(0, 2**40), st.integers(0, 2000)
QUICK = settings(max_examples=60, deadline=None)


def batches_of(parts, rank=0, ranks=1, *, epoch=0, skip=0, seed=0, is_train=True):
    found = EpochBatches(parts, is_train=is_train, seed=seed, ranks=(rank, ranks))
    found.set_epoch(epoch, skip=skip)
    return list(found)


def parts_of(lengths, sizes, mix=None, ranks=1):
    names = [f"set{number}" for number in range(len(lengths))]
    mix = mix or Mix(batch_sizes=dict(zip(names, sizes, strict=True)))
    return mix.parts(list(zip(names, lengths, strict=True)), sizes[0], ranks)


@st.composite
def data(draw):
    """Lengths, batch sizes and a number of ranks."""
    count = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))
    sizes = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    return lengths, sizes, draw(st.integers(1, 4))


@QUICK
@given(data(), SEEDS, EPOCHS)
def test_an_epoch_sees_each_sample_once_on_one_rank(drawn, seed, epoch):
    lengths, sizes, ranks = drawn
    parts = parts_of(lengths, sizes, ranks=ranks)
    by_rank = [batches_of(parts, r, ranks, epoch=epoch, seed=seed) for r in range(ranks)]
    shapes = [[(len(b), len({_part(parts, k) for k in b})) for b in batches] for batches in by_rank]
    assert shapes == [shapes[0]] * ranks  # as many, as large, each of one data set
    assert {number for _, number in shapes[0]} == {1}
    seen = Counter(index for batches in by_rank for batch in batches for _, index in batch)
    for part in parts:
        counts = [seen[part.offset + i] for i in range(part.length)]
        full = part.length // (part.batch_size * ranks) * part.batch_size * ranks
        if full:
            assert max(counts) == 1 and sum(counts) == full
        else:
            assert min(counts) >= 1 and max(counts) - min(counts) <= 1
            assert sum(counts) == -(-part.length // ranks) * ranks


def _part(parts, key):
    return next(p.name for p in parts if p.offset <= key[1] < p.offset + p.length)


@QUICK
@given(data(), SEEDS)
def test_evaluation_sees_each_sample_once_in_order(drawn, seed):
    (length, *_), (size, *_), ranks = drawn
    part = Part("", length, size)
    found = [batches_of([part], r, ranks, seed=seed, is_train=False) for r in range(ranks)]
    assert [k for batches in found for b in batches for k in b] == [(0, i) for i in range(length)]


@QUICK
@given(data(), SEEDS, EPOCHS, st.floats(0.2, 20), st.integers(0, 60))
def test_skipping_leaves_the_rest_as_it_is(drawn, seed, epoch, temperature, skip):
    lengths, sizes, ranks = drawn
    mix = Mix(temperature=temperature)
    parts = parts_of(lengths, sizes, mix, ranks)
    whole = batches_of(parts, ranks - 1, ranks, epoch=epoch, seed=seed)
    assert batches_of(parts, ranks - 1, ranks, epoch=epoch, seed=seed, skip=skip) == whole[skip:]


@QUICK
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 10_000))
def test_counts_follow_the_weights(weights, total):
    counts, after = counts_after(total, weights), counts_after(total + 1, weights)
    assert (
        sum(counts) == total and sorted(b - a for a, b in zip(counts, after, strict=True))[-1] == 1
    )
    assert all(a <= b for a, b in zip(counts, after, strict=True)) and sum(after) == total + 1
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) <= len(weights) / 2


@settings(max_examples=25, deadline=None)
@given(data(), SEEDS, st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(lambda r: r[0]))
def test_a_mixture_goes_through_every_data_set_pass_after_pass(drawn, seed, ratios):
    lengths, sizes, ranks = drawn
    names = [f"set{number}" for number in range(len(lengths))]
    own = {"batch_sizes": dict(zip(names, sizes, strict=True))}
    mix = Mix(ratios=dict(zip(names, ratios, strict=False)), **own)
    parts = parts_of(lengths, sizes, mix, ranks)
    epochs = [batches_of(parts, epoch=e, seed=seed, ranks=ranks) for e in range(6)]
    assert len({len(batches) for batches in epochs}) == 1
    for part, ratio in zip(parts, ratios, strict=False):
        mine = [b for batches in epochs for b in batches if _part(parts, b[0]) == part.name]
        total = sum(map(len, epochs))
        assert abs(len(mine) - total * ratio / sum(ratios[: len(parts)])) <= len(parts) / 2
        passes = [key[0] for batch in mine for key in batch]
        assert passes == sorted(passes) and set(passes) == set(range(len(set(passes))))
        seen = Counter(key for batch in mine for key in batch)
        assert not seen or max(seen.values()) == 1  # once in a pass, across epochs


def test_temperature_by_hand():
    lengths = [("small", 100), ("large", 10_000)]
    for temperature, share in ((1, 100 / 10_100), (2, 10 / 110), (1e9, 0.5)):
        small, large = Mix(temperature=temperature).parts(lengths, 10, 1)
        assert small.weight / (small.weight + large.weight) == pytest.approx(share, rel=1e-6)
    small, large = Mix(temperature=1, batch_sizes={"small": 5}).parts(lengths, 10, 1)
    assert large.weight / small.weight == pytest.approx(50)  # batches, so that samples go by size
    assert Mix(temperature=1e-4).parts(lengths, 10, 1)[0].weight == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ratios": {"a": 1}, "temperature": 2.0}, "by ratios or by temperature"),
        ({"temperature": 0.0}, r"temperature \(0.0\)"),
        ({"ratios": {"a": -1.0}}, r"the ratio of 'a' \(-1.0\)"),
        ({"ratios": {"a": 0.0, "b": 0.0}}, "all ratios are 0"),
        ({"batch_sizes": {"a": 0}}, r"batch_size of 'a' \(0\)"),
    ],
)
def test_wrong_mixtures_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Mix(**options)


class Numbered(Dataset):
    """Samples that say where they come from and what they drew."""

    split = "train"

    def __init__(self, name, length, bad=(), extra=False):
        self.name, self.length, self.bad, self.extra = name, length, bad, extra

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.bad:
            raise SampleError(f"{self.name}{index}: bad")
        own = {"extra": 1} if self.extra else {}
        return {"set": self.name, "index": index, "drawn": torch.rand(()).item(), **own}


def loader(sets, tmp_path=None, rank=0, ranks=1, **options):
    context = RunContext(tmp_path, torch.device("cpu"), rank, ranks) if ranks > 1 else None
    return build_loader(sets, **{"batch_size": 2, "is_train": True, "context": context, **options})


def taken(batch):
    return list(zip(batch["set"], batch["index"].tolist(), batch["drawn"].tolist(), strict=True))


MIXES = {
    "one": ([7], None),
    "together": ([5, 8], None),
    "by size": ([5, 8], Mix(batch_sizes={"a": 1, "b": 3})),
    "by ratio": ([5, 8], Mix(ratios={"a": 3.0, "b": 1.0})),
    "by temperature": ([3, 11], Mix(temperature=5.0, batch_sizes={"b": 1})),
}


def sets_of(lengths, **options):
    return [Numbered(name, n, **options) for name, n in zip("ab", lengths, strict=False)]


@pytest.mark.parametrize("case", MIXES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 3), max_size=4))
def test_a_run_that_is_broken_off_sees_what_one_in_one_go_sees(case, seed, cuts):
    lengths, mix = MIXES[case]

    def fresh():
        return loader(sets_of(lengths), seed=seed, mix=mix)

    def go(each, epoch, limit=None):
        found = []
        if epoch is not None:
            each.set_epoch(epoch)
        for batch in each:
            assert each.last_keys == [(s, i) for s, i, _ in taken(batch)]
            found.append(taken(batch))
            if limit is not None and len(found) >= limit:
                break
        return found

    whole = [go(fresh(), epoch) for epoch in (0, 1)]
    found, state, epoch = [], None, 0
    for cut in [*cuts, None]:
        each = fresh()
        if state is not None:
            each.load_state_dict(state)
        found += go(each, None, limit=cut) if cut != 0 else []
        state = each.state_dict()
    if len(found) >= len(whole[0]):
        epoch = 1
        found += go(each, epoch)
    assert found == sum(whole, [])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing_and_what_they_load_ahead_does_not_count(num_workers):
    lengths, mix = [9, 20], Mix(ratios={"a": 2.0, "b": 1.0})
    plain = [taken(batch) for batch in loader(sets_of(lengths), mix=mix)]
    helped = loader(sets_of(lengths), mix=mix, num_workers=num_workers)
    found = []
    for batch in helped:
        found.append(taken(batch))
        if len(found) == 3:
            state = helped.state_dict()
            break
    assert state["batches"] == 3
    helped.load_state_dict(state)
    assert found + [taken(batch) for batch in helped] == plain


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_what_one_rank_would_see(tmp_path, ranks):
    mix = Mix(batch_sizes={"a": 1, "b": 2})
    found = [
        [row for b in loader(sets_of([6, 12]), tmp_path, rank, ranks, mix=mix) for row in taken(b)]
        for rank in range(ranks)
    ]
    alone = [row for batch in loader(sets_of([6, 12]), mix=mix) for row in taken(batch)]
    assert sorted(row for rows in found for row in rows) == sorted(alone)
    origins = [[row[0] for row in rows] for rows in found]
    assert origins == [origins[0]] * ranks


def test_a_batch_of_one_data_set_has_all_its_keys():
    sets = [Numbered("a", 4), Numbered("b", 4, extra=True)]
    together = [batch.keys() for batch in loader(sets, batch_size=8)]
    assert all("extra" not in keys for keys in together)
    apart = {batch["set"][0]: batch.keys() for batch in loader(sets, mix=Mix(temperature=1.0))}
    assert "extra" in apart["b"] and "extra" not in apart["a"]


def test_bad_samples_are_replaced_within_their_data_set_and_told_by_it():
    skips = SkipLog()
    sets = [Numbered("a", 4, bad=(1,)), Numbered("b", 4, bad=(3,))]
    each = loader(sets, mix=Mix(temperature=1.0), skips=skips)
    rows = [row[:2] for batch in each for row in taken(batch)]
    assert sorted(rows) == [("a", 0), ("a", 2), ("a", 2), ("a", 3)] + [
        ("b", i) for i in (0, 0, 1, 2)
    ]
    assert {(s.dataset, s.index) for s in skips.samples} == {("a/train", 1), ("b/train", 3)}
    fresh = SkipLog(limit=2)
    again = loader(sets, mix=Mix(temperature=1.0), skips=fresh)
    again.load_state_dict(each.state_dict())
    assert fresh.samples == skips.samples
    evaluated = loader(sets, is_train=False, skips=(told := SkipLog()))
    list(evaluated)
    assert {(s.dataset, s.index) for s in told.samples} == {("a/train", 1), ("b/train", 3)}


def test_a_state_of_other_data_is_refused(tmp_path):
    state = loader(sets_of([5, 8])).state_dict()
    with pytest.raises(ValueError, match="data: the state is of a loader with .*, not"):
        loader(sets_of([5, 9])).load_state_dict(state)
    with pytest.raises(ValueError, match="num_ranks: the state is of a loader with 1, not 2"):
        loader(sets_of([5, 8]), tmp_path, ranks=2).load_state_dict(state)
    with pytest.raises(ValueError, match="seed"):
        loader(sets_of([5, 8]), seed=3).load_state_dict(state)


def test_names_of_a_mixture_must_be_those_of_the_data_sets():
    for mix, message in (
        (Mix(ratios={"a": 1.0, "c": 1.0}), r"no data set 'c'.*\('a', 'b'\)"),
        (Mix(ratios={"a": 1.0}), "no ratio for 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            loader(sets_of([5, 8]), mix=mix)
    with pytest.raises(ValueError, match="different names"):
        loader([Numbered("a", 3), Numbered("a", 3)], mix=Mix(temperature=2.0))
    with pytest.raises(ValueError, match="data set 'b' holds no sample"):
        loader(sets_of([3, 0]), mix=Mix(temperature=2.0))


def test_orders_differ_by_seed_epoch_and_part():
    parts = parts_of([30, 30], [2, 2])
    orders = [batches_of(parts, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    for one, other in pairwise([*orders, orders[0]]):
        assert [[i for _, i in b] for b in one] != [[i for _, i in b] for b in other]
    first, second = (
        [k[1] - p.offset for b in orders[0] for k in b if _part(parts, k) == p.name] for p in parts
    )
    assert first != second and sorted(first) == sorted(second)


def run(**options):
    plain = {"task": "captioning", "batch_size_train": 2, "batch_size_eval": 2, "num_workers": 0}
    return RunConfig(**plain, evaluate=False, **{"train_splits": ["train"], **TRAINED, **options})


TRAINED = {"max_epoch": 1, "init_lr": 1e-4, "lr_sched": "constant"}
BLOCKS = {"a": {"batch_size": 4}, "b": {}, "only_tested": {"batch_size": 9}}
BUILT = {"a": {"train": 1, "val": 1}, "b": {"train": 1}, "only_tested": {"val": 1}}


def test_a_run_says_how_its_data_sets_are_mixed():
    assert mix_of(run(), BLOCKS, BUILT) == Mix(batch_sizes={"a": 4})
    assert mix_of(run(), {"a": {}, "b": {}}, BUILT).is_plain
    mix = mix_of(run(train_dataset_temperature=2.0), BLOCKS, BUILT)
    assert mix == Mix(temperature=2.0, batch_sizes={"a": 4})
    ratios = {"a": 3.0, "b": 1.0}
    assert mix_of(run(train_dataset_ratios=ratios), BLOCKS, BUILT).ratios == ratios


@pytest.mark.parametrize(
    "options, blocks, message",
    [
        ({"train_dataset_ratios": {"a": 1.0}}, BLOCKS, "there is no ratio for 'b'"),
        ({"train_dataset_ratios": {"a": 1.0, "b": 1.0, "c": 1.0}}, BLOCKS, "no data set 'c'"),
        (
            {"train_dataset_ratios": {"a": 1.0, "b": 1.0}, "train_dataset_temperature": 2.0},
            BLOCKS,
            "by ratios or by temperature",
        ),
        ({}, {"a": {"batch_size": 0}, "b": {}}, r"batch_size of 'a' \(0\)"),
    ],
)
def test_what_a_run_cannot_mix_is_told_before_any_work(options, blocks, message):
    with pytest.raises(ConfigError, match=f"cannot be mixed: .*{message}"):
        mix_of(run(**options), blocks, BUILT)


def test_a_temperature_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"train_dataset_temperature \(0.0\) must be more than 0"):
        run(train_dataset_temperature=0.0)
