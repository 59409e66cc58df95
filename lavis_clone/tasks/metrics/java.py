"""METEOR and SPICE, which only their authors' Java programs compute.

The programs lie in the package pycocoevalcap. They are driven directly: its wrappers print,
download and leave processes behind.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from lavis_clone.tasks.metrics.ngrams import Score, Tokens, check_pairs, mean_score

_METEOR_JAR = "meteor/meteor-1.5.jar"
_SPICE_JAR = "spice/spice-1.0.jar"
# SPICE parses with these. They are not in the package: 350 MB that pycocoevalcap would download.
_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class NotComputed(RuntimeError):
    """A metric lacks something. The message says what in a sentence, without the metric's name."""


def meteor(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Score:
    """METEOR 1.5 for English, normalized, as in pycocoevalcap, between 0 and 1.

    Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target
    Language", WMT 2014. The overall score adds up statistics over all captions. Starting the
    program takes seconds.

    Args:
        predictions: One caption per image, in tokens (``ptb.tokenize``).
        references: The image's references, in tokens; one or more.

    Raises:
        NotComputed: without Java or the program, or when the program fails.
        ValueError: no captions, or a caption without references.
    """
    check_pairs(predictions, references)
    jar = _program(_METEOR_JAR)
    command = ["-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", jar.name]
    command += ["-", "-", "-stdio", "-l", "en", "-norm"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [_java(), *command],
            cwd=jar.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )
        try:
            assert process.stdin is not None and process.stdout is not None
            statistics = [
                _ask(process.stdin, process.stdout, " ||| ".join(["SCORE", *_texts([*own, text])]))
                for text, own in zip(predictions, references, strict=True)
            ]
            _tell(process.stdin, " ||| ".join(["EVAL", *statistics]))
            scores = [float(process.stdout.readline()) for _ in range(len(predictions) + 1)]
        except (OSError, ValueError) as error:
            process.kill()
            process.wait()  # so that its complaints are complete
            raise NotComputed(f"its program failed{_last_line(errors)}") from error
        finally:
            process.kill()
            process.communicate()  # closes the pipes and waits for the end
    return Score(overall=scores[-1], per_item=scores[:-1])


def spice(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Score:
    """SPICE as in pycocoevalcap, between 0 and 1; overall, the mean.

    Anderson et al., "SPICE: Semantic Propositional Image Caption Evaluation", ECCV 2016. Never
    downloads: the models must lie where pycocoevalcap's own download puts them.

    Args:
        predictions: One caption per image, in tokens (``ptb.tokenize``).
        references: The image's references, in tokens; one or more.

    Raises:
        NotComputed: without Java, the program or its models, or when the program fails.
        ValueError: no captions, or a caption without references.
    """
    check_pairs(predictions, references)
    jar = _program(_SPICE_JAR)
    missing = [name for name in _SPICE_MODELS if not (jar.parent / "lib" / name).is_file()]
    if missing:
        raise NotComputed(f"its models are not on disk ({jar.parent / 'lib' / missing[0]})")
    items = [
        {"image_id": i, "test": _text(prediction), "refs": [_text(ref) for ref in own]}
        for i, (prediction, own) in enumerate(zip(predictions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        given, found = Path(folder, "captions.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(items), encoding="utf-8")
        command = ["-Dfile.encoding=UTF-8", "-Xmx8G", "-jar", jar.name, str(given)]
        command += ["-cache", folder, "-out", str(found), "-subset", "-silent"]
        finished = subprocess.run(
            [_java(), *command],
            cwd=jar.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            check=False,
        )
        if finished.returncode or not found.is_file():
            raise NotComputed(f"its program failed{_last_line(errors)}")
        rows = json.loads(found.read_text(encoding="utf-8"))
    scores = {row["image_id"]: row["scores"]["All"]["f"] for row in rows}
    return mean_score([_number(scores[i]) for i in range(len(items))])


def _program(path: str) -> Path:
    """A Java program of pycocoevalcap, found without importing the package."""
    package = importlib.util.find_spec("pycocoevalcap")
    folders = list(package.submodule_search_locations or []) if package else []
    for folder in folders:
        if (jar := Path(folder, path)).is_file():
            return jar
    raise NotComputed("pycocoevalcap, which holds its program, is not installed")


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise NotComputed("Java was not found")
    return java


def _text(tokens: Tokens) -> str:
    return " ".join(tokens)


def _texts(captions: Sequence[Tokens]) -> list[str]:
    """Captions as METEOR's line protocol can hold them."""
    return [_text(tokens).replace("|||", "").replace("\n", " ") for tokens in captions]


def _tell(stdin: IO[str], line: str) -> None:
    stdin.write(line + "\n")
    stdin.flush()


def _ask(stdin: IO[str], stdout: IO[str], line: str) -> str:
    _tell(stdin, line)
    answer = stdout.readline()
    if not answer:
        raise OSError("no answer")
    return answer.strip()


def _last_line(errors: IO[bytes]) -> str:
    """What a program complained of last, after a colon."""
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1].strip()}" if lines else ""


def _number(value: float | str | None) -> float:
    """SPICE writes NaN, as a word, where a caption and its references say nothing."""
    return math.nan if value is None else float(value)
