"""JSON-lines files: one object per line, appended by one process and read by others while it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"  # prefix of files being written; what a killed writer leaves, the run's end removes


def cut(file: Path, first_step: int) -> None:
    """Removes the records of `first_step` and later ones, and a last line that a killed process left half-written.

    A run that starts again at that step will write them once more. A missing file stays missing.
    """
    if not file.exists():
        return
    kept = [line for line in file.read_bytes().splitlines(keepends=True) if _before(line, first_step)]
    partial = file.with_name(f"{PARTIAL}{file.name}")
    partial.write_bytes(b"".join(kept))
    partial.replace(file)


def _before(line: bytes, first_step: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] < first_step
    except (ValueError, KeyError, TypeError):  # two writers' halves glued together
        return False


class JsonLines:
    """Appends one JSON object per line, each visible to readers (and safe from our own death) at once."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("a", buffering=1, encoding="utf-8")  # 1 = line-buffered

    def write(self, record: Mapping[str, Any]) -> None:
        # NaN and Infinity are not JSON: better to fail here than in whoever reads the file later.
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")

    def close(self) -> None:
        self._stream.close()


def read_jsonl(path: Path) -> Iterator[dict]:
    """The complete lines of a JSON-lines file; none when it does not exist. Half-written ones are skipped."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            record = parse_line(line)
            if record is not None:
                yield record


def parse_line(line: bytes) -> dict | None:
    # A killed writer leaves half a line, and a successor that appends glues its own first line to it.
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
