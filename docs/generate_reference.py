"""Writes the pages under ``docs/reference`` from the code: keys of YAML files, public names.

python docs/generate_reference.py            writes config.md and api.md
python docs/generate_reference.py --check    says which of them is out of date
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from lavis_clone.cli import app
from lavis_clone.common.blocks import (
    AnnotationBlock,
    DatasetBlock,
    EnvBlock,
    MediaBlock,
    SourceBlock,
)
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.common.task_options import TASK_OPTIONS
from lavis_clone.common.training_options import EarlyStop, Lora
from lavis_clone.models.encoders.bert import BertConfig
from lavis_clone.models.encoders.vit import VisionConfig

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/generate_reference.py from the code; change it there. -->"

WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "`true` or `false`",
    "Path": "path",
    "None": "`null`",
    "Any": "anything",
    "Triple": "list of 3 numbers",
    "ViTType": "`base` or `large`",
    "Precision": "`fp32`, `tf32`, `bf16` or `fp16`",
    "Compile": "`off`, `model` or `step`",
    "OptimizerName": "`adamw`, `sgd`, `adafactor` or `muon`",
    "LoggerName": "`tensorboard` or `wandb`",
    "EarlyStop": "mapping",
    "SourceBlock": "mapping",
    "Lora": "mapping",
}

PUBLIC: dict[str, list[str]] = {
    "Models": [
        "lavis_clone.load_model",
        "lavis_clone.load_model_and_preprocess",
        "lavis_clone.load_preprocess",
        "lavis_clone.models.BaseModel.from_config",
        "lavis_clone.models.BaseModel.from_pretrained",
        "lavis_clone.models.BaseModel.save_pretrained",
        "lavis_clone.models.BaseModel.load_checkpoint",
        "lavis_clone.models.BaseModel.load_from_pretrained",
    ],
    "Captions": [
        "lavis_clone.models.BlipCaption.forward",
        "lavis_clone.models.BlipCaption.generate",
        "lavis_clone.models.BlipCaption.generate_with_confidence",
        "lavis_clone.models.outputs.GenerationOutput",
        "lavis_clone.models.generation.options.GenerationOptions",
        "lavis_clone.models.outputs.ModelOutput",
    ],
    "Words": [
        "lavis_clone.models.tokenizers.Tokenizer",
        "lavis_clone.models.tokenizers.train_vocabulary",
    ],
    "Data": [
        "lavis_clone.load_dataset",
        "lavis_clone.datasets.builders.BaseDatasetBuilder",
        "lavis_clone.datasets.loaders.build_loader",
        "lavis_clone.load_processor",
        "lavis_clone.processors.load_image",
    ],
    "Runs": [
        "lavis_clone.common.config.load_config",
        "lavis_clone.common.config.model_defaults",
        "lavis_clone.job.build_runner",
        "lavis_clone.job.export_checkpoint",
        "lavis_clone.setup_task",
    ],
    "Files": [
        "lavis_clone.common.files.resolve",
        "lavis_clone.common.files.download",
        "lavis_clone.common.files.cached_path",
        "lavis_clone.common.files.cache_root",
    ],
}


def config_page() -> str:
    """``config.md``: what a run's YAML file may say."""
    parts = [
        MADE,
        CONFIG_HEAD,
        "## run",
        table(RunConfig, left_out={"task_options"}),
        "### run.early_stop",
        table(EarlyStop),
        "### run.lora",
        table(Lora),
    ]
    for task in registry.list_tasks():
        parts += [f"### task: {task}", f"More keys of `run:` with `task: {task}`."]
        parts.append(table(TASK_OPTIONS[task]))
    parts += [
        "### lr_sched",
        _listed(registry.list_lr_schedulers(), registry.get_lr_scheduler_class),
    ]
    for arch in registry.list_models():
        model = registry.get_model_class(arch)
        types = ", ".join(f"`{name}`" for name in model.PRETRAINED_MODEL_CONFIG_DICT)
        parts += [f"## model: {arch}", f"Types: {types}.", table(model.Config)]
    parts += ["### model.vit", summary(VisionConfig), table(VisionConfig)]
    parts += ["### model.med", summary(BertConfig), table(BertConfig)]
    parts += ["## datasets", f"Names: {', '.join(map(_code, registry.list_datasets()))}."]
    parts += [
        table(DatasetBlock),
        "### build_info.annotations.&lt;split&gt;",
        table(AnnotationBlock),
        "### build_info.&lt;data type&gt;",
        table(MediaBlock),
        "### build_info.&lt;data type&gt;.sources",
        table(SourceBlock),
    ]
    parts += ["## Processors", PROCESSORS_HEAD]
    for name in registry.list_processors():
        processor = registry.get_processor_class(name)
        parts += [f"### {name}", summary(processor)]
        if dataclasses.is_dataclass(processor):
            parts.append(table(processor))
    parts += ["## env", table(EnvBlock)]
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """``api.md``: the public names of Python, and the command line."""
    parts = [MADE, API_HEAD]
    for title, names in PUBLIC.items():
        parts.append(f"## {title}")
        for name in names:
            item = find(name)
            parts += [
                f"### {shown_name(name)}",
                f"```py\n{signature(name, item)}\n```",
                summary(item),
            ]
            if dataclasses.is_dataclass(item):
                parts.append(table(item))
    parts += ["## Command line", CLI_HEAD, *_commands(typer.main.get_command(app), ())]
    return "\n\n".join(parts) + "\n"


