"""Drawing: one critical section picks, counts and leases a whole batch of groups; releasing ends the leases."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np

from polygen_stream.ring.catch_up import out_of_turn
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import PROCESSES, Total
from polygen_stream.ring.picking import note_rounds, note_starvation, pick, ready_groups
from polygen_stream.ring.readable import ReadableRing
from polygen_stream.ring.records import Draw, DrawnGroup, DrawRequest, Kind, Polarity, SlotState
from polygen_stream.ring.sampler import coin
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.undo_journal import Operation, UndoJournal
from polygen_stream.ring.views import chosen_views


@dataclass(frozen=True)
class LeasedRows:
    """Copies, made under the mutex, of what a draw leased.

    Attributes:
        rows: of the group table, int64 [n]; drawn as PLAIN, NEGATIVE, PAIR.
        kinds: as drawn, n entries.
        times: draws of each group before this one, int64 [n].
        turns: number of this draw among those that chose images of T+, and of T-, of each group, int64 [n, 2]; in
            deterministic mode the step.
    """

    rows: np.ndarray
    kinds: tuple[Kind, ...]
    times: np.ndarray
    turns: np.ndarray

    def recorded_turns(self, spec: RingSpec) -> tuple[tuple[int, int], ...]:
        """Return what a DrawRecord says of `turns`: nothing where a draw takes all images."""
        return tuple((positive, negative) for positive, negative in self.turns.tolist()) if spec.images_per_draw else ()


def check_request(spec: RingSpec, request: DrawRequest) -> None:
    """Refuse a request that no state of this ring could answer.

    Raises:
        ValueError: it asks for no groups, for more than the ring has rows, for other sides that are not the batch or,
            in deterministic mode, for any, or, in replay mode, names no tasks.
    """
    if request.plain < 0 or request.pair < 0 or not 1 <= request.groups <= spec.groups:
        raise ValueError(f"a draw of {request.plain} PLAIN + {request.pair} PAIR groups from {spec.groups} group rows")
    if request.other_sides and (request.pair or len(request.other_sides) != request.plain):
        raise ValueError(
            f"a draw of {len(request.other_sides)} other sides as {request.plain} PLAIN + {request.pair} PAIR groups"
        )
    if request.other_sides and spec.deterministic:
        raise ValueError(f"a draw of {len(request.other_sides)} other sides from a deterministic ring, which pins none")
    if spec.mode == "replay" and (request.exactly is None or len(request.exactly.task_ids) != request.groups):
        named = "no" if request.exactly is None else len(request.exactly.task_ids)
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
    extra = out_of_turn(control, request)
    picked = pick(control, journal, process, request, extra)
    if picked is None:
        return None
    singles, pairs = picked
    twins = _drawn_as_negative(control, request, singles)
    rows = np.concatenate([singles[~twins], singles[twins], pairs])
    plain, negative = rows.size - pairs.size - np.count_nonzero(twins), np.count_nonzero(twins)
    times, turns = c.group_times[rows], c.group_shown.reshape(-1, 2)[rows]
    if spec.deterministic:  # a function of the step: how often a group was drawn before is history
        turns[:] = request.step
    elif spec.mode == "replay" and request.exactly is not None and request.exactly.turns:
        turns = np.array(request.exactly.turns, np.int64)
    journal.add("group_leased", rows, 1)
    journal.add("group_times", rows, 1)
    shown = [2 * rows[:plain], 2 * rows[plain + negative :], 2 * rows[plain:] + 1]
    journal.add("group_shown", np.concatenate(shown), 1)
    if not request.other_sides:
        in_turn = rows[~np.isin(rows, extra)] if extra.size else rows
        note_rounds(control, journal, in_turn, alike=request.by_coin)
    journal.add("lease", process * spec.groups + rows, 1)
    for total, amount in (
        (Total.DRAWS, 1),
        (Total.SAMPLES, rows.size),
        (Total.GROUPS_DRAWN, int(np.count_nonzero(times == 0))),
    ):
        journal.add("total", int(total), amount)
    kinds = (Kind.PLAIN,) * plain + (Kind.NEGATIVE,) * negative + (Kind.PAIR,) * pairs.size
    return LeasedRows(rows, kinds, times, turns)


def _drawn_as_negative(control: Control, request: DrawRequest, singles: np.ndarray) -> np.ndarray:
    """Return of which of the groups drawn alone T- is drawn, bool [n]."""
    if request.exactly is not None and control.spec.mode == "replay":
        return np.array([kind is Kind.NEGATIVE for kind in request.exactly.kinds[: singles.size]], bool)
    c = control.columns
    if request.other_sides:
        chosen = np.array([polarity == Polarity.NEGATIVE for _, _, polarity in request.other_sides])
    elif request.by_coin:
        chosen = coin(control.spec.seed, request.step, c.group_task[singles])
    else:
        return np.zeros(singles.size, bool)
    # A group whose images were rendered again after a resumption may have none of T- any more.
    return chosen & (c.group_kind[singles] == Kind.PAIR)


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
    ring: ReadableRing, rows: np.ndarray, kinds: tuple[Kind, ...], times: np.ndarray, turns: np.ndarray | None = None
) -> tuple[DrawnGroup, ...]:
    """Return the captions and slots of groups that cannot change meanwhile: leased ones, or under the mutex.

    Args:
        ring: where they are.
        rows: of the group table, int64 [n].
        kinds: as drawn, n entries.
        times: draws of each group before this one, int64 [n].
        turns: as in LeasedRows; None: all images.
    """
    c, spec = ring.columns, ring.spec
    slot = c.group_slot.reshape(spec.groups, spec.members)[rows]  # [n, members], stale beyond the group's own
    inside = np.arange(spec.members) < c.group_members[rows][:, None]
    ready = inside & (c.slot_state[slot] == SlotState.READY)
    as_negative, as_pair = ((np.array(kinds) == kind)[:, None] for kind in (Kind.NEGATIVE, Kind.PAIR))
    shows_positive = c.slot_polarity[slot] == Polarity.POSITIVE
    of_positive, of_negative = ready & shows_positive & ~as_negative, ready & ~shows_positive & (as_negative | as_pair)
    if turns is not None and spec.images_per_draw:
        tasks = c.group_task[rows]
        of_positive, of_negative = (
            chosen_views(spec.seed, polarity, tasks, turns[:, polarity], images, spec.images_per_draw)
            for polarity, images in ((Polarity.POSITIVE, of_positive), (Polarity.NEGATIVE, of_negative))
        )
    is_positive, is_negative = of_positive | of_negative & as_negative, of_negative & as_pair
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
        zip(c.group_axis[rows].tolist(), c.group_concept[rows].tolist(), strict=True),
        strict=True,
    )
    drawn = []
    for i, (row, kind, times_sampled, generation, task_id, caption_bytes, negative_bytes, is_pair, board) in enumerate(
        table
    ):
        start = 2 * i * width
        twin = None
        if kind is not Kind.PLAIN:
            twin = texts[start + width : start + width + negative_bytes].decode()
        caption = texts[start : start + caption_bytes].decode()
        if kind is Kind.NEGATIVE:
            caption, twin = twin or "", None
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
                feedback_rows=board,
            )
        )
    return tuple(drawn)


def release(control: Control, process: int, draw: Draw) -> None:
    """End the leases of a draw. The caller has made sure that this process has them."""
    spec, c = control.spec, control.columns
    rows = np.array([group.row for group in draw.groups], dtype=np.int64)
    generations = np.array([group.generation for group in draw.groups], dtype=np.int64)
    taken = [slot for group in draw.groups for slot in (*group.positive_slots, *group.negative_slots)]
    slots = np.unique(np.array(taken, np.int64))  # a replayed batch may have a caption twice
    with control.transition(Operation.RELEASE) as journal:
        cells = process * spec.groups + rows
        assert (c.lease[cells] > 0).all() and (c.group_generation[rows] == generations).all()
        journal.add("group_leased", rows, -1)
        journal.add("lease", cells, -1)
        journal.add("total", int(Total.IMAGES_DRAWN), int(np.count_nonzero(c.slot_drawn[slots] == 0)))
        c.slot_drawn[slots] = 1


def drop_leases(control: Control, journal: UndoJournal, process: int) -> int:
    """End all leases of a dead process. Return the number of groups they were on."""
    groups = control.spec.groups
    assert 0 <= process < PROCESSES
    leases = control.columns.lease[process * groups : (process + 1) * groups]
    rows = np.flatnonzero(leases)
    journal.set("group_leased", rows, control.columns.group_leased[rows] - leases[rows])
    journal.set("lease", process * groups + rows, 0)
    return rows.size
