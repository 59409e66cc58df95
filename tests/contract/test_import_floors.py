"""The floors of the library: who may import whom (DESIGN.md, section 2)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = "lavis_clone"
ROOT = Path(__file__).parents[2] / PACKAGE

MAY_IMPORT = {
    "common": [],
    "processors": ["common"],
    "models": ["common"],
    "datasets": ["common", "processors"],
    "tasks": ["common", "models.outputs", "models.capabilities", "models.generation"],
    "runners": ["common", "tasks.base", "models.outputs"],
}
TOP_FOLDERS = {"app", "migration"}
"""Like the files beside it, such as ``cli.py``, it wires the floors together."""
FAMILIES = ["albef", "alpro", "blip", "clip", "dialogue"]
"""Folders of ``models`` that share its parts and never each other."""

FILES = sorted(ROOT.rglob("*.py"))


def imported(source: str, where: object = "source") -> set[str]:
    """Names such as ``models.outputs`` that a file imports from the package, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: use absolute imports"
            assert "*" not in [a.name for a in node.names], f"{where}: no wildcard imports"
            inside = [f"{PACKAGE}.{a.name}" for a in node.names]
            names = inside if node.module == PACKAGE else [node.module or ""]
        found |= {n.removeprefix(f"{PACKAGE}.") for n in names if n.startswith(f"{PACKAGE}.")}
        if PACKAGE in names:
            found.add("__init__")
    return found


def trespasses(floor: str, names: set[str]) -> set[str]:
    """The imports that a file of ``floor`` may not have."""
    allowed = [floor, *MAY_IMPORT[floor]]
    return {n for n in names if not any(n == a or n.startswith(f"{a}.") for a in allowed)}


def test_the_walk_finds_the_library() -> None:
    floors = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert floors >= MAY_IMPORT.keys()
    assert len(FILES) > 40


def test_every_folder_stands_on_a_floor() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT}
    assert folders <= MAY_IMPORT.keys() | TOP_FOLDERS, "add it to the table, and to DESIGN.md"


def test_every_family_is_known() -> None:
    parts = {"encoders", "generation", "heads", "layers"}
    folders = {p.parent.relative_to(ROOT / "models").parts[0] for p in families_and_parts()}
    assert folders <= parts | set(FAMILIES), "a new folder of models is a family or a part"
    assert "blip" in folders


def families_and_parts() -> list[Path]:
    return [
        path
        for path in FILES
        if path.is_relative_to(ROOT / "models") and path.parts[-2] != "models"
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_imports_only_from_lower_floors(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    names = imported(path.read_text(encoding="utf-8"), path)
    if floor in MAY_IMPORT:
        assert not trespasses(floor, names), f"{floor} may not import this"


@pytest.mark.parametrize("family", FAMILIES)
def test_families_share_parts_and_not_each_other(family: str) -> None:
    others = {f"models.{other}" for other in FAMILIES if other != family}
    for path in (ROOT / "models" / family).rglob("*.py"):
        names = {
            ".".join(n.split(".")[:2]) for n in imported(path.read_text(encoding="utf-8"), path)
        }
        assert not names & others, path


def test_shared_parts_know_no_family() -> None:
    families = {f"models.{family}" for family in FAMILIES}
    for path in families_and_parts():
        if path.relative_to(ROOT / "models").parts[0] not in FAMILIES:
            names = imported(path.read_text(encoding="utf-8"), path)
            assert not {".".join(n.split(".")[:2]) for n in names} & families, path


@pytest.mark.parametrize(
    ("floor", "source", "found"),
    [
        ("common", "from lavis_clone.models.outputs import Output", {"models.outputs"}),
        ("common", "def f():\n    import lavis_clone.tasks.base", {"tasks.base"}),
        ("common", "from lavis_clone import processors", {"processors"}),
        ("common", "import lavis_clone", {"__init__"}),
        ("models", "from lavis_clone.processors import load_processor", {"processors"}),
        ("processors", "import lavis_clone.models as m", {"models"}),
        ("datasets", "from lavis_clone.models import outputs", {"models"}),
        (
            "tasks",
            "from lavis_clone.models.blip.caption import BlipCaption",
            {"models.blip.caption"},
        ),
        ("tasks", "from lavis_clone.models.outputs_of_mine import x", {"models.outputs_of_mine"}),
        ("runners", "from lavis_clone.tasks.captioning import x", {"tasks.captioning"}),
        ("tasks", "from lavis_clone.models.generation.options import x", set()),
        ("runners", "import torch\nfrom lavis_clone.tasks.base import x", set()),
        ("models", "from lavis_clone.models.base import x\nimport lavis_clone.common.files", set()),
    ],
)
def test_the_check_sees_what_it_should(floor: str, source: str, found: set[str]) -> None:
    assert trespasses(floor, imported(source)) == found


@pytest.mark.parametrize(
    "source", ["from . import x", "from ..models import x", "from os import *"]
)
def test_relative_and_wildcard_imports_are_refused(source: str) -> None:
    with pytest.raises(AssertionError):
        imported(source)
