"""Sinks for per-step records: JSON lines, and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


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
    """

    def __init__(self, folder: Path, flush_s: int = 10) -> None:
        from torch.utils.tensorboard import SummaryWriter  # not at module top: the supervisor has no torch

        self._writer = SummaryWriter(str(folder), flush_secs=flush_s)

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
