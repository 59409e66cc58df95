"""The command line: ``lavis-clone caption dog.jpg`` and the rest, one thin command each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lavis_clone import cli_check, cli_data, cli_runs
from lavis_clone.cli_errors import ends_quietly, purpose_of, told_in_one_line
from lavis_clone.cli_inference import add_commands
from lavis_clone.cli_search import add_commands as add_search_commands
from lavis_clone.common.registry import registry
from lavis_clone.common.watch import ends_together

__all__ = [
    "app",
    "ends_quietly",
    "evaluate_file",
    "main",
    "purpose_of",
    "script",
    "told_in_one_line",
    "train_file",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Vision-language models: ask about, match and sort pictures; train and evaluate.",
)
add_commands(app)
add_search_commands(app)
cli_check.add_commands(app)
cli_data.add_commands(app)
cli_runs.add_commands(app)
config_app = typer.Typer(no_args_is_help=True, help="Look at run configs without running them.")
app.add_typer(config_app, name="config")

Overrides = Annotated[list[str] | None, typer.Argument(help="Changes, e.g. run.max_epoch=1")]
ConfigPath = Annotated[str, typer.Argument(help="A run's YAML file")]


def train_file(path: str, options: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Run what a YAML file says: train and test, or with ``run.evaluate`` only evaluate."""
    from lavis_clone.common.config import load_config
    from lavis_clone.job import build_runner

    config = load_config(path, options)
    runner = build_runner(config)
    if config.run.evaluate:
        return runner.evaluate([*config.run.valid_splits, *config.run.test_splits])
    return runner.train()


def evaluate_file(path: str, options: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Evaluate the test splits of a YAML file, whatever else it says.

    Raises:
        ConfigError: it names none.
    """
    from lavis_clone.common.config import ConfigError, load_config
    from lavis_clone.job import build_runner

    config = load_config(path, [*options, "run.evaluate=True", "run.valid_splits=[]"])
    if not config.run.test_splits:
        raise ConfigError("run.test_splits: names no split to evaluate")
    return build_runner(config).evaluate(config.run.test_splits)


def script(work: Callable[[str, Sequence[str]], dict[str, dict[str, float]]], about: str) -> None:
    """The command line of ``train.py`` and ``evaluate.py``, as LAVIS has it."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--cfg-path", required=True, help="a run's YAML file")
    parser.add_argument("--options", nargs="+", default=[], help="changes: run.max_epoch=1 ...")
    arguments = parser.parse_args()
    with ends_together(), ends_quietly(), told_in_one_line():
        _show_scores(work(arguments.cfg_path, arguments.options))


@app.command()
def train(path: ConfigPath, options: Overrides = None) -> None:
    """Train a model by a YAML file, and test its best weights."""
    with told_in_one_line():
        _show_scores(train_file(path, options or []))


@app.command()
def evaluate(path: ConfigPath, options: Overrides = None) -> None:
    """Evaluate a model on the test splits of a YAML file."""
    with told_in_one_line():
        _show_scores(evaluate_file(path, options or []))


@config_app.command("check")
def config_check(
    paths: Annotated[list[str], typer.Argument(help="YAML files of runs")],
    options: Annotated[
        list[str] | None, typer.Option("--set", help="A change, e.g. run.max_epoch=1")
    ] = None,
) -> None:
    """Print the merged config of each file, or every problem that it has."""
    import yaml

    from lavis_clone.common.config import ConfigError, load_config

    failed = False
    for path in paths:
        try:
            config = load_config(path, options or [])
            registry.get_runner_class(config.run.runner).check(config.run)
        except ConfigError as error:
            failed = True
            for line in str(error).splitlines():
                sys.stderr.write(f"{path}: {line}\n")
            continue
        text = yaml.safe_dump(config.merged, sort_keys=False, allow_unicode=True)
        sys.stdout.write(f"# {path}\n{text}")
    sys.exit(2 if failed else 0)


@app.command()
def models() -> None:
    """List the models and their types."""
    from lavis_clone.models import model_zoo

    sys.stdout.write(f"{model_zoo}\n")


@app.command()
def datasets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines")] = False,
) -> None:
    """List the data sets: kind, splits, sizes, licence and where the media come from."""
    from lavis_clone.datasets.builders import dataset_zoo

    if not as_json:
        sys.stdout.write(f"{dataset_zoo}\n")
        return
    for listing in dataset_zoo.listings():
        sys.stdout.write(json.dumps(dataclasses.asdict(listing), ensure_ascii=False) + "\n")


@app.command()
def processors() -> None:
    """List the processors."""
    sys.stdout.write("\n".join(registry.list_processors()) + "\n")


@app.command()
def export(
    job: Annotated[str, typer.Argument(help="A job's directory, or one of its checkpoints")],
    folder: Annotated[Path, typer.Argument(help="Where to write the model")],
    half: Annotated[bool, typer.Option("--half", help="Store fp16: half the size")] = False,
) -> None:
    """Turn a trained model into a folder for caption --type and load_model_and_preprocess."""
    with told_in_one_line():
        from lavis_clone.job import export_checkpoint

        sys.stdout.write(f"{export_checkpoint(job, folder, half=half)}\n")


def _show_scores(scores: dict[str, dict[str, float]]) -> None:
    from lavis_clone.common import dist

    if dist.rank():  # the first process says them
        return
    for split, values in scores.items():
        for name, value in values.items():
            sys.stdout.write(f"{split:12} {name:32} {value:.4f}\n")


def main() -> Any:
    """The console script."""
    with ends_together(), ends_quietly():
        return app()


if __name__ == "__main__":
    main()
