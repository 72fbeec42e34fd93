"""What the supervisor does for processes that died and generators that were given up."""

from __future__ import annotations

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.board import clear_board
from polygen_stream.ring.control import Control
from polygen_stream.ring.drawing import drop_leases
from polygen_stream.ring.layout import Total, get_text
from polygen_stream.ring.members import fail_member, retry_member
from polygen_stream.ring.picking import note_starvation
from polygen_stream.ring.processes import is_alive
from polygen_stream.ring.records import ProcessState, SlotState
from polygen_stream.ring.undo_journal import Operation


def reap(control: Control) -> list[str]:
    """Take back what dead processes owned: members become WANTED, leases end. Return a line for each such process.

    Each member is a transition of its own and the process row is closed last, so a reaper that dies is simply
    followed by the next one.
    """
    c = control.columns
    with control.reading():
        rows = np.flatnonzero(c.process_state == ProcessState.LIVE).tolist()
        identities = [(row, int(c.process_pid[row]), int(c.process_start[row])) for row in rows]
    lines = []
    for row, pid, started in identities:
        if is_alive(pid, started):  # a file read per process: not under the mutex
            continue
        line = _reap_process(control, row, pid, started)
        if line:
            lines.append(line)
    _fail_members_of_down_generators(control)
    return lines


def _reap_process(control: Control, row: int, pid: int, started: int) -> str | None:
    c = control.columns
    with control.transition(Operation.REAP) as journal:
        if c.process_state[row] != ProcessState.LIVE or (c.process_pid[row], c.process_start[row]) != (
            pid,
            started,
        ):
            return None  # another reaper was faster
        slots = np.flatnonzero(c.slot_owner == row).tolist()
        for slot in slots:
            # A member that kills its renderers is given up in the end, but deaths must not decide what a
            # deterministic run draws (picking.py).
            retry_member(control, journal, slot, counted=not control.spec.deterministic)
            journal.add("total", int(Total.REAPED), 1)
            journal = control.next_transition(Operation.REAP)
        leases = drop_leases(control, journal, row)
        clear_board(control, journal, row)
        note_starvation(control, journal, row, None)
        journal.set("process_state", row, int(ProcessState.DEAD))
        process = f"{get_text(c.process_role[row])} '{get_text(c.process_name[row])}' (pid {pid})"
    return f"{process} died: {len(slots)} members given back, {leases} leases dropped"


def generator_down(control: Control, generator: int) -> None:
    """Give a generator up. Members being written stay with their owner: no other process may touch them."""
    if control.spec.deterministic:
        raise PolygenError(
            f"generator '{control.spec.generators[generator]}' cannot be given up in deterministic mode: batches would "
            "depend on when it was; end the run and resume it"
        )
    with control.transition(Operation.DOWN) as journal:
        journal.set("generator_down", generator, 1)
    _fail_members_of_down_generators(control)


def _fail_members_of_down_generators(control: Control) -> None:
    c = control.columns
    with control.transition(Operation.DOWN) as journal:
        wanted = np.flatnonzero(c.slot_state == SlotState.WANTED)
        for slot in wanted[c.generator_down[c.slot_generator[wanted]] != 0].tolist():
            fail_member(control, journal, slot)
            journal = control.next_transition(Operation.DOWN)
