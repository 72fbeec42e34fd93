"""JSON-lines files: one object per line, appended by one process and read by others while it writes.

A reader leaves out a last line that is still being written. A damaged line before it is skipped and reported, or
refused where every line matters (`read_jsonl(..., strict=True)`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.base.records import Kinds, wrong_values


class Line(NamedTuple):
    """A complete line of a JSON-lines file.

    Attributes:
        number: Counted from 1.
        end: Offset of the line's end, in bytes.
        record: The object; None if the line holds none.
    """

    number: int
    end: int
    record: dict[str, Any] | None


class JsonLines:
    """Appends one JSON object per line; each is visible to readers, and survives this process, at once."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("a", buffering=1, encoding="utf-8")  # 1 = line-buffered

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            ValueError: It holds a NaN or an infinity. They are not JSON, and would fail in readers of the file later.
        """
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record to a file that several processes write in turn."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def read_jsonl(
    path: Path,
    required: Collection[str] = (),
    kinds: Kinds | None = None,
    *,
    usable: Callable[[dict[str, Any]], bool] | None = None,
    strict: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file, without a last line still being written; none if there is no such file.

    Damaged lines are skipped; how many, and where the first is, is printed to stderr once per file and process.

    Args:
        path: The file.
        required: Keys without which a record counts as damaged.
        kinds: What the values of some keys have to be, where they are there; or the record counts as damaged.
        usable: What else a record has to fulfil, or it counts as damaged; asked of those that fulfil the rest.
        strict: Refuse a damaged line instead of skipping it.

    Raises:
        UserError: A line is damaged, and `strict` is set.
    """
    damaged, needed = Damage(), {*required}
    try:
        for line in read_jsonl_lines(path):
            if (record := line.record) is not None and (
                record.keys() >= needed and not wrong_values(record, kinds or {}) and (usable is None or usable(record))
            ):
                yield record
            elif strict:
                raise UserError(f"{path} line {line.number} is damaged, and every line is needed; restore the file")
            else:
                damaged.add(line.number)
    finally:
        damaged.report(path)


def read_jsonl_lines(path: Path, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """Yield the complete lines of a JSON-lines file, damaged ones with no record; none if there is no such file.

    Args:
        path: The file.
        offset: Where to begin, in bytes: the end of a line read before.
        number: The number of that line.

    Raises:
        UserError: The file is there and cannot be read.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror}") from None
    with stream:
        stream.seek(offset)
        for text in stream:
            if not text.endswith(b"\n"):
                return
            number, offset = number + 1, offset + len(text)
            yield Line(number, offset, _parse(text))


class Damage:
    """Lines of a file that are skipped."""

    def __init__(self) -> None:
        self._first = self._count = 0

    def add(self, number: int) -> None:
        """Count a line."""
        self._first, self._count = self._first or number, self._count + 1

    def report(self, path: Path) -> None:
        """Print which lines of a file were skipped, the first time that any were."""
        if self._count and path not in _reported:
            _reported.add(path)
            some = (
                f"line {self._first}" if self._count == 1 else f"{self._count} lines, the first is line {self._first}"
            )
            print(f"warning: {path} is damaged: skipped {some}", file=sys.stderr)


def cut_jsonl(path: Path, first_step: int) -> None:
    """Remove the records of `first_step` and later, damaged lines, and a last line left half-written.

    A run that starts again at that step writes them once more. A missing file stays missing.

    Raises:
        UserError: The file is there and cannot be read.
    """
    try:
        kept, content, start = [], path.read_bytes(), 0
    except FileNotFoundError:
        return
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror}") from None
    for line in read_jsonl_lines(path):
        step = None if line.record is None else line.record.get("step")
        if isinstance(step, int) and step < first_step:
            kept.append(content[start : line.end])
        start = line.end
    write_atomically(path, b"".join(kept), durable=True)


_reported: set[Path] = set()  # files whose damage this process has told of


def _parse(text: bytes) -> dict[str, Any] | None:
    # A killed writer leaves half a line, and a successor that appends glues its own first line to it.
    if not text.lstrip().startswith(b"{"):
        return None  # at once: a file of another kind may have millions of lines
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
