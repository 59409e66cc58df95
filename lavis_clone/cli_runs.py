"""Commands that look at jobs: ``lavis-clone runs`` and ``lavis-clone plot``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lavis_clone.cli_errors import told_in_one_line
from lavis_clone.common.files import FileError


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(runs)
    app.command()(plot)


def runs(
    folder: Annotated[Path, typer.Argument(help="Where jobs are: run.output_dir")] = Path("output"),
) -> None:
    """List the jobs in a folder: how they ended, how far they came, their best score."""
    with told_in_one_line():
        from rich.console import Console
        from rich.table import Table

        from lavis_clone.jobs import describe_job, job_folders

        found = [describe_job(path) for path in job_folders(folder)]
        if not found:
            raise FileError(f"{folder} holds no jobs")
        table = Table("job", "status", "started", "epoch", "step", "best", box=None)
        for job in found:
            best = ", ".join(f"{name} {value:.4g}" for name, value in job.best.items())
            numbers = (str(job.epoch), str(job.step))
            table.add_row(job.folder.name, job.status, job.started, *numbers, best or "-")
        Console(file=sys.stdout, highlight=False, soft_wrap=True).print(table)


def plot(
    jobs: Annotated[list[Path], typer.Argument(help="Directories of jobs")],
    out: Annotated[Path, typer.Option("--out", help="The picture to write")] = Path("curves.png"),
    name: Annotated[
        list[str] | None, typer.Option("--name", help="What to draw, e.g. val/agg_metrics")
    ] = None,
) -> None:
    """Draw losses, rates and scores of jobs over their steps, as a PNG file."""
    with told_in_one_line():
        from lavis_clone.plots import plot_jobs

        sys.stdout.write(f"{plot_jobs(jobs, out, name or [])}\n")
