from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from lavis_clone.common.reading import ConfigError, Problems, read
from lavis_clone.common.registry import UnknownName


@dataclass(frozen=True, kw_only=True)
class Optim:
    name: Literal["adamw", "sgd"] = "adamw"
    lr: float
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr}) must not exceed lr ({self.lr})")


@dataclass(frozen=True, kw_only=True)
class Run:
    steps: int
    shuffle: bool = True
    title: str = ""
    clip: float | None = None
    splits: list[str] = field(default_factory=list)
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (0, "")
    ratios: dict[str, float] = field(default_factory=dict)
    workers: int | Literal["all"] = 0
    place: Path = Path()
    extra: Any = None
    optim: Optim | None = None


def problems_of(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(Run, raw, where="run")
    return str(caught.value).splitlines()


def test_every_kind_of_field_is_read() -> None:
    run = read(
        Run,
        {
            "steps": "2e4",
            "clip": 1,
            "splits": ["val"],
            "sizes": [1, 2.0],
            "pair": [3, "x"],
            "ratios": {"a": "1e-1"},
            "workers": "all",
            "place": "a/b",
            "extra": {"free": [1]},
            "optim": {"lr": "1e-5"},
        },
    )
    assert run == Run(
        steps=20000,
        clip=1.0,
        splits=["val"],
        sizes=(1, 2),
        pair=(3, "x"),
        ratios={"a": 0.1},
        workers="all",
        place=Path("a/b"),
        extra={"free": [1]},
        optim=Optim(lr=1e-5),
    )
    assert type(run.steps) is int and type(run.clip) is float


def test_all_problems_are_told_at_once_with_their_places() -> None:
    assert problems_of(
        {
            "step": 1,
            "shuffle": "yes",
            "title": 5,
            "splits": "val",
            "ratios": {"a": "much"},
            "workers": "some",
            "optim": {"name": "adam", "lr": True},
        }
    ) == [
        "run.step: unknown key; did you mean 'steps'?",
        "run.shuffle: must be true or false, got 'yes'",
        "run.title: must be text, got 5",
        "run.splits: must be a list, got 'val'",
        "run.ratios.a: must be a number, got 'much'",
        "run.workers: must be a whole number or one of 'all', got 'some'",
        "run.optim.name: must be one of 'adamw', 'sgd', got 'adam'; did you mean 'adamw'?",
        "run.optim.lr: must be a number, got True",
        "run.steps: required, but not given",
    ]


@pytest.mark.parametrize("value", [1.5, "1.5", "many", True, None, [1], float("nan"), "inf"])
def test_what_is_no_whole_number(value: Any) -> None:
    (problem,) = problems_of({"steps": value})
    assert problem.startswith("run.steps: must be a whole number")


def test_a_list_of_fixed_length() -> None:
    assert problems_of({"steps": 1, "pair": [1]}) == [
        "run.pair: must have 2 items, got 1: [1]",
    ]
    assert problems_of({"steps": 1, "sizes": [1, "x"]}) == [
        "run.sizes[1]: must be a whole number, got 'x'",
    ]


def test_a_rule_between_fields_names_the_block() -> None:
    assert problems_of({"steps": 1, "optim": {"lr": 1, "min_lr": 2}}) == [
        "run.optim: min_lr (2.0) must not exceed lr (1.0)"
    ]


def test_a_block_that_is_no_mapping() -> None:
    assert problems_of({"steps": 1, "optim": 3}) == ["run.optim: must be a mapping, got 3"]


def test_a_mandatory_value_counts_as_missing_even_where_there_is_a_default() -> None:
    assert problems_of({"steps": "???", "title": "???"}) == [
        "run.steps: required, but not given",
        "run.title: required, but not given",
    ]


def test_omegaconf_is_resolved() -> None:
    raw = OmegaConf.create({"steps": 3, "sizes": ["${steps}"]})
    assert read(Run, raw).sizes == (3,)
    with pytest.raises(ConfigError, match="^steps: .*nowhere.* not found"):
        read(Run, OmegaConf.create({"steps": "${nowhere}"}))


def test_a_block_read_inside_post_init_keeps_its_place() -> None:
    @dataclass
    class Outer:
        inner: Any

        def __post_init__(self) -> None:
            read(Optim, self.inner, where="inner")

    with pytest.raises(ConfigError, match=r"^model\.inner\.lr: required"):
        read(Outer, {"inner": {}}, where="model")


def test_none_reads_as_an_empty_mapping() -> None:
    @dataclass
    class Empty:
        size: int = 3

    assert read(Empty, None) == Empty()


def test_problems_collects_user_errors_and_lets_bugs_through() -> None:
    problems = Problems()
    with problems.collect("model"):
        raise UnknownName("unknown model 'x'")
    with problems.collect("model"):
        raise ModuleNotFoundError("No module named 'decord.video'", name="decord.video")
    with problems.collect("model"):
        raise UnknownName("unknown model 'x'")
    with pytest.raises(TypeError), problems.collect("model"):
        raise TypeError("a bug")
    assert problems == [
        "model: unknown model 'x'",
        "model: needs the Python package 'decord', not installed here",
    ]