def table(cls: Any, *, left_out: Iterable[str] = ()) -> str:
    """A table of a dataclass's fields, each with what its docstring says."""
    docs = field_docs(cls)
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        if field.name in left_out or not field.init:
            continue
        meaning = docs.get(field.name, "")
        kind, default = kind_in_words(str(field.type)), shown_default(field)
        rows.append(
            f"| `{field.name}` | {kind} | {default} | {_cell(meaning)} |".replace("  ", " ")
        )
    return "\n".join(rows)


def field_docs(cls: Any) -> dict[str, str]:
    """The docstring under each field of a dataclass, those of its bases included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if "__dataclass_fields__" not in vars(base):
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docs[field.target.id] = _plain(str(below.value.value))
    return docs


def kind_in_words(annotation: str) -> str:
    """What a YAML file holds for ``annotation``.

    >>> kind_in_words("list[str] | None")
    'list of text or `null`'
    """
    return _kind(ast.parse(annotation, mode="eval").body)


def _kind(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_kind(node.left)} or {_kind(node.right)}"
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "dict":
            return "mapping"
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return " or ".join(_code(str(ast.literal_eval(choice))) for choice in inner)
        if node.value.id in ("list", "tuple"):
            return f"list of {_kind(inner[0])}"
    source = ast.unparse(node)
    return WORDS.get(source, f"`{source}`")


def shown_default(field: dataclasses.Field[Any]) -> str:
    """A field's default as YAML writes it."""
    if field.default_factory is not dataclasses.MISSING:
        return _code("{}" if field.default_factory is dict else "[]")
    value = field.default
    if value is dataclasses.MISSING:
        return "required"
    if value is None or isinstance(value, bool):
        return _code({None: "null", True: "true", False: "false"}[value])
    if isinstance(value, tuple):
        return _code(f"[{', '.join(map(str, value))}]")
    return _code(f'"{value}"' if value == "" else str(value))


def summary(item: Any) -> str:
    """The first paragraph of a docstring."""
    return _plain((inspect.getdoc(item) or "").partition("\n\n")[0])


def find(name: str) -> Any:
    """What a dotted name leads to, the module part imported."""
    module, _, rest = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), rest)
    except ModuleNotFoundError:
        return getattr(find(module), rest)


def shown_name(name: str) -> str:
    """``Class.method``, or the name alone."""
    last_two = name.split(".")[-2:]
    return ".".join(last_two if last_two[0][0].isupper() else last_two[1:])


