"""Doctor's report as text of at most 80 columns, or as JSON."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from rich.console import Console
from rich.text import Text

from polygen_stream.doctor.finding import Finding, State

WIDTH = 80
ITEM, STATE = 22, 9  # columns of the first two cells
INDENT = "    "
COLOURS: dict[State, str] = {"ok": "green", "missing": "yellow", "problem": "red"}


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print a table by section, then what to do about each finding that is not ok."""
    for part, rows in groupby(findings, key=lambda finding: finding.part):
        console.print(part, style="bold")
        for finding in rows:
            for line in _row(finding):
                console.print(line, soft_wrap=True)
    todo = [finding for finding in findings if finding.advice]
    if todo:
        console.print("\nwhat to do", style="bold")
    for finding in todo:
        for line in _advice(finding):
            console.print(line, soft_wrap=True, markup=False)


def to_json(findings: Sequence[Finding]) -> str:
    """Return the findings as a JSON list of objects."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _row(finding: Finding) -> Iterator[Text]:
    """Yield the table's lines of one finding."""
    first, *more = textwrap.wrap(finding.found, WIDTH - 2 - ITEM - STATE) or [""]
    yield Text.assemble(f"  {finding.item:<{ITEM}}", (f"{finding.state:<{STATE}}", COLOURS[finding.state]), first)
    for line in more:
        yield Text(" " * (2 + ITEM + STATE) + line)


def _advice(finding: Finding) -> Iterator[str]:
    yield from textwrap.wrap(
        f"{finding.item}: {finding.advice}",
        WIDTH,
        initial_indent="  ",
        subsequent_indent=INDENT,
        break_on_hyphens=False,
    )
    if finding.command:
        yield from _command(finding.command)


def _command(command: str) -> Iterator[str]:
    """Yield the lines of a shell command, broken with backslashes between its words so that it can be pasted."""
    line = INDENT
    for word in shlex.split(command, posix=False):  # keeps the quotes
        if len(line) + len(word) + 2 > WIDTH and line.strip():
            yield f"{line}\\"
            line = INDENT * 2
        line += f"{word} "
    yield line.rstrip()
