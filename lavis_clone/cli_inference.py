"""The commands that run a model on pictures: ``caption``, ``ask``, ``match`` and the rest.

They import what they need when they are called, so that listing commands loads no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lavis_clone.cli_errors import told_in_one_line

if TYPE_CHECKING:
    from lavis_clone.inference import Count

Sources = Annotated[list[str], typer.Argument(help="Pictures: files, folders or URLs")]
Picture = Annotated[str, typer.Argument(help="A picture: a file or a URL")]
ModelType = Annotated[
    str | None, typer.Option("--type", help="Its type, or a saved folder; else its first type")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps")]
BatchSize = Annotated[int, typer.Option(min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines")]
Output = Annotated[Path | None, typer.Option("-o", help="Also write JSON lines here")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    for command in (caption, ask, match, classify, features):
        app.command()(command)


def caption(
    sources: Sources,
    model: Annotated[str, typer.Option(help="A captioning model")] = "blip_caption",
    type: ModelType = None,
    num_captions: Annotated[int, typer.Option("--num", min=1, help="Captions per picture")] = 1,
    num_beams: Annotated[int, typer.Option(min=1)] = 3,
    max_length: Annotated[int, typer.Option(help="Tokens at most")] = 30,
    min_length: Annotated[int, typer.Option(help="Tokens at least")] = 5,
    sample: Annotated[bool, typer.Option("--sample", help="Draw instead of searching")] = False,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Describe pictures, with a confidence for each caption.

    The exit status is 1 when a picture could not be read, and 2 when there was nothing to describe.
    """
    options = {"max_length": max_length, "min_length": min_length, "num_captions": num_captions}
    options |= {"num_beams": max(num_beams, num_captions), "distinct": True}
    options |= {"use_nucleus_sampling": sample}
    with told_in_one_line():
        from lavis_clone.describe import Request, describe
        from lavis_clone.inference import Choice, Printing

        choice = Choice(model, type, device)
        request = Request(sources, choice, options, batch_size=batch_size)
        _leave(describe(request, Printing(as_json, output)))


def ask(
    image: Picture,
    questions: Annotated[list[str] | None, typer.Argument(help="What to ask about it")] = None,
    model: Annotated[str, typer.Option(help="A model that answers")] = "blip_vqa",
    type: ModelType = None,
    answers: Annotated[
        str | None, typer.Option(help="Choose among these: a,b,c or a file, one a line")
    ] = None,
    num_beams: Annotated[int, typer.Option(min=1, help="For answers that are written")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions at a time")] = 32,
    device: Device = "auto",
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Ask questions about a picture, with a confidence for each answer.

    The model writes its answers, or chooses among those of --answers.
    """
    with told_in_one_line():
        from lavis_clone.inference import Choice, Printing
        from lavis_clone.judge import Questions
        from lavis_clone.judge import ask as answer

        choice = Choice(model, type, device)
        request = Questions(image, questions or [], choice, answers, num_beams, batch_size)
        answer(request, Printing(as_json, output))


def match(
    image: Picture,
    texts: Annotated[list[str] | None, typer.Argument(help="What may describe it")] = None,
    model: Annotated[str, typer.Option(help="A model that matches")] = "blip_image_text_matching",
    type: ModelType = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time")] = 64,
    device: Device = "auto",
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Say how likely each text describes a picture, the likeliest first.

    The cosine beside it compares the two without letting the text look at the picture.
    """
    with told_in_one_line():
        from lavis_clone.inference import Choice, Printing
        from lavis_clone.judge import Pairs
        from lavis_clone.judge import match as judge

        choice = Choice(model, type, device)
        judge(Pairs(image, texts or [], choice, batch_size), Printing(as_json, output))


def classify(
    sources: Sources,
    labels: Annotated[str | None, typer.Option(help="Classes: a,b,c or a file, one a line")] = None,
    model: Annotated[
        str, typer.Option(help="A model with a common space of pictures and texts")
    ] = "blip_feature_extractor",
    type: ModelType = None,
    prompt: Annotated[
        str, typer.Option(help="The text for a label, which goes where {} is")
    ] = "a picture of {}",
    top: Annotated[int, typer.Option(min=1, help="Labels per picture, the likeliest first")] = 5,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Sort pictures into classes that are given by their names, without training.

    The exit status is 1 when a picture could not be read, and 2 when none could.
    """
    with told_in_one_line():
        from lavis_clone.inference import Choice, Printing
        from lavis_clone.judge import Labels
        from lavis_clone.judge import classify as sort

        choice = Choice(model, type, device)
        request = Labels(sources, labels or "", choice, prompt, top, batch_size)
        _leave(sort(request, Printing(as_json, output)))


def features(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Pictures: files, folders or URLs")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="The file to write: .npz or .parquet")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A model that extracts features")
    ] = "blip_feature_extractor",
    type: ModelType = None,
    mode: Annotated[str, typer.Option(help="image, text or multimodal")] = "image",
    texts: Annotated[Path | None, typer.Option(help="A file with a text on each line")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Keep all image tokens, too")] = False,
    half: Annotated[bool, typer.Option("--half", help="Keep fp16: half the size")] = False,
    batch_size: BatchSize = 8,
    device: Device = "auto",
) -> None:
    """Turn pictures, texts or pairs of them into vectors, in a file.

    A run that was stopped goes on when the same command is given again. The exit status is 1 when a
    picture could not be read, and 2 when none could.
    """
    with told_in_one_line():
        from lavis_clone.extract import Kept, Request, extract
        from lavis_clone.inference import Choice

        if output is None:
            raise ValueError("no output given; say -o out.npz or -o out.parquet")
        kept = Kept(mode, tokens=tokens, half=half)
        choice = Choice(model, type, device)
        _leave(extract(Request(sources or [], texts, output, choice, kept, batch_size)))


def _leave(count: Count) -> None:
    sys.exit(0 if not count.failed else 1 if count.done else 2)
