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
from polygen_stream.schedule.ledger import CaptionTask


@dataclass(frozen=True)
class JournalEntry:
    """A task and its outcome.

    Attributes:
        task: the task.
        pair: whether a hard negative was requested.
        outcome: the caption, or why the task was dropped.
    """

    task: CaptionTask
    pair: bool
    outcome: Caption | Dropped

    def to_json(self) -> str:
        """Return the entry as one line of JSON, without the line break."""
        outcome = {"caption" if isinstance(self.outcome, Caption) else "dropped": asdict(self.outcome)}
        return json.dumps({"task": asdict(self.task), "kind": "pair" if self.pair else "plain"} | outcome)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> JournalEntry:
        """Return the entry of a parsed line.

        Raises:
            KeyError, TypeError: the record is not an entry.
        """
        task = record["task"]
        task = CaptionTask(**task | {name: tuple(task[name]) for name in ("generators", "image_seeds")})
        found = record.get("caption") or record["dropped"]
        found["rejected"] = tuple(found["rejected"])
        return cls(task, record["kind"] == "pair", Caption(**found) if "caption" in record else Dropped(**found))


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
