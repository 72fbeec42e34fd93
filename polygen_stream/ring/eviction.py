"""Which groups make room for a new one. Whole groups only; never an open, a leased or a pinned one.

0. Groups older than max_age go first, oldest first: no draw takes them any more.
1. Groups drawn max_times_sampled times are used up: oldest first.
2. Without a reuse limit a full ring must still take new groups, so a complete group that has been drawn at
   least once may go: most drawn first, then oldest. A group that was never drawn is not evicted ...
3. ... except while a draw waits for PAIR groups: the ring may be full of plain groups which that draw does
   not want and no later draw will reach. Then plain groups may go too, most drawn first, then oldest.
4. While the rate limiter makes a draw wait for inserts, any group may go, in the same order. Else a ring full of groups
   that are not used up would keep the inserts out that the trainer waits for.

In deterministic mode none of this holds: tasks that no step will ask for again go, smallest id first (window.py).

When these do not make enough room nothing is evicted and opening waits: back-pressure.
"""

from __future__ import annotations

import numpy as np

from polygen_stream.ring.layout import RingColumns, Total
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.records import GroupState, Kind, SlotState
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.window import TaskWindow


def evictable(c: RingColumns, spec: RingSpec, slots: int, rows: int, task: int) -> list[int] | None:
    """Return the group rows to evict so that `slots` slots and `rows` rows are free; None if that cannot be done now.

    task: the smallest of those the room is for; only a deterministic ring asks.
    """
    missing_slots = slots - int(np.count_nonzero(c.slot_state == SlotState.FREE))
    missing_rows = rows - int(np.count_nonzero(c.group_state == GroupState.FREE))
    if missing_slots <= 0 and missing_rows <= 0:
        return []
    victims: list[int] = []
    for group in _passed(c, spec, task) if spec.deterministic else _in_order(c):
        victims.append(group)
        missing_slots -= int(c.group_members[group])
        missing_rows -= 1
        if missing_slots <= 0 and missing_rows <= 0:
            return victims
    return None


def _in_order(c: RingColumns) -> list[int]:
    limits = Limits.read(c)
    idle = np.flatnonzero((c.group_state == GroupState.COMPLETE) & (c.group_leased == 0) & (c.group_pinned == 0))
    times, order = c.group_times[idle], c.group_order[idle]
    allowed = times >= (limits.max_times_sampled or 1)
    if c.total[Total.STARVED_PAIR]:
        allowed |= c.group_kind[idle] == Kind.PLAIN
    if c.total[Total.HELD_BACK]:
        allowed[:] = True
    if limits.max_age:
        over_age = c.group_step[idle] < int(c.total[Total.STEP]) - limits.max_age
        allowed |= over_age
        times = np.where(over_age, np.iinfo("i8").max, times)  # before all others, whatever their use was
    # used-up groups share one count, so this is "oldest first" among them
    return idle[allowed][np.lexsort((order[allowed], -times[allowed]))].tolist()


def _passed(c: RingColumns, spec: RingSpec, task: int) -> list[int]:
    known = max(int(c.total[Total.KNOWN]), task + 1)
    floor = TaskWindow.of(spec).floor(int(c.total[Total.NEXT_STEP]), known)
    ended = (c.group_state == GroupState.COMPLETE) | (c.group_state == GroupState.SKIPPED)
    rows = np.flatnonzero(ended & (c.group_leased == 0) & (c.group_task < floor))
    return rows[np.argsort(c.group_task[rows], kind="stable")].tolist()
