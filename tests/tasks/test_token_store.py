"""Where image tokens wait."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from lavis_clone.tasks import token_store
from lavis_clone.tasks.token_store import (
    InMemory,
    OnDisk,
    Recomputed,
    choose_place,
    free_disk,
    free_memory,
    open_store,
)


def batches():
    tokens = torch.arange(30.0).view(5, 2, 3)
    yield [4, 0], tokens[:2]
    yield [2], tokens[2:3]
    yield [1, 3], tokens[3:].transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("where", ["ram", "disk", "recompute"])
def test_what_goes_in_comes_out_as_often_as_it_is_asked_for(where):
    with open_store(where, num_bytes=1, encode=batches) as store:
        for indices, tokens in batches():
            store.add(indices, tokens)
        for _ in range(2):
            found = [(index, tokens.tolist()) for index, tokens in store]
            assert [index for index, _ in found] == [4, 0, 2, 1, 3]
            assert [t for _, t in found] == torch.arange(30.0).view(5, 2, 3).tolist()


@pytest.mark.parametrize("store", [InMemory, OnDisk, lambda: Recomputed(lambda: [])])
def test_nothing_in_nothing_out(store):
    with store() as opened:
        assert list(opened) == []


def test_other_images_the_second_time_are_told():
    store = Recomputed(lambda: [([0], torch.zeros(1, 2, 3))])
    store.add([0, 1], torch.zeros(2, 2, 3))
    with pytest.raises(RuntimeError, match="2 images at first, but 1 the second time"):
        list(store)


def test_a_file_is_removed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with OnDisk() as store:
        store.add([0], torch.zeros(1, 2, 3))
        store.add([1], torch.ones(1, 2, 3))
        (_, first), (_, second) = store
        (file,) = tmp_path.rglob("tokens")
        assert file.stat().st_size == 2 * 2 * 3 * 4
    assert not list(tmp_path.iterdir())
    assert first.sum() == 0 and second.sum() == 6  # what was handed out stays


@pytest.mark.parametrize(
    ("num_bytes", "memory", "disk", "expected"),
    [
        (50, 100, 0, "ram"),
        (51, 100, 100, "disk"),
        (90, 100, 100, "disk"),
        (91, 100, 100, "recompute"),
        (10, None, 100, "disk"),
        (10, None, 0, "recompute"),
        (0, 0, 0, "ram"),
    ],
)
def test_the_first_place_with_room(num_bytes, memory, disk, expected):
    assert choose_place(num_bytes, memory=memory, disk=disk) == expected


def test_auto_looks_at_what_is_free(monkeypatch):
    monkeypatch.setattr(token_store, "free_memory", lambda: 100)
    monkeypatch.setattr(token_store, "free_disk", lambda: 1000)
    kinds = [(10, InMemory), (500, OnDisk), (5000, Recomputed)]
    for num_bytes, kind in kinds:
        with open_store("auto", num_bytes=num_bytes, encode=batches) as store:
            assert type(store) is kind


def files(root: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_0_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc__meminfo": "MemTotal: 99 kB\nMemAvailable:       3 kB\nSwapFree: 1 kB\n"}


def test_free_memory_of_this_machine_is_plausible():
    assert free_memory() > 10e6 and free_disk() > 0


def test_free_memory_is_what_the_machine_and_the_container_leave(tmp_path):
    group = {"sys__fs__cgroup__memory_0_max": "5000", "sys__fs__cgroup__memory_0_current": "4000"}
    assert free_memory(files(tmp_path / "a", **MEMINFO)) == 3 * 1024
    assert free_memory(files(tmp_path / "b", **MEMINFO, **group)) == 1000
    assert free_memory(files(tmp_path / "c", **group)) == 1000
    group["sys__fs__cgroup__memory_0_max"] = "max"
    assert free_memory(files(tmp_path / "d", **MEMINFO, **group)) == 3 * 1024
    group["sys__fs__cgroup__memory_0_max"] = "3000"
    assert free_memory(files(tmp_path / "e", **MEMINFO, **group)) == 0


def test_free_memory_in_an_older_container(tmp_path):
    folder = "sys__fs__cgroup__memory__memory_0_"
    group = {f"{folder}limit_in_bytes": "700", f"{folder}usage_in_bytes": "100"}
    assert free_memory(files(tmp_path, **MEMINFO, **group)) == 600


def test_elsewhere_memory_is_that_of_the_machine(tmp_path, monkeypatch):
    assert free_memory(tmp_path) > 10e6

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", unknown)
    assert free_memory(tmp_path) is None
