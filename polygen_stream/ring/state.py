"""The columns of a ring as they were at one instant: what a snapshot stores and what `inspect` looks at."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import Column, RingColumns, Total, columns_of
from polygen_stream.ring.processes import pid_namespace
from polygen_stream.ring.spec import RingSpec

# The undo journal is empty between transitions. Pictures are copied outside the mutex, see snapshot.py.
_NOT_COPIED = {"log_head", "log_column", "log_index", "log_before", "payload"}


@dataclass(frozen=True)
class RingState:
    """Copies of all columns but payload and undo journal, consistent with each other.

    It has what functions that only read use of a Control, so they work on either.
    """

    spec: RingSpec
    columns: RingColumns  # one array per name in `copied_columns`
    monotonic_ns: int  # when it was copied, on the clock of the heartbeats
    pid_namespace: int  # where the pids of its process table mean something
    locked_s: float = 0.0  # how long the copy held the mutex

    def reading(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: a copy needs no mutex."""
        return nullcontext()

    def total(self, total: Total) -> int:
        """Return one of the counters."""
        return int(self.columns.total[total])


def copied_columns(spec: RingSpec) -> tuple[Column, ...]:
    """Return the columns that a copy has: all but the payload and the undo journal."""
    return tuple(column for column in columns_of(spec) if column.name not in _NOT_COPIED)


def empty_state(spec: RingSpec) -> RingState:
    """Return the state of a ring that was never used."""
    columns = {column.name: np.zeros(column.shape, column.dtype) for column in copied_columns(spec)}
    return RingState(spec, RingColumns(columns), time.monotonic_ns(), pid_namespace())


def copy_state(control: Control) -> RingState:
    """Copy the columns under the mutex."""
    names = [column.name for column in copied_columns(control.spec)]
    # This first copy may be inconsistent: it only brings in the memory, so that no page fault is left for the
    # one that counts, made while all other processes wait.
    copies = {name: getattr(control.columns, name).copy() for name in names}
    with control.reading():
        began = time.monotonic_ns()
        for name, copy in copies.items():
            np.copyto(copy, getattr(control.columns, name))
        locked_s = (time.monotonic_ns() - began) / 1e9
    return RingState(control.spec, RingColumns(copies), began, pid_namespace(), locked_s)
