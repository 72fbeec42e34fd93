"""Drawing: one critical section picks, counts and leases a whole batch of groups; releasing gives the leases
back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import RingExhausted
from polygen_stream.ring.journal import Journal, Operation
from polygen_stream.ring.layout import PROCESSES, Total
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.records import Draw, DrawnGroup, GroupState, Kind, Polarity, SlotState
from polygen_stream.ring.sampler import Candidates, Shortage, select


@dataclass(frozen=True)
class Picked:
    """Copies, made under the mutex, of what a draw leased."""

    rows: np.ndarray  # int64 [n], PLAIN first
    kinds: tuple[Kind, ...]
    times: np.ndarray  # before this draw


def candidates(control: Control) -> Candidates:
    """All groups a draw may take now. The caller holds the mutex."""
    c, most = control.columns, control.spec.max_times_sampled
    drawable = c.group_state == GroupState.COMPLETE
    if most:
        drawable &= c.group_times < most
    rows = np.flatnonzero(drawable)
    return Candidates(
        row=rows,
        kind=c.group_kind[rows],
        times=c.group_times[rows],
        task=c.group_task[rows],
        caption_key=c.group_caption_key[rows],
        negative_key=c.group_negative_key[rows],
    )


def try_draw(control: Control, process: int, step: int, plain: int, pair: int) -> Picked | None:
    """Leases plain + pair groups if that is allowed and possible now. RingExhausted: it never will be."""
    c, spec = control.columns, control.spec
    with control.transition(Operation.DRAW) as journal:
        completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
        finished = bool(control.total(Total.FINISHED))
        over = finished and not (c.group_state == GroupState.OPEN).any()
        if not RateLimiter.of(spec).may_sample(completed, samples, plain + pair, finished):
            if over:
                raise RingExhausted(
                    f"step {step}: production is over with {completed} complete groups but ring.min_fill "
                    f"is {spec.min_fill}; lower ring.min_fill or raise captions.target"
                )
            return None
        groups = candidates(control)
        selected = select(groups, spec.seed, step, plain, pair)
        if isinstance(selected, Shortage):
            if over:
                raise RingExhausted(
                    f"step {step} wants {selected.wanted} {selected.kind.name} groups, {selected.ready} are "
                    f"left and production is over ({groups.row.size} drawable groups, ring.max_times_sampled "
                    f"{spec.max_times_sampled}); raise captions.target or ring.max_times_sampled"
                )
            _note_starvation(control, journal, process, selected.kind is Kind.PAIR)
            return None
        _note_starvation(control, journal, process, False)
        positions = np.concatenate(selected)
        rows, times = groups.row[positions], groups.times[positions]
        journal.add("group_leased", rows, 1)
        journal.add("group_times", rows, 1)
        journal.add("lease", process * spec.groups + rows, 1)
        for total, amount in (
            (Total.DRAWS, 1),
            (Total.SAMPLES, rows.size),
            (Total.GROUPS_DRAWN, int(np.count_nonzero(times == 0))),
        ):
            journal.add("total", int(total), amount)
    plains, pairs = selected
    return Picked(rows, (Kind.PLAIN,) * plains.size + (Kind.PAIR,) * pairs.size, times)


def _note_starvation(control: Control, journal: Journal, process: int, starved: bool) -> None:
    """Lets eviction know that PAIR groups are waited for (see eviction.py, rule 3)."""
    before, mine = control.total(Total.STARVED), process + 1
    if starved and before == 0:
        journal.set("total", int(Total.STARVED), mine)
    elif not starved and before == mine:
        journal.set("total", int(Total.STARVED), 0)


def end_starvation(control: Control, process: int) -> None:
    """A draw gave up waiting."""
    with control.transition(Operation.DRAW) as journal:
        _note_starvation(control, journal, process, False)


def describe(control: Control, rows: np.ndarray, kinds: tuple[Kind, ...], times: np.ndarray) -> tuple[DrawnGroup, ...]:
    """What the trainer needs of groups that are leased (or read under the mutex): their rows stand still."""
    c, spec = control.columns, control.spec
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
        strict=True,
    )
    drawn = []
    for i, (row, kind, times_sampled, generation, task_id, caption_bytes, negative_bytes) in enumerate(table):
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
            )
        )
    return tuple(drawn)


def release(control: Control, process: int, draw: Draw) -> None:
    """Gives the leases of a draw back. The caller knows that this process holds them."""
    spec, c = control.spec, control.columns
    rows = np.array([group.row for group in draw.groups], dtype=np.int64)
    generations = np.array([group.generation for group in draw.groups], dtype=np.int64)
    with control.transition(Operation.RELEASE) as journal:
        cells = process * spec.groups + rows
        assert (c.lease[cells] > 0).all() and (c.group_generation[rows] == generations).all()
        journal.add("group_leased", rows, -1)
        journal.add("lease", cells, -1)


def drop_leases(control: Control, journal: Journal, process: int) -> int:
    """Returns all leases of a dead process; how many groups they were on."""
    groups = control.spec.groups
    assert 0 <= process < PROCESSES
    held = control.columns.lease[process * groups : (process + 1) * groups]
    rows = np.flatnonzero(held)
    journal.set("group_leased", rows, control.columns.group_leased[rows] - held[rows])
    journal.set("lease", process * groups + rows, 0)
    return rows.size
