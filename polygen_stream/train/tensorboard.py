"""The metrics of a run as TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Writes the numbers of a step's metrics as scalars, nested names joined by '/'.

    Args:
        folder: for the event files.
        flush_s: seconds after which written scalars reach the file.
        first_step: the step that the run (re)starts at. TensorBoard hides older scalars from it on.
    """

    def __init__(self, folder: Path, flush_s: int = 10, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # not at module top: the supervisor has no torch

        self._writer = SummaryWriter(str(folder), flush_secs=flush_s, purge_step=first_step or None)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a record at its "step"."""
        step = record["step"]
        for name, value in _scalars(record):
            if name != "step":
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value
