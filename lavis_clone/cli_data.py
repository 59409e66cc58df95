"""The command that gets data sets: ``download``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lavis_clone.cli_errors import told_in_one_line


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.command()(download)


def download(
    names: Annotated[
        list[str], typer.Argument(help="Data sets, or YAML files of runs for all that they name")
    ],
    type: Annotated[str | None, typer.Option("--type", help="Which type of the data set")] = None,
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; may be given again")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", "--media", help="Pictures or videos, too")
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="The folder to put it in, in place of the cache")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=64, help="How many at a time")] = 4,
    keep: Annotated[bool, typer.Option("--keep", help="Keep archives that are unpacked")] = False,
) -> None:
    """Download the annotations of data sets, and with --images their pictures or videos.

    What is there already is checked, not downloaded again; what broke off goes on. The exit status
    is 1 when something is left to be fetched by hand: what to place where is printed.
    """
    from lavis_clone.datasets.download import Ways, download_dataset
    from lavis_clone.datasets.download_plan import Wish, make_plan

    with told_in_one_line():
        wish = Wish(
            splits=tuple(splits or ()), media=images, to=to.expanduser().absolute() if to else None
        )
        ways = Ways(connections=connections, keep=keep)
        blocks = {k: v for name in names for k, v in _blocks(name, type).items()}
        plans = [make_plan(name, block, wish) for name, block in blocks.items()]
        results = [
            download_dataset(plan, ways, lambda line: sys.stdout.write(f"{line}\n"))
            for plan in plans
        ]
        sys.exit(0 if all(results) else 1)


def _blocks(name: str, type: str | None) -> dict[str, Mapping[str, Any]]:
    """The blocks of a data set, or of all that a YAML file names, by name."""
    from lavis_clone.common.config import load_data_blocks
    from lavis_clone.common.reading import ConfigError, plain
    from lavis_clone.common.registry import registry
    from lavis_clone.datasets.builders import load_dataset_config

    if name.endswith((".yaml", ".yml")):
        if type is not None:
            raise ConfigError(f"--type: {name} says itself which types it takes")
        return dict(load_data_blocks(name)["datasets"])
    builder_class = registry.get_builder_class(name)
    if not builder_class.DATASET_CONFIG_DICT:
        raise ConfigError(f"data set {name!r} has no config file; name the YAML file of a run")
    path = builder_class.default_config_path(type or "default")
    return {name: plain(load_dataset_config(path, name=name))}
