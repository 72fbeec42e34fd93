"""The draw board: one draw for all ranks of a node, of which each takes its slice.

The leader draws the local batch in one critical section and posts it under its step. Rank r of w takes the groups r,
r + w, r + 2w, ... of the batch's order (PLAIN first, then PAIR): slices are a partition and differ by at most one
group. So do their numbers of either kind; cut in one piece each, the last rank would get all the pairs.

A post is leased by the leader. Taking a slice moves its leases to the process that takes it, which releases them like
those of a draw of its own. So every lease belongs to one live process, and the reaper returns what the dead one held:
for a dead leader that includes all that was not taken yet, and its posts are cleared.

The board holds the last BOARD_STEPS steps. A post waits while the place it needs holds a slice that was not taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.drawing import describe, lease_batch
from polygen_stream.ring.layout import RingColumns
from polygen_stream.ring.records import DrawnGroup, DrawRecord, DrawSummary, Kind
from polygen_stream.ring.undo_journal import Operation, UndoJournal

MAX_RANKS = 62  # ranks that have taken their slice are bits of one signed 8-byte mask


def try_broadcast(
    control: Control,
    process: int,
    step: int,
    plain: int,
    pair: int,
    world: int,
    first: Sequence[tuple[int, int]],
    exactly: Sequence[int] | None,
) -> DrawSummary | None:
    """Draws the batch of `step` and posts it; None while groups or a place on the board are missing."""
    c = control.columns
    with control.transition(Operation.BROADCAST) as journal:
        place = _place_for(c, step)
        if place is None:
            return None
        picked = lease_batch(control, journal, process, step, plain, pair, first, exactly)
        if picked is None:
            return None
        # Nobody reads this place: what was there has been taken. It counts once board_step says so.
        c.board_group[place, : picked.rows.size] = picked.rows
        c.board_times[place, : picked.rows.size] = picked.times
        for name, value in (
            ("board_leader", process),
            ("board_world", world),
            ("board_taken", 0),
            ("board_plain", plain),
            ("board_pair", pair),
            ("board_step", step),
        ):
            journal.set(name, place, value)
        tasks, generations = c.group_task[picked.rows].tolist(), c.group_generation[picked.rows].tolist()
        has_negative = (c.group_kind[picked.rows] == Kind.PAIR).tolist()
    record = DrawRecord(step, tuple(tasks), picked.kinds, tuple(generations))
    return DrawSummary(record, tuple(picked.rows.tolist()), tuple(has_negative))


def try_receive(control: Control, process: int, step: int, rank: int, world: int) -> tuple[DrawnGroup, ...] | None:
    """Moves the leases of a rank's slice to this process; None while the step was not posted."""
    c, groups = control.columns, control.spec.groups
    with control.transition(Operation.RECEIVE) as journal:
        places = np.flatnonzero(c.board_step == step)
        if places.size == 0:
            return None
        place = int(places[0])
        if c.board_world[place] != world:
            raise PolygenError(
                f"step {step} was posted for {c.board_world[place]} ranks, but rank {rank} counts {world}; start all "
                "ranks with the same world size"
            )
        if int(c.board_taken[place]) >> rank & 1:
            raise PolygenError(f"rank {rank} has taken its slice of step {step} already; ranks must differ")
        plain, pair = int(c.board_plain[place]), int(c.board_pair[place])
        mine = slice(rank, plain + pair, world)
        rows = c.board_group[place, mine].astype(np.int64)
        times = c.board_times[place, mine].copy()
        leader = int(c.board_leader[place])
        if leader != process:
            journal.add("lease", leader * groups + rows, -1)
            journal.add("lease", process * groups + rows, 1)
        journal.set("board_taken", place, int(c.board_taken[place]) | 1 << rank)
    kinds = ((Kind.PLAIN,) * plain + (Kind.PAIR,) * pair)[mine]
    return describe(control, rows, kinds, times)


def clear_board(control: Control, journal: UndoJournal, process: int) -> None:
    """Removes the posts of a dead leader; the leases on what was not taken were its own."""
    posted = np.flatnonzero((control.columns.board_step >= 0) & (control.columns.board_leader == process))
    journal.set("board_step", posted, -1)


def late_ranks(control: Control) -> tuple[int, list[int]] | None:
    """If the board is full: its oldest step, and the ranks that have not taken their slice of it."""
    c = control.columns
    if _free_places(c):
        return None
    place = int(np.argmin(c.board_step))
    taken = int(c.board_taken[place])
    return int(c.board_step[place]), [rank for rank in range(int(c.board_world[place])) if not taken >> rank & 1]


def _place_for(c: RingColumns, step: int) -> int | None:
    """Where to post a step now."""
    free = _free_places(c)
    posted = np.flatnonzero(c.board_step == step).tolist()
    if not posted:
        return free[0] if free else None
    if posted[0] not in free:
        raise PolygenError(f"step {step} is on the draw board already; only one rank may lead")
    return posted[0]  # a leader that was set back to an earlier step


def _free_places(c: RingColumns) -> list[int]:
    """Places that are empty or of which every slice was taken, those of the oldest steps first."""
    return [
        place
        for place in np.argsort(c.board_step, kind="stable").tolist()
        if c.board_step[place] < 0 or int(c.board_taken[place]) == (1 << int(c.board_world[place])) - 1
    ]
