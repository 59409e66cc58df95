"""What a check found, as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lavis_clone.common.files import write_atomic
from lavis_clone.datasets.check import ERROR, PROBLEMS, WARNING, Report

JSON_NAME, MARKDOWN_NAME = "report.json", "report.md"
MAX_ROWS = 20
"""Findings of one sort, labels and answers that the Markdown lists; the JSON has more."""


def write_report(report: Report, folder: Path, *, title: str) -> list[Path]:
    """Write both files, and return their paths.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(as_dict(report, title=title), ensure_ascii=False, indent=1)
    texts = {JSON_NAME: content + "\n", MARKDOWN_NAME: as_markdown(report, title=title)}
    for name, text in texts.items():
        write_atomic(folder / name, text.encode("utf-8", "replace"))
    return [folder / name for name in texts]


def as_dict(report: Report, *, title: str) -> dict[str, Any]:
    """The whole report in JSON's types."""
    return {
        "checked": title,
        "complete": report.is_complete,
        "errors": report.count(ERROR),
        "warnings": report.count(WARNING),
        "problems": {
            problem: {"level": report.level(problem), "count": count, "meaning": meaning}
            for problem, (_, meaning) in PROBLEMS.items()
            if (count := report.counts[problem])
        },
        "findings": [
            {"level": report.level(found.problem), **asdict(found)} for found in report.findings
        ],
        "splits": report.splits,
    }


def as_markdown(report: Report, *, title: str) -> str:
    """The report as a page."""
    lines = [f"# Data check of {title}", "", *_verdict(report), ""]
    if report.counts:
        rows = [
            [report.level(problem), problem, str(report.counts[problem]), meaning]
            for problem, (_, meaning) in PROBLEMS.items()
            if report.counts[problem]
        ]
        rows.sort(key=lambda row: row[0] != ERROR)
        lines += [*_table(["level", "problem", "found", "what it means"], rows), ""]
    rows = [_split_row(name, counts) for name, counts in report.splits.items()]
    head = ["split", "samples", "files", "MB", "smallest", "largest", "scripts"]
    lines += ["## Splits", "", *_table(head, rows), ""]
    for name, counts in report.splits.items():
        lines += _split_section(name, counts)
    for problem in PROBLEMS:
        lines += _finding_section(report, problem)
    return "\n".join(lines).rstrip("\n") + "\n"


def summary(report: Report) -> str:
    """A few lines for the terminal."""
    lines = [f"{'split':28} {'samples':>9} {'files':>9}"]
    lines += [
        f"{name:28} {counts.get('samples', 0):9} {counts.get('files', 0):9}"
        for name, counts in report.splits.items()
    ]
    for problem, (_, meaning) in PROBLEMS.items():
        if count := report.counts[problem]:
            lines.append(f"{report.level(problem)}: {count} x {problem}: {meaning}")
    return "\n".join([*lines, *_verdict(report)])


def _verdict(report: Report) -> list[str]:
    found = f"{report.count(ERROR)} errors and {report.count(WARNING)} warnings."
    if report.is_complete:
        return [found]
    return [f"Interrupted: not all was looked at. So far {found}"]


def _split_row(name: str, counts: Mapping[str, Any]) -> list[str]:
    total = sum(counts.get("scripts", {}).values())
    scripts = [f"{script} {n / total:.1%}" for script, n in counts.get("scripts", {}).items()]
    sizes = [" x ".join(map(str, reversed(counts.get(k, [])))) for k in ("smallest", "largest")]
    megabytes = f"{counts.get('bytes', 0) / 1e6:.1f}"
    numbers = [str(counts.get(key, 0)) for key in ("samples", "files")]
    return [name, *numbers, megabytes, *sizes, ", ".join(scripts)]


def _split_section(name: str, counts: Mapping[str, Any]) -> Iterator[str]:
    """Lengths of texts, labels and answers of one split."""
    rows = []
    for role, lengths in counts.get("texts", {}).items():
        for unit in ("words", "tokens"):
            if spread := lengths.get(unit):
                rows.append([role, str(lengths["texts"]), unit, *map(str, spread.values())])
    if rows:
        head = ["text", "how many", "in", "least", "median", "95% have at most", "most"]
        yield from [f"### Texts of {name}", "", *_table(head, rows), ""]
    for key in ("labels", "answers"):
        found: Mapping[str, int] = counts.get(key, {})
        if found:
            most = list(found.items())[:MAX_ROWS]
            distinct = counts["distinct_answers"] if key == "answers" else len(found)
            yield f"### {key.capitalize()} of {name}: {distinct} distinct"
            yield ""
            if (share := counts.get("share_answerable")) is not None and key == "answers":
                yield f"The list to choose from has an answer to {share:.1%} of the questions."
                yield ""
            yield from _table([key.rstrip("s"), "count"], [[k, str(n)] for k, n in most])
            yield ""


def _finding_section(report: Report, problem: str) -> Iterator[str]:
    found = [finding for finding in report.findings if finding.problem == problem]
    if not found:
        return
    yield from [f"## {report.level(problem)}: {problem}", ""]
    for finding in found[:MAX_ROWS]:
        place = f"{finding.part}, {finding.where}" if finding.where else finding.part
        yield f"- {place}: {_plain(finding.message)}"
    if (rest := report.counts[problem] - min(len(found), MAX_ROWS)) > 0:
        yield f"- and {rest} more"
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """Text that stays in its cell, whatever people wrote."""
    return " ".join(text.split()).replace("|", "\\|")
