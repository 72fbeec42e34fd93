"""Sinks for per-step records: JSON lines, and TensorBoard."""

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


class TensorBoard:
    """Writes the numbers of a record as scalars, nested names joined by '/'.

    Args:
        folder: where event files go.
        flush_s: seconds after which written scalars reach the file.
        first_step: the step the run (re)starts at. Scalars from it on that are there already are not shown any more.
    """

    def __init__(self, folder: Path, flush_s: int = 10, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # not at module top: the supervisor has no torch

        self._writer = SummaryWriter(str(folder), flush_secs=flush_s, purge_step=first_step or None)

    def write(self, record: Mapping[str, Any]) -> None:
        step = record["step"]
        for name, value in _scalars(record):
            if name != "step":
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def read_json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a file written by `JsonLines`; a last line still being written is left out.

    A missing file has no records.
    """
    if not file.exists():
        return
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            if line.endswith("\n"):
                yield json.loads(line)


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value
