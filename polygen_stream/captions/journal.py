"""The journal: the outcome of every task of a run, in the order of task ids.

The file has one JSON object per line. {"provenance": ...} describes what wrote the lines below it: models with the hash
of their weights, sampling settings, prompts, concepts. All other lines are entries. An entry is on disk before its
group is opened in the ring, so the ring never has a caption that the journal lacks: a restarted captioner continues
after the last entry and reopens the groups that the ring did not receive or has lost. Because replies of language
models are not repeatable in general, a run is replayed from its journal instead of from the models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl_lines
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.schedule.choice import Choice
from polygen_stream.schedule.ledger import CaptionTask


@dataclass(frozen=True)
class JournalEntry:
    """A task and its outcome.

    Attributes:
        task: the task.
        pair: whether a hard negative was requested.
        outcome: the caption, or why the task was dropped.
        choice: why a policy chose the task; None for one that came in the order of the ledger.
    """

    task: CaptionTask
    pair: bool
    outcome: Caption | Dropped
    choice: Choice | None = None

    def to_json(self) -> str:
        """Return the entry as one line of JSON, without the line break."""
        outcome = {"caption" if isinstance(self.outcome, Caption) else "dropped": asdict(self.outcome)}
        choice = {} if self.choice is None else {"choice": asdict(self.choice)}
        return json.dumps({"task": asdict(self.task), "kind": "pair" if self.pair else "plain"} | outcome | choice)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> JournalEntry:
        """Return the entry of a parsed line.

        Raises:
            KeyError, TypeError, ValueError: the record is not an entry.
        """
        task, caption = dict(record["task"]), record.get("caption")
        task |= {name: _integers(task, name) for name in ("generators", "image_seeds")}
        outcome = dict(record["dropped"] if caption is None else caption)
        outcome["rejected"] = tuple(outcome["rejected"])
        entry = cls(
            CaptionTask(**task),
            record["kind"] == "pair",
            Dropped(**outcome) if caption is None else Caption(**outcome),
            Choice.from_record(record["choice"]) if "choice" in record else None,
        )
        entry._check()
        return entry

    def _check(self) -> None:
        """Refuse values that a journal never has, which would fail far from it.

        Raises:
            TypeError, ValueError: there is one.
        """
        task, outcome = self.task, self.outcome
        texts: list[object] = [task.concept, task.axis, *outcome.rejected]
        texts += [text for text in (outcome.text,) if isinstance(outcome, Caption) or text is not None]
        if isinstance(outcome, Caption):
            texts += [text for text in (outcome.negative, outcome.edit) if text is not None]
            if self.pair and outcome.negative is None:
                raise ValueError("a pair without a negative caption")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("something else in the place of a text")
        for name, number in (("task_id", task.task_id), ("caption_seed", task.caption_seed)):
            if type(number) is not int or not 0 <= number < 2**63:
                raise TypeError(f"{name} is {number!r}")
        if len(task.generators) != len(task.image_seeds):
            raise ValueError(f"{len(task.generators)} generators and {len(task.image_seeds)} image_seeds")


def _integers(task: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Return a list of a task; its numbers fit numpy's signed 64-bit integers."""
    numbers = tuple(task[name])
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise TypeError(f"{name} is {task[name]!r}")
    return numbers


class CaptionJournal:
    """Appends to a journal. Only one process may do so at a time.

    A last line that is incomplete, because the disk was full or the writer died, is removed.

    Args:
        file: the journal; created if it does not exist.

    Raises:
        UserError: the file is not a journal.
    """

    def __init__(self, file: Path) -> None:
        self._path, complete = file, 0
        self._provenance: Mapping[str, object] | None = None
        for line, end in _lines(file):
            complete = end
            if not isinstance(line, JournalEntry):
                self._provenance = line["provenance"]
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._file, complete)

    def record_provenance(self, provenance: Mapping[str, object]) -> None:
        """Record what writes the entries from here on, unless the journal's last provenance is the same.

        Args:
            provenance: see `CaptionSource.provenance`.

        Raises:
            UserError: the concepts differ from those of the entries before.
        """
        before = self._provenance
        if before is not None and before.get("concepts") != provenance.get("concepts"):
            raise UserError(
                f"{self._path} was begun with the concepts {before.get('concepts')}, and now they are "
                f"{provenance.get('concepts')}: its tasks would be about something else; restore captions.concepts, or "
                "start a new run"
            )
        if before != provenance:
            self._append(json.dumps({"provenance": dict(provenance)}) + "\n")
            self._provenance = provenance

    def write(self, entries: Sequence[JournalEntry]) -> None:
        """Append entries in one piece and return once they are on disk.

        Raises:
            OSError: they cannot be written, e.g. because the disk is full.
        """
        self._append("".join(entry.to_json() + "\n" for entry in entries))

    def _append(self, lines: str) -> None:
        text = lines.encode()
        while text:
            text = text[os.write(self._file, text) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_journal(file: Path) -> Iterator[JournalEntry]:
    """Yield the entries of a journal, without an incomplete last line. A missing file has no entries.

    Raises:
        UserError: the file is not a journal.
    """
    return (line for line, _ in _lines(file) if isinstance(line, JournalEntry))


def read_provenances(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the provenances of a journal in their order.

    Raises:
        UserError: the file is not a journal.
    """
    return (line["provenance"] for line, _ in _lines(file) if not isinstance(line, JournalEntry))


def _lines(file: Path) -> Iterator[tuple[JournalEntry | dict[str, Any], int]]:
    """Yield each entry or provenance with the offset in bytes of the end of its line."""
    last = -1
    for number, end, record in read_jsonl_lines(file):
        if record is None:
            raise _not_an_entry(file, number, "damaged, or not a JSON object")
        try:
            if "provenance" in record:
                yield {"provenance": dict(record["provenance"])}, end
                continue
            entry = JournalEntry.from_record(record)
        except (ValueError, KeyError, TypeError) as problem:
            raise _not_an_entry(file, number, repr(problem)) from problem
        if entry.task.task_id <= last:
            raise UserError(
                f"{file} line {number} has task {entry.task.task_id} after task {last}; restore the file, or start "
                "a new run"
            )
        last = entry.task.task_id
        yield entry, end


def _not_an_entry(file: Path, number: int, why: str) -> UserError:
    return UserError(f"{file} line {number} is not an entry of a journal ({why}); restore the file, or start a new run")
