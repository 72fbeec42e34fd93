"""Pins: a pinned group is not evicted.

A pin is a mark on the group and belongs to no process: it outlives the trainer that set it and is part of a snapshot,
as the queue that it was set for is part of a checkpoint. Pinned groups may take a quarter of the slots and of the group
rows. More would leave the trainer too little room to reuse groups, and the producers too little to replace them; a ring
with all groups pinned would stop both.

Draws treat a pinned group like any other, unless a request names it as one of the first. A pin blocks eviction only, so
a group that is used up or over age stays but is not drawn. A deterministic ring pins nothing: its window says how long
each group stays. In a replay any number of groups may be pinned.
"""

from __future__ import annotations

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import RingColumns, Total
from polygen_stream.ring.records import GroupState, PinResult
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.undo_journal import Operation

PINNED_SHARE = 4  # 1 / this part of the ring


def most_pinned(spec: RingSpec) -> int:
    """Return how many groups may be pinned at once, each with as many images as a group can have."""
    return min(_budget(spec, spec.slots) // spec.members, _budget(spec, spec.groups))


def pin(control: Control, row: int, generation: int) -> PinResult:
    """Pin a complete group, if it is still there and one more may be pinned."""
    c, spec = control.columns, control.spec
    with control.transition(Operation.PIN) as journal:
        if c.group_state[row] != GroupState.COMPLETE or c.group_generation[row] != generation:
            journal.add("total", int(Total.PINS_GONE), 1)
            return PinResult.GONE
        if c.group_pinned[row]:
            return PinResult.PINNED
        pinned = c.group_pinned != 0
        slots = int(c.group_members[pinned].sum()) + int(c.group_members[row])
        rows = int(np.count_nonzero(pinned)) + 1
        if slots > _budget(spec, spec.slots) or rows > _budget(spec, spec.groups):
            journal.add("total", int(Total.PINS_REFUSED), 1)
            return PinResult.FULL
        journal.set("group_pinned", row, 1)
        return PinResult.PINNED


def unpin(control: Control, row: int, generation: int) -> bool:
    """Unpin a group. Return whether it was pinned."""
    c = control.columns
    with control.transition(Operation.PIN) as journal:
        if c.group_generation[row] != generation or not c.group_pinned[row]:
            return False
        journal.set("group_pinned", row, 0)
        return True


def pinned_groups(c: RingColumns) -> list[tuple[int, int]]:
    """Return (row, generation) of every pinned group. The caller holds the mutex."""
    rows = np.flatnonzero(c.group_pinned)
    return list(zip(rows.tolist(), c.group_generation[rows].tolist(), strict=True))


def _budget(spec: RingSpec, capacity: int) -> int:
    if spec.mode == "replay":  # it pins only what it will draw again, and the ring was large enough for that before
        return capacity
    return 0 if spec.deterministic else capacity // PINNED_SHARE
