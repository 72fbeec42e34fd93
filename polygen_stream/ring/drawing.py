"""Drawing: one critical section picks, counts and leases a whole batch of groups; releasing ends the leases."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import PROCESSES, Total
from polygen_stream.ring.picking import note_rounds, note_starvation, pick, ready_groups
from polygen_stream.ring.readable import ReadableRing
from polygen_stream.ring.records import Draw, DrawnGroup, DrawRequest, Kind, Polarity, SlotState
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.undo_journal import Operation, UndoJournal


@dataclass(frozen=True)
class LeasedRows:
    """Copies, made under the mutex, of what a draw leased.

    Attributes:
        rows: of the group table, int64 [n], PLAIN first.
        kinds: as drawn, n entries.
        times: draws of each group before this one, int64 [n].
    """

    rows: np.ndarray
    kinds: tuple[Kind, ...]
    times: np.ndarray


def check_request(spec: RingSpec, request: DrawRequest) -> None:
    """Refuse a request that no state of this ring could answer.

    Raises:
        ValueError: it asks for no groups, for more than the ring has rows, or, in replay mode, names no tasks.
    """
    if request.plain < 0 or request.pair < 0 or not 1 <= request.groups <= spec.groups:
        raise ValueError(f"a draw of {request.plain} PLAIN + {request.pair} PAIR groups from {spec.groups} group rows")
    if spec.mode == "replay" and (request.exactly is None or len(request.exactly) != request.groups):
        named = "no" if request.exactly is None else len(request.exactly)
        raise ValueError(
            f"a draw of {request.groups} groups from a ring in replay mode names {named} tasks; it needs one for each"
        )


def try_draw(control: Control, process: int, request: DrawRequest) -> LeasedRows | None:
    """Lease a batch if that is allowed and possible now, else return None.

    Raises:
        RingExhausted: it will never be possible.
        UserError: the rate limiter's window is narrower than the batch.
    """
    with control.transition(Operation.DRAW) as journal:
        return lease_batch(control, journal, process, request)


def lease_batch(control: Control, journal: UndoJournal, process: int, request: DrawRequest) -> LeasedRows | None:
    """Pick, count and lease a batch inside the caller's transition. Return None if it has to wait."""
    c, spec = control.columns, control.spec
    picked = pick(control, journal, process, request)
    if picked is None:
        return None
    plains, pairs = picked
    rows = np.concatenate(picked)
    times = c.group_times[rows]
    journal.add("group_leased", rows, 1)
    journal.add("group_times", rows, 1)
    note_rounds(control, journal, rows)
    journal.add("lease", process * spec.groups + rows, 1)
    for total, amount in (
        (Total.DRAWS, 1),
        (Total.SAMPLES, rows.size),
        (Total.GROUPS_DRAWN, int(np.count_nonzero(times == 0))),
    ):
        journal.add("total", int(total), amount)
    return LeasedRows(rows, (Kind.PLAIN,) * plains.size + (Kind.PAIR,) * pairs.size, times)


def unseen(control: Control, limit: int) -> list[tuple[int, int]]:
    """Return (row, generation) of up to `limit` groups that may be drawn and were neither drawn nor pinned yet.

    The oldest come first.
    """
    with control.reading():
        c = control.columns
        rows = np.flatnonzero(ready_groups(c).drawable & (c.group_times == 0) & (c.group_pinned == 0))
        rows = rows[np.argsort(c.group_order[rows], kind="stable")][:limit]
        return list(zip(rows.tolist(), c.group_generation[rows].tolist(), strict=True))


def end_starvation(control: Control, process: int) -> None:
    """Record that a process no longer waits for a draw."""
    with control.transition(Operation.DRAW) as journal:
        note_starvation(control, journal, process, None)


def describe(
    ring: ReadableRing, rows: np.ndarray, kinds: tuple[Kind, ...], times: np.ndarray
) -> tuple[DrawnGroup, ...]:
    """Return the captions and slots of groups that cannot change meanwhile: leased ones, or under the mutex.

    Args:
        ring: where they are.
        rows: of the group table, int64 [n].
        kinds: as drawn, n entries.
        times: draws of each group before this one, int64 [n].
    """
    c, spec = ring.columns, ring.spec
    slot = c.group_slot.reshape(spec.groups, spec.members)[rows]  # [n, members], stale beyond the group's own
    inside = np.arange(spec.members) < c.group_members[rows][:, None]
    ready = inside & (c.slot_state[slot] == SlotState.READY)
    is_positive = ready & (c.slot_polarity[slot] == Polarity.POSITIVE)
    is_negative = ready & ~is_positive & (np.array(kinds) == Kind.PAIR)[:, None]
    # Python lists from here on: indexing small arrays 64 times over would cost more than the draw itself
    slots, generators = slot.tolist(), c.slot_generator[slot].tolist()
    positive, negative = is_positive.tolist(), is_negative.tolist()
    texts = c.text[rows].tobytes()  # [n, 2, caption_bytes]
    width = spec.caption_bytes
    table = zip(
        rows.tolist(),
        kinds,
        times.tolist(),
        c.group_generation[rows].tolist(),
        c.group_task[rows].tolist(),
        c.group_caption_bytes[rows].tolist(),
        c.group_negative_bytes[rows].tolist(),
        (c.group_kind[rows] == Kind.PAIR).tolist(),
        strict=True,
    )
    drawn = []
    for i, (row, kind, times_sampled, generation, task_id, caption_bytes, negative_bytes, is_pair) in enumerate(table):
        start = 2 * i * width
        caption = texts[start : start + caption_bytes].decode()
        twin = texts[start + width : start + width + negative_bytes].decode() if kind is Kind.PAIR else None
        drawn.append(
            DrawnGroup(
                row=row,
                generation=generation,
                task_id=task_id,
                kind=kind,
                caption=caption,
                negative=twin,
                positive_slots=tuple(compress(slots[i], positive[i])),
                negative_slots=tuple(compress(slots[i], negative[i])),
                positive_generators=tuple(compress(generators[i], positive[i])),
                negative_generators=tuple(compress(generators[i], negative[i])),
                times_sampled=times_sampled,
                has_negative=is_pair,
            )
        )
    return tuple(drawn)


def release(control: Control, process: int, draw: Draw) -> None:
    """End the leases of a draw. The caller has made sure that this process has them."""
    spec, c = control.spec, control.columns
    rows = np.array([group.row for group in draw.groups], dtype=np.int64)
    generations = np.array([group.generation for group in draw.groups], dtype=np.int64)
    with control.transition(Operation.RELEASE) as journal:
        cells = process * spec.groups + rows
        assert (c.lease[cells] > 0).all() and (c.group_generation[rows] == generations).all()
        journal.add("group_leased", rows, -1)
        journal.add("lease", cells, -1)


def drop_leases(control: Control, journal: UndoJournal, process: int) -> int:
    """End all leases of a dead process. Return the number of groups they were on."""
    groups = control.spec.groups
    assert 0 <= process < PROCESSES
    leases = control.columns.lease[process * groups : (process + 1) * groups]
    rows = np.flatnonzero(leases)
    journal.set("group_leased", rows, control.columns.group_leased[rows] - leases[rows])
    journal.set("lease", process * groups + rows, 0)
    return rows.size
