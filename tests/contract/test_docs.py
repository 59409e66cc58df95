"""What the documentation says holds: its snippets run, its commands and links exist.

Each page is run from top to bottom in a process and a directory of its own, as a reader would: its
Python, its ``lavis-clone`` commands, its YAML files. A fence marked ``no-run`` is read, not run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from PIL import Image

from lavis_clone.cli import app, main
from lavis_clone.common.config import load_config
from lavis_clone.models import model_zoo

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = [DOCS / "reference" / "config.md", DOCS / "reference" / "api.md"]

FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
ASSIGNMENT = re.compile(r"(?P<name>\w+)=(?P<value>\S*)\s+")
RUN_BLOCKS = {"model", "datasets", "run"}
DRAWINGS = {"dog.png": "1f415", "pictures/apple.png": "1f34e", "pictures/rocket.png": "1f680"}
"""What a reader is assumed to have: a picture and a folder of pictures."""
SECONDS = 600


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    """The file that a reader puts it in."""
    is_run: bool
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in some languages, or all of them."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["info"])
        block = Block(
            language=match["language"],
            title=title[1] if title else None,
            is_run="no-run" not in match["info"].split(),
            text=match["text"],
            line=text.count("\n", 0, match.start("text")) + 1,
        )
        if not languages or block.language in languages:
            found.append(block)
    return found


def commands_of(block: Block) -> Iterator[str]:
    """The lines of a shell block, those that end in a backslash put together."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


# --- what runs in a process of its own --------------------------------------------------------


def run_page(page: Path) -> None:
    """Do in the working directory what a page tells its reader to do."""
    sys.path.insert(0, os.getcwd())
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        where = f"{name_of(page)}:{block.line}"
        if block.title is not None:
            Path(block.title).write_text(block.text, encoding="utf-8")
        if block.language == "yaml" and yaml.safe_load(block.text).keys() >= RUN_BLOCKS:
            path = Path(block.title or f"line_{block.line}.yaml")
            path.write_text(block.text, encoding="utf-8")
            load_config(path)
        elif block.language == "python" and block.is_run and block.title is None:
            padding = "\n" * (block.line - 1)  # so that a traceback has the page's line numbers
            exec(compile(padding + block.text, where, "exec"), names)
        elif block.language == "bash" and block.is_run:
            for command in commands_of(block):
                run_command(command, where)


def run_command(command: str, where: str) -> None:
    """Run a ``lavis-clone`` command in this process, its words expanded by a shell."""
    while assignment := ASSIGNMENT.match(command):
        os.environ[assignment["name"]] = assignment["value"]
        command = command[assignment.end() :]
    if not command.startswith("lavis-clone "):
        return
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], check=True, capture_output=True, text=True
    ).stdout.split("\0")[:-1]
    sys.argv = words
    sys.stdout.write(f"{where}: {command}\n")
    try:
        main()
        status: Any = 0
    except SystemExit as error:
        status = error.code
    if status:
        raise RuntimeError(f"{where}: {command}: exit status {status}")


