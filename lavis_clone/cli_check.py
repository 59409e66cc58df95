"""The command ``lavis-clone data check``, which reads all data of a YAML file once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lavis_clone.cli_errors import told_in_one_line

FOLDER = "data_check"
"""Where reports lie, below the working directory, in a folder named after the file."""

data_app = typer.Typer(no_args_is_help=True, help="Look at data before a model does.")


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.add_typer(data_app, name="data")


@data_app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A run's YAML file, or one of data sets alone")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes, e.g. datasets.own.images=pictures")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("-o", help="Folder for report.json and report.md")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; as many as there are cores by default")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a text; else what the model reads")
    ] = None,
    media: Annotated[bool, typer.Option(help="Decode pictures and videos")] = True,
    allow: Annotated[
        list[str] | None, typer.Option(help="A problem that is no error, e.g. shared_picture")
    ] = None,
) -> None:
    """Find missing and broken files, empty and long texts, and pictures in training and test.

    The exit status is 1 when there are errors, 2 when the file cannot be used, and 130 when
    Ctrl-C ended it; the report then holds what was found until then.
    """
    with told_in_one_line():
        from lavis_clone.data_check import check_file
        from lavis_clone.datasets.check import ERROR, CheckOptions
        from lavis_clone.datasets.check_report import summary, write_report

        options = CheckOptions(
            max_tokens=max_tokens,
            decode=media,
            num_workers=_cores() if workers is None else workers,
            allowed=frozenset(allow or ()),
        )
        found = check_file(path, overrides or (), options)
        written = write_report(found, report or Path(FOLDER, path.stem), title=str(path))
        sys.stdout.write(f"{summary(found)}\n{' '.join(map(str, written))}\n")
    sys.exit(130 if not found.is_complete else 1 if found.count(ERROR) else 0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