def signature(name: str, item: Any) -> str:
    """How ``item`` is called, a parameter a line when it is long."""
    found = inspect.signature(item)
    parameters = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    words: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not {"*"} & {w[:1] for w in words}:
            words.append("*")
        words.append(_parameter(parameter))
    result = found.return_annotation
    end = ")" if result in (inspect.Signature.empty, None, "None") else f") -> {result}"
    call = shown_name(name)
    line = f"{call}({', '.join(words)}{end}"
    if len(line) <= 88:
        return line
    return "\n".join([f"{call}(", *(f"    {word}," for word in words), end])


def _parameter(parameter: inspect.Parameter) -> str:
    variable = {parameter.VAR_POSITIONAL.name: "*", parameter.VAR_KEYWORD.name: "**"}
    stars = variable.get(parameter.kind.name, "")
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {parameter.annotation}"
    if parameter.default is parameter.empty:
        return text
    if "factory" in repr(parameter.default):  # a dataclass's field(default_factory=...)
        return f"{text} = {{}}"
    return f"{text} = {parameter.default!r}"


def _commands(command: Any, path: tuple[str, ...]) -> list[str]:
    """A part for each command below ``command``: how it is called, and its options."""
    if hasattr(command, "commands"):
        groups = [_commands(sub, (*path, name)) for name, sub in command.commands.items()]
        return [part for group in groups for part in group]
    arguments, rows = [], []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
            arguments.append(name if parameter.required else f"[{name}]")
        elif parameter.name != "help":
            flags = ", ".join(map(_code, parameter.opts))
            default = "" if parameter.default in (None, False) else _code(str(parameter.default))
            rows.append(f"| {flags} | {default} | {_cell(parameter.help or '')} |")
    line = " ".join(["lavis-clone", *path, *(["[OPTIONS]"] if rows else []), *arguments])
    parts = [f"### {' '.join(path)}", f"```text\n{line}\n```", _plain(command.help or "")]
    if rows:
        parts.append("\n".join(["| option | default | |", "|---|---|---|", *rows]))
    return parts


def _listed(names: Sequence[str], get: Callable[[str], Any]) -> str:
    return "\n".join(f"- `{name}`: {summary(get(name))}" for name in names)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`"


CONFIG_HEAD = """\
# What a run's file may say

A run is one YAML file with the blocks `model`, `datasets` and `run`. Merged in this order, the
later one wins: `configs/default.yaml`, the YAML file of the model's `model_type`, those of the data
sets, your file, the options of the command line. An unknown key, a wrong type or a missing value is
an error, and all of them are told at once: `lavis-clone config check FILE` does so without running
anything.

`imports: [my_module]` imports modules first, so that they can register models, data sets or
processors that the file names.

Numbers may be written as `2e-5`. `${...}` are OmegaConf's interpolations: `${env.cache_root}` is
the folder of downloads, `${oc.env:PWD}` the working directory."""

PROCESSORS_HEAD = """\
In a data set's block: `vis_processor: {train: {name: blip_image_train, image_size: 384}}`; the keys
beside `name` are these. Without a `text_processor` texts stay as they are; a run needs a
`vis_processor`."""

API_HEAD = """\
# Python names and commands

Signatures and first sentences; the docstrings say the rest (`help(load_model)`). Everything that
begins with `lavis_clone.` and has no dot behind it is importable from the top: `from lavis_clone
import load_model`. `model_zoo`, `dataset_zoo` and `registry` are there, too: print the first two to
see what there is; the third has `register_model`, `register_builder`, `register_processor`,
`register_task`, `register_runner` and `register_lr_scheduler`, and `list_*` and `get_*_class` for
each."""

CLI_HEAD = """\
Errors that a user can correct are one line each on standard error, with the exit status 2."""

PAGES = {"config.md": config_page, "api.md": api_page}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the reference pages.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    outdated = []
    for name, make in PAGES.items():
        path = FOLDER / name
        text = make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(name)
        if not options.check:
            path.write_text(text, encoding="utf-8")
    if outdated:
        word = "out of date" if options.check else "written"
        sys.stdout.write(f"{word}: {', '.join(outdated)}\n")
    return 1 if outdated and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