def has_work(page: Path) -> bool:
    return any(block.is_run for block in blocks_of(page, "python", "bash")) or bool(
        blocks_of(page, "yaml")
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if has_work(page)], ids=name_of)
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    for name, concept in DRAWINGS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        drawing = ROOT / f"lavis_clone/assets/emoji/images/twemoji/{concept}.webp"
        Image.open(drawing).save(tmp_path / name)
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LAVIS_CLONE_OFFLINE": "1"}
    cache = {"LAVIS_CLONE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, __file__, str(page)],
        cwd=tmp_path,
        env={**os.environ, **settings, **cache, "PWD": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_there_are_pages_to_run() -> None:
    assert len([page for page in PAGES if has_work(page)]) >= 6
    runs = [block for page in PAGES for block in blocks_of(page, "python") if block.is_run]
    assert len(runs) >= 12


def test_few_snippets_are_not_run() -> None:
    left_out = [
        f"{name_of(page)}:{block.line}"
        for page in PAGES
        for block in blocks_of(page, "python")
        if not block.is_run
    ]
    assert len(left_out) <= 2, left_out


# --- what is read ----------------------------------------------------------------------------


def told_commands() -> list[tuple[Path, str]]:
    return [(p, c) for p in PAGES for block in blocks_of(p, "bash") for c in commands_of(block)]


@pytest.mark.parametrize(
    ("page", "command"), told_commands(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_command_exists(page: Path, command: str) -> None:
    while assignment := ASSIGNMENT.match(command):
        command = command[assignment.end() :]
    program, *words = shlex.split(command, comments=True)
    check = {
        "lavis-clone": check_own_command,
        "make": check_make,
        "python": check_script,
    }[program]
    check(words, {block.title for block in blocks_of(page)})


def check_own_command(words: list[str], files: set[str | None]) -> None:
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"lavis-clone has no command {name!r}"
        command = command.commands[name]
    context = command.make_context(command.name, words)  # raises for an unknown option
    given = context.params.get("path") or context.params.get("paths") or []
    for path in [given] if isinstance(given, str | Path) else given:
        assert str(path) in files or (ROOT / path).is_file(), f"no such file: {path}"


def check_make(words: list[str], _files: set[str | None]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert words
    assert set(words) <= set(targets)


def check_script(words: list[str], files: set[str | None]) -> None:
    script, *rest = words
    if script == "-m":
        assert importlib.util.find_spec(rest[0]) is not None
        return
    assert (ROOT / script).is_file()
    source = (ROOT / script).read_text()
    if "script(" in source:  # train.py and evaluate.py
        assert rest[0] == "--cfg-path"
        assert rest[1] in files or (ROOT / rest[1]).is_file()
        assert rest[2:3] in ([], ["--options"])
    else:
        for option in (word for word in rest if word.startswith("--")):
            assert f'"{option}"' in source, f"{script} has no option {option}"


def told_links() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        found += [(page, match["target"]) for match in LINK.finditer(text)]
    return found


@pytest.mark.parametrize(
    ("page", "target"),
    [(page, target) for page, target in told_links() if "://" not in target],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    place = (page.parent / target.partition("#")[0]).resolve()
    assert place.exists()
    if page.is_relative_to(DOCS):
        assert place.is_relative_to(DOCS), "the site holds docs/ alone"


def test_links_are_found() -> None:
    assert len(told_links()) >= 20


def test_the_site_lists_all_pages() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert site["theme"]["name"] == "material"
    listed = sorted(_leaves(site["nav"]))
    assert listed == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def _leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(branch)


def test_every_model_has_a_section_on_a_page() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "models").glob("*.md")]
    headings = [line for text in pages for line in re.findall(r"^## .*`.*$", text, re.M)]
    named = [name for line in headings for name in re.findall(r"`(\w+)`", line)]
    assert sorted(named) == sorted(model_zoo.model_zoo)


def test_every_type_is_named_on_its_model_s_page() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "models").glob("*.md"))
    types = {model_type for found in model_zoo.model_zoo.values() for model_type in found}
    assert [name for name in sorted(types) if f"`{name}`" not in text] == []


def test_no_placeholder_is_left() -> None:
    for page in PAGES:
        assert "{{" not in page.read_text(encoding="utf-8"), name_of(page)


# --- the reference ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generator", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", GENERATED, ids=name_of)
def test_the_reference_is_up_to_date(generator: ModuleType, page: Path) -> None:
    assert page.read_text(encoding="utf-8") == generator.PAGES[page.name](), (
        "run python docs/generate_reference.py"
    )


def test_the_reference_names_every_key_of_a_run(generator: ModuleType) -> None:
    text = generator.config_page()
    for key in ("init_lr", "max_epoch", "num_beams", "vit_type", "build_info", "randaugment_ops"):
        assert f"| `{key}` |" in text
    assert "task_options" not in text


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("int", "whole number"),
        ("list[str] | None", "list of text or `null`"),
        ("Literal['rank', 'generate']", "`rank` or `generate`"),
        ("dict[str, float]", "mapping"),
    ],
)
def test_types_are_told_in_words(generator: ModuleType, annotation: str, words: str) -> None:
    assert generator.kind_in_words(annotation) == words


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
