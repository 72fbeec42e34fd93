"""The journal: what every task of a run became, in the order of task ids.

One JSON object per line. An entry is on disk before its group is opened, so the ring never has a caption that the
journal lacks: whoever writes captions next goes on behind the last entry, and opens again what the ring did not get or
has lost. With it a run can be replayed without a language model, whose replies are not repeatable in general.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.errors import UserError
from polygen_stream.ledger import Task

JOURNAL = "journal.jsonl"  # in the run folder


@dataclass(frozen=True)
class Entry:
    """A task and its caption, with a hard negative if it is a pair; of a dropped task, why."""

    task: Task
    pair: bool
    outcome: Caption | Dropped

    def to_json(self) -> str:
        outcome = {"caption" if isinstance(self.outcome, Caption) else "dropped": asdict(self.outcome)}
        return json.dumps({"task": asdict(self.task), "kind": "pair" if self.pair else "plain"} | outcome)

    @classmethod
    def from_json(cls, text: str | bytes) -> Entry:
        record = json.loads(text)
        task = record["task"]
        task = Task(**task | {name: tuple(task[name]) for name in ("generators", "image_seeds")})
        found = record.get("caption") or record["dropped"]
        found["rejected"] = tuple(found["rejected"])
        return cls(task, record["kind"] == "pair", Caption(**found) if "caption" in record else Dropped(**found))


class Journal:
    """Appends to a journal. One process at a time.

    Raises:
        UserError: the file is no journal.
    """

    def __init__(self, file: Path) -> None:
        end = max((end for _, end in _entries(file)), default=0)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._file, end)  # a line that a full disk, or the death of its writer, left half-written

    def write(self, entries: Sequence[Entry]) -> None:
        """Appends entries in one piece and returns when they are on disk. OSError when they cannot be."""
        text = "".join(entry.to_json() + "\n" for entry in entries).encode()
        while text:
            text = text[os.write(self._file, text) :]
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_journal(file: Path) -> Iterator[Entry]:
    """The entries of a journal, without a last line still being written. A missing file has none.

    Raises:
        UserError: the file is no journal.
    """
    return (entry for entry, _ in _entries(file))


def _entries(file: Path) -> Iterator[tuple[Entry, int]]:
    """Each entry and the offset in bytes of the end of its line."""
    if not file.exists():
        return
    end, last = 0, -1
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                entry = Entry.from_json(line)
            except (ValueError, KeyError, TypeError) as problem:
                raise UserError(
                    f"{file} line {number} is no entry of a journal ({problem!r}); restore the file, or start a new run"
                ) from problem
            if entry.task.task_id <= last:
                raise UserError(
                    f"{file} line {number} has task {entry.task.task_id} after task {last}; restore the file, or start "
                    "a new run"
                )
            last = entry.task.task_id
            yield entry, end
