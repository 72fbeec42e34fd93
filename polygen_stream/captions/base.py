"""What every caption source offers to the captioner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from polygen_stream.ledger import Task


@dataclass(frozen=True)
class Caption:
    """T+ and, where one was asked for, its hard negative T- and the edit that made it."""

    text: str
    negative: str | None = None
    edit: str | None = None


class CaptionSource(Protocol):
    """Writes captions for tasks. The ledger draws from `concepts` and `axes`."""

    concepts: Sequence[str]
    axes: Sequence[str]

    def write(self, tasks: Sequence[Task], with_negative: Sequence[bool]) -> list[Caption | None]:
        """One caption per task, a function of the task alone; None where the source could not write one."""
        ...
