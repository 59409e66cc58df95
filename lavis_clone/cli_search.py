"""The commands that find pictures: ``index`` and ``search``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lavis_clone.cli_errors import told_in_one_line
from lavis_clone.cli_inference import AsJson, BatchSize, Device, ModelType, Sources

DEFAULT_INDEX = Path("picture_index")


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    for command in (index, search):
        app.command()(command)


def index(
    sources: Sources,
    output: Annotated[Path, typer.Option("-o", help="The folder of the index")] = DEFAULT_INDEX,
    model: Annotated[
        str, typer.Option(help="A model with a common space of pictures and texts")
    ] = "blip_feature_extractor",
    type: ModelType = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
) -> None:
    """Make an index of pictures to search in, or bring one up to date.

    New and changed pictures are added, vanished ones removed; a run that was stopped goes on when
    the same command is given again. The exit status is 1 when a picture could not be read.
    """
    with told_in_one_line():
        from lavis_clone.inference import Choice
        from lavis_clone.search import build

        change = build(sources, output, Choice(model, type, device), batch_size=batch_size)
        sys.exit(1 if change.failed else 0)


def search(
    texts: Annotated[list[str] | None, typer.Argument(help="What to look for")] = None,
    pictures: Annotated[
        list[str] | None, typer.Option("--picture", help="Look for what is like this one, too")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="What should not be in the pictures")
    ] = None,
    folder: Annotated[Path, typer.Option("--index", help="The folder of the index")] = (
        DEFAULT_INDEX
    ),
    top: Annotated[int, typer.Option(min=1, help="Pictures to print, the best first")] = 10,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find pictures in an index by words, by pictures, or by both."""
    with told_in_one_line():
        from lavis_clone.search import SearchRequest
        from lavis_clone.search import search as find

        request = SearchRequest(
            folder, texts or [], pictures or [], without or [], top, device, as_json
        )
        find(request)
