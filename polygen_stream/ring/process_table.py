"""The process table of a ring: which process has which row, and what it last said of itself."""

from __future__ import annotations

import os
import time

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import RingColumns, put_text
from polygen_stream.ring.processes import start_time
from polygen_stream.ring.records import ProcessState
from polygen_stream.ring.undo_journal import Operation


def register(control: Control, role: str, name: str) -> int:
    """Enter this process into the table. Return its row.

    Raises:
        PolygenError: the table is full.
    """
    c, pid = control.columns, os.getpid()
    started = start_time(pid)
    assert started is not None
    with control.transition(Operation.REGISTER) as journal:
        # rows of the dead are kept for the statistics as long as there are unused ones
        rows = [
            *np.flatnonzero(c.process_state == ProcessState.FREE),
            *np.flatnonzero(c.process_state == ProcessState.DEAD),
        ]
        if not rows:
            raise PolygenError(
                f"{role} '{name}' cannot join: all {c.process_state.size} rows of the ring's process table are "
                "taken; start fewer processes, or let the supervisor reap the dead ones"
            )
        row = int(rows[0])
        put_text(c.process_role[row], role)
        put_text(c.process_name[row], name)
        put_text(c.process_doing[row], "start")
        c.process_wait_ns[row] = c.process_busy_ns[row] = c.process_serves[row] = 0
        c.process_heartbeat[row] = time.monotonic_ns()
        journal.set("process_pid", row, pid)
        journal.set("process_start", row, started)
        journal.set("process_state", row, int(ProcessState.LIVE))
    return row


def record_heartbeat(c: RingColumns, row: int, doing: str, waited_s: float, busy_s: float) -> None:
    """Note what the process of a row does now, and add to its waiting and busy seconds. Lock-free."""
    put_text(c.process_doing[row], doing)
    c.process_wait_ns[row] += int(waited_s * 1e9)
    c.process_busy_ns[row] += int(busy_s * 1e9)
    c.process_heartbeat[row] = time.monotonic_ns()
