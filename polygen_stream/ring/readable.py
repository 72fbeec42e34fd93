"""What code that only reads needs of a ring: the mapped one (control.py) or a copy of its columns (state.py)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from polygen_stream.ring.layout import RingColumns, Total
from polygen_stream.ring.spec import RingSpec


class ReadableRing(Protocol):
    """A Control, or a RingState."""

    @property
    def spec(self) -> RingSpec:
        """The sizes and rules."""
        ...

    @property
    def columns(self) -> RingColumns:
        """The columns, to be read inside `reading`."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Return a context in which the columns do not change."""
        ...

    def total(self, total: Total) -> int:
        """Return one of the counters."""
        ...
