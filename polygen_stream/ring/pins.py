"""Holds: a group somebody will come back for is not evicted.

A hold is a mark on the group and belongs to no process: it outlives the trainer that set it and is part of a snapshot,
as the queue of whoever set it is part of a checkpoint. Holds may take a quarter of the slots and of the group rows.
More would take from the trainer the room it reuses groups in, and from the producers the room to replace them; all of
the ring held would stop both.

Draws treat a held group like any other, unless they are told to take it first. A hold blocks eviction only, so a group
that is used up or over age stays but is not drawn. A deterministic ring holds nothing: its window says how long each
group stays. In a replay there may be any number of holds.
"""

from __future__ import annotations

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import RingColumns, Total
from polygen_stream.ring.records import GroupState, PinResult
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.undo_journal import Operation

PINNED_SHARE = 4  # 1 / this part of the ring


def pin(control: Control, row: int, generation: int) -> PinResult:
    """Marks a complete group, if it is still there and there is room for one more hold."""
    c, spec = control.columns, control.spec
    with control.transition(Operation.PIN) as journal:
        if c.group_state[row] != GroupState.COMPLETE or c.group_generation[row] != generation:
            journal.add("total", int(Total.PINS_GONE), 1)
            return PinResult.GONE
        if c.group_pinned[row]:
            return PinResult.PINNED
        held = c.group_pinned != 0
        slots = int(c.group_members[held].sum()) + int(c.group_members[row])
        rows = int(np.count_nonzero(held)) + 1
        if slots > _budget(spec, spec.slots) or rows > _budget(spec, spec.groups):
            journal.add("total", int(Total.PINS_REFUSED), 1)
            return PinResult.FULL
        journal.set("group_pinned", row, 1)
        return PinResult.PINNED


def unpin(control: Control, row: int, generation: int) -> bool:
    """Takes the mark off; whether there was one."""
    c = control.columns
    with control.transition(Operation.PIN) as journal:
        if c.group_generation[row] != generation or not c.group_pinned[row]:
            return False
        journal.set("group_pinned", row, 0)
        return True


def pinned_groups(c: RingColumns) -> list[tuple[int, int]]:
    """(row, generation) of every held group. The caller holds the mutex."""
    rows = np.flatnonzero(c.group_pinned)
    return list(zip(rows.tolist(), c.group_generation[rows].tolist(), strict=True))


def _budget(spec: RingSpec, capacity: int) -> int:
    if spec.mode == "replay":  # who replays knows what will be drawn again, and the ring was large enough for it before
        return capacity
    return 0 if spec.deterministic else capacity // PINNED_SHARE
