"""The command line: ``lavis-clone caption dog.jpg`` and the rest, one thin command each."""

from __future__ import annotations

import argparse
import dis
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lavis_clone.common.files import package_root
from lavis_clone.common.registry import registry

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Vision-language models: describe pictures, train, evaluate.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at run configs without running them.")
app.add_typer(config_app, name="config")

TOLD = (LookupError, OSError, TypeError, ValueError, RuntimeError, ImportError)
"""What the library raises for a wrong name, file, value, capability or checkpoint."""
RAISE = dis.opmap["RAISE_VARARGS"]

Overrides = Annotated[list[str] | None, typer.Argument(help="Changes, e.g. run.max_epoch=1")]
ConfigPath = Annotated[str, typer.Argument(help="A run's YAML file")]


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn errors that the library raises on purpose into ``error: ...`` and exit status 2.

    Any other error is a bug, here or elsewhere, and keeps its traceback.
    """
    try:
        yield
    except TOLD as error:
        message = purpose_of(error)
        if message is None:
            raise
        for line in message.splitlines() or [type(error).__name__]:
            sys.stderr.write(f"error: {line}\n")
        sys.exit(2)


def purpose_of(error: BaseException) -> str | None:
    """The message of an error that a ``raise`` statement of this package raised, else None.

    That rules out what is raised by other packages, and by a call or an operator of ours that was
    given nonsense. An error in a process that loads data arrives as text, and is told by that.
    """
    trace = error.__traceback__
    if trace is None or isinstance(error, NotImplementedError):
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if _is_ours(code.co_filename) and code.co_code[trace.tb_lasti] == RAISE:
        return str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    text = str(error.args[0]) if error.args else ""
    return _purpose_in(text) if text.startswith("Caught ") and code.co_name == "reraise" else None


def _purpose_in(text: str) -> str | None:
    """The message at the end of a traceback's text, when a ``raise`` of ours ended it."""
    place, *rest = text.rpartition('\n  File "')[2].splitlines()
    statement = rest[0].strip() if rest else ""
    if not (_is_ours(place.partition('"')[0]) and statement.startswith("raise ")):
        return None
    told = "\n".join(itertools.dropwhile(lambda line: line.startswith(" "), rest))
    return told.partition(": ")[2]


def _is_ours(file_name: str) -> bool:
    return Path(file_name).is_relative_to(package_root())


@contextmanager
def ends_quietly() -> Iterator[None]:
    """Stop without a traceback at Ctrl-C, or when nobody reads the output any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


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
    with ends_quietly(), told_in_one_line():
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
def datasets() -> None:
    """List the data sets."""
    from lavis_clone.datasets.builders import dataset_zoo

    sys.stdout.write(f"{dataset_zoo}\n")


@app.command()
def processors() -> None:
    """List the processors."""
    sys.stdout.write("\n".join(registry.list_processors()) + "\n")


@app.command()
def caption(
    sources: Annotated[list[str], typer.Argument(help="Pictures: files, folders or URLs")],
    model: Annotated[str, typer.Option(help="A captioning model")] = "blip_caption",
    type: Annotated[str, typer.Option(help="Its type, or a saved folder")] = "base_coco",
    num_captions: Annotated[int, typer.Option("--num", min=1, help="Captions per picture")] = 1,
    num_beams: Annotated[int, typer.Option(min=1)] = 3,
    max_length: Annotated[int, typer.Option(help="Tokens at most")] = 30,
    min_length: Annotated[int, typer.Option(help="Tokens at least")] = 5,
    sample: Annotated[bool, typer.Option("--sample", help="Draw instead of searching")] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps")] = "auto",
    output: Annotated[Path | None, typer.Option("-o", help="Also write JSON lines here")] = None,
) -> None:
    """Describe pictures, with a confidence for each caption.

    The exit status is 1 when a picture could not be read, and 2 when there was nothing to describe.
    """
    options = {"max_length": max_length, "min_length": min_length, "num_captions": num_captions}
    options |= {"num_beams": max(num_beams, num_captions), "distinct": True}
    options |= {"use_nucleus_sampling": sample}
    with told_in_one_line():
        from lavis_clone.describe import Request, describe

        request = Request(
            sources,
            model=model,
            model_type=type,
            device=device,
            options=options,
            batch_size=batch_size,
            output=output,
        )
        count = describe(request)
    sys.exit(0 if not count.failed else 1 if count.described else 2)


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
    for split, values in scores.items():
        for name, value in values.items():
            sys.stdout.write(f"{split:12} {name:32} {value:.4f}\n")


def main() -> Any:
    """The console script."""
    with ends_quietly():
        return app()


if __name__ == "__main__":
    main()
