"""The journal: what every task of a run became, in the order of task ids.

One JSON object per line. {"provenance": ...} says who wrote the lines below it: models with the hash of their weights,
sampling, prompts, concepts. The others are entries. An entry is on disk before its group is opened, so the ring never
has a caption that the journal lacks: whoever writes captions next goes on behind the last entry, and opens again what
the ring did not get or has lost. With it a run can be replayed without a language model, whose replies are not
repeatable in general.
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
from polygen_stream.schedule.ledger import CaptionTask


@dataclass(frozen=True)
class JournalEntry:
    """A task and its caption, with a hard negative if it is a pair; of a dropped task, why."""

    task: CaptionTask
    pair: bool
    outcome: Caption | Dropped

    def to_json(self) -> str:
        outcome = {"caption" if isinstance(self.outcome, Caption) else "dropped": asdict(self.outcome)}
        return json.dumps({"task": asdict(self.task), "kind": "pair" if self.pair else "plain"} | outcome)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> JournalEntry:
        """The entry of a line, parsed."""
        task = record["task"]
        task = CaptionTask(**task | {name: tuple(task[name]) for name in ("generators", "image_seeds")})
        found = record.get("caption") or record["dropped"]
        found["rejected"] = tuple(found["rejected"])
        return cls(task, record["kind"] == "pair", Caption(**found) if "caption" in record else Dropped(**found))


class CaptionJournal:
    """Appends to a journal. One process at a time.

    Raises:
        UserError: the file is no journal.
    """

    def __init__(self, file: Path) -> None:
        self._path, complete = file, 0
        self._provenance: Mapping[str, object] | None = None
        for line, end in _lines(file):
            complete = end
            if not isinstance(line, JournalEntry):
                self._provenance = line["provenance"]
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._file, complete)  # a line that a full disk, or the death of its writer, left half-written

    def record_provenance(self, provenance: Mapping[str, object]) -> None:
        """Says who writes the entries from here on, unless that is who wrote those before.

        Raises:
            UserError: the concepts are not those of the entries before.
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
        """Appends entries in one piece and returns when they are on disk. OSError when they cannot be."""
        self._append("".join(entry.to_json() + "\n" for entry in entries))

    def _append(self, lines: str) -> None:
        text = lines.encode()
        while text:
            text = text[os.write(self._file, text) :]
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_journal(file: Path) -> Iterator[JournalEntry]:
    """The entries of a journal, without a last line still being written. A missing file has none.

    Raises:
        UserError: the file is no journal.
    """
    return (line for line, _ in _lines(file) if isinstance(line, JournalEntry))


def read_provenances(file: Path) -> Iterator[Mapping[str, Any]]:
    """Who wrote a journal, one after the other.

    Raises:
        UserError: the file is no journal.
    """
    return (line["provenance"] for line, _ in _lines(file) if not isinstance(line, JournalEntry))


def _lines(file: Path) -> Iterator[tuple[JournalEntry | dict[str, Any], int]]:
    """Each entry or provenance, and the offset in bytes of the end of its line."""
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
    return UserError(f"{file} line {number} is no entry of a journal ({why}); restore the file, or start a new run")
