"""journal.jsonl: every task of a run with its caption or why it has none, in the order of task ids.

A line is {"provenance": ...}, which says who wrote the lines below it (models with the hash of their weights, sampling,
prompts, concepts), or a task: {"task": ..., "kind": "plain" | "pair", "carry": ...} with a "caption" or "dropped".

The captioner writes a task's line before it gives the caption to the ring. When it is killed, at most the last line's
group is missing in the ring, and at most one line is cut off; that line is repaired, and its task is written again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.errors import UserError
from polygen_stream.ledger import Task

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Entry:
    """One task of a journal.

    carry: what rounding the share of hard negatives to kinds had left over after this task (curriculum.ErrorDiffusion).
    """

    task: Task
    kind: Literal["plain", "pair"]
    result: Caption | Dropped
    carry: float


@dataclass
class JournalState:
    """Where a journal stopped, for whoever continues it: the captioner itself, or a run that is resumed.

    next_task: the first task id without a line. captions, dropped: tasks with a caption and tasks without one.
    refused: refused replies by reason. provenance: of the last lines.
    """

    next_task: int = 0
    captions: int = 0
    dropped: int = 0
    carry: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    provenance: Mapping[str, object] | None = None


def read_journal(path: Path) -> JournalState:
    """The state of a journal that nobody writes to; of one that does not exist, the state at the beginning of a run.

    A last line that was cut off counts for nothing. `Journal` repairs it.

    Raises:
        UserError: a line is not one of a journal, or a task is missing or there twice.
    """
    state = JournalState()
    for number, line in _lines(path) if path.exists() else ():
        if "provenance" in line:
            state.provenance = line["provenance"]
            continue
        entry = _entry(line, path, number)
        if entry.task.task_id != state.next_task:
            raise UserError(
                f"{path}, line {number}: task {entry.task.task_id} where task {state.next_task} belongs: a journal has "
                "every task once, in order; restore it from a copy, or start a new run"
            )
        state.next_task += 1
        state.captions += isinstance(entry.result, Caption)
        state.dropped += isinstance(entry.result, Dropped)
        state.refused.update(entry.result.rejected)
        state.carry = entry.carry
    return state


def journaled(path: Path) -> Iterator[Entry]:
    """The tasks of a journal, complete lines only.

    Raises:
        UserError: it cannot be read, or a line is not one of a journal.
    """
    for number, line in _lines(path):
        if "provenance" not in line:
            yield _entry(line, path, number)


class Journal:
    """Appends to a journal. What stands after the last line break, which a killed writer left, is cut off first.

    Raises:
        UserError: as `read_journal`.
    """

    def __init__(self, path: Path) -> None:
        self.state = read_journal(path)
        self._provenance = self.state.provenance
        # Line by line into the page cache, which outlives the process.
        self._file = path.open("a", buffering=1, encoding="utf-8")
        os.truncate(path, _complete_bytes(path))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None):
        self._file.close()

    def describe(self, provenance: Mapping[str, object]) -> None:
        """Says who writes from here on, unless that is who wrote so far.

        Raises:
            UserError: the concepts are others than those of the tasks so far.
        """
        before = self._provenance
        if before is not None and before.get("concepts") != provenance.get("concepts"):
            raise UserError(
                f"{self._file.name} was begun with the concepts {before.get('concepts')}, and now they are "
                f"{provenance.get('concepts')}: a task would be about something else; restore captions.concepts, or "
                "start a new run"
            )
        if before != provenance:
            self._write({"provenance": dict(provenance)})
            self._provenance = provenance

    def write(self, entry: Entry) -> None:
        result = entry.result
        record = {"task": asdict(entry.task), "kind": entry.kind, "carry": entry.carry}
        self._write(record | {"caption" if isinstance(result, Caption) else "dropped": asdict(result)})

    def _write(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")


def _complete_bytes(path: Path) -> int:
    """Up to and with the last line break."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Complete lines with their numbers, from 1."""
    try:
        file = path.open("rb")
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                try:
                    yield number, dict(json.loads(line))
                except (ValueError, TypeError):
                    raise _not_a_line(path, number) from None


def _entry(line: dict[str, Any], path: Path, number: int) -> Entry:
    try:
        task = {name: tuple(value) if isinstance(value, list) else value for name, value in line["task"].items()}
        kind = Caption if "caption" in line else Dropped
        result = line["caption" if kind is Caption else "dropped"]
        return Entry(
            Task(**task), line["kind"], kind(**{**result, "rejected": tuple(result["rejected"])}), line["carry"]
        )
    except (KeyError, TypeError, AttributeError):
        raise _not_a_line(path, number) from None


def _not_a_line(path: Path, number: int) -> UserError:
    return UserError(f"{path}, line {number}: not a line of a run's journal; give its {JOURNAL}")
