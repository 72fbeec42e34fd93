"""The draw board: one draw is broadcast to all ranks of a node, and each receives its slice.

The leader draws the batch of the node in one critical section and puts it on the board under its step. Rank r of w
receives the groups r, r + w, r + 2w, ... of the batch's order (PLAIN, NEGATIVE, PAIR): slices are a partition and
differ by at most one group. So do their numbers of either kind; with one contiguous slice each, the last rank would get
all the pairs.

A broadcast batch is leased by the leader. Receiving a slice moves its leases to the process that receives it, which
releases them like those of a draw of its own. So every lease belongs to one live process, and the reaper ends those of
a dead one: for a dead leader that includes all slices that were not received yet, and its batches are cleared.

The board has places for BOARD_STEPS steps. A broadcast waits while the place it needs has slices to be received.
"""

from __future__ import annotations

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.drawing import LeasedRows, lease_batch
from polygen_stream.ring.layout import RingColumns
from polygen_stream.ring.records import DrawRecord, DrawRequest, DrawSummary, Kind
from polygen_stream.ring.undo_journal import Operation, UndoJournal

MAX_RANKS = 62  # ranks that have received their slice are bits of one signed 8-byte mask


def try_broadcast(control: Control, process: int, request: DrawRequest, world: int) -> DrawSummary | None:
    """Draw a batch and put it on the board. Return None while groups or a place on the board are missing.

    Args:
        control: the ring.
        process: row of the leader's process.
        request: the batch.
        world: ranks that share it.

    Raises:
        PolygenError: the step is on the board already, with slices that were not received.
        RingExhausted: the batch can never be filled.
        UserError: the rate limiter's window is narrower than the batch.
    """
    c = control.columns
    with control.transition(Operation.BROADCAST) as journal:
        place = _place_for(c, request.step)
        if place is None:
            return None
        leased = lease_batch(control, journal, process, request)
        if leased is None:
            return None
        # No rank reads this place: every slice of what was there has been received. It counts once board_step is set.
        c.board_group[place, : leased.rows.size] = leased.rows
        c.board_times[place, : leased.rows.size] = leased.times
        c.board_turns[place, : leased.rows.size] = leased.turns
        for name, value in (
            ("board_leader", process),
            ("board_world", world),
            ("board_received", 0),
            ("board_plain", leased.kinds.count(Kind.PLAIN)),
            ("board_negative", leased.kinds.count(Kind.NEGATIVE)),
            ("board_pair", request.pair),
            ("board_step", request.step),
        ):
            journal.set(name, place, value)
        tasks, generations = c.group_task[leased.rows].tolist(), c.group_generation[leased.rows].tolist()
        has_negative = (c.group_kind[leased.rows] == Kind.PAIR).tolist()
    turns = leased.recorded_turns(control.spec)
    record = DrawRecord(request.step, tuple(tasks), leased.kinds, tuple(generations), turns)
    return DrawSummary(record, tuple(leased.rows.tolist()), tuple(has_negative))


def try_receive(control: Control, process: int, step: int, rank: int, world: int) -> LeasedRows | None:
    """Move the leases of a rank's slice to this process. Return None while the step was not broadcast.

    Raises:
        PolygenError: the batch was broadcast to another number of ranks, or this rank has its slice already.
    """
    c, groups = control.columns, control.spec.groups
    with control.transition(Operation.RECEIVE) as journal:
        places = np.flatnonzero(c.board_step == step)
        if places.size == 0:
            return None
        place = int(places[0])
        if c.board_world[place] != world:
            raise PolygenError(
                f"step {step} was broadcast to {c.board_world[place]} ranks, but rank {rank} counts {world}; start all "
                "ranks with the same world size"
            )
        if int(c.board_received[place]) >> rank & 1:
            raise PolygenError(f"rank {rank} has received its slice of step {step} already; ranks must differ")
        kinds = (
            (Kind.PLAIN,) * int(c.board_plain[place])
            + (Kind.NEGATIVE,) * int(c.board_negative[place])
            + (Kind.PAIR,) * int(c.board_pair[place])
        )
        mine = slice(rank, len(kinds), world)
        rows = c.board_group[place, mine].astype(np.int64)
        times, turns = c.board_times[place, mine].copy(), c.board_turns[place, mine].copy()
        leader = int(c.board_leader[place])
        if leader != process:
            journal.add("lease", leader * groups + rows, -1)
            journal.add("lease", process * groups + rows, 1)
        journal.set("board_received", place, int(c.board_received[place]) | 1 << rank)
    return LeasedRows(rows, kinds[mine], times, turns)


def clear_board(control: Control, journal: UndoJournal, process: int) -> None:
    """Remove the batches of a dead leader; the leases on slices that were not received were its own."""
    places = np.flatnonzero((control.columns.board_step >= 0) & (control.columns.board_leader == process))
    journal.set("board_step", places, -1)


def late_ranks(control: Control) -> tuple[int, list[int]] | None:
    """Return the oldest step of a full board and the ranks that have not received their slice; None if it has room."""
    c = control.columns
    if _free_places(c):
        return None
    place = int(np.argmin(c.board_step))
    received = int(c.board_received[place])
    return int(c.board_step[place]), [rank for rank in range(int(c.board_world[place])) if not received >> rank & 1]


def _place_for(c: RingColumns, step: int) -> int | None:
    """Return the place for the batch of a step, None if there is none now."""
    free = _free_places(c)
    before = np.flatnonzero(c.board_step == step).tolist()
    if not before:
        return free[0] if free else None
    if before[0] not in free:
        raise PolygenError(f"step {step} is on the draw board already; only one rank may lead")
    return before[0]  # a leader that was set back to an earlier step


def _free_places(c: RingColumns) -> list[int]:
    """Return the places that are empty or of which every slice was received, those of the oldest steps first."""
    return [
        place
        for place in np.argsort(c.board_step, kind="stable").tolist()
        if c.board_step[place] < 0 or int(c.board_received[place]) == (1 << int(c.board_world[place])) - 1
    ]
