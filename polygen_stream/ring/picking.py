"""Which groups the draw of a step takes, in each mode. The caller holds the mutex in a DRAW transition.

Throughput: from the complete groups that the reuse and age limits leave, in rounds, after those that the caller asks
for first, and if the rate limiter allows a draw. A round is one pass over the groups of a kind: each is drawn once, in
an order that a hash decides. A group that becomes complete joins the round that draws have reached. If the least
sampled were drawn first instead, a new group would be in every batch until it had caught up with the old ones: batches
of the newest captions alone, each a few times in a row, and the rest of the ring idle (docs/results/streaming.md has
the cost).

With RingSpec.catch_up > 1 a part of the batch is drawn out of turn, from the groups that came late (catch_up.py).

Replay: the tasks that the caller names, as recorded in the draw log of another run, once all of them are complete.

Deterministic: from the complete groups of the step's window of task ids (window.py), once every task of it has ended.
The order is a keyed hash of (seed, step, task id) alone. It does not depend on how often a group was drawn before, or a
resumed run would need that history. So the batch is a function of (seed, step), the counts asked for and the content of
the tasks, and not of the order of arrival, of timing, of the number of renderers or of earlier draws. The content of a
task is a function of its id as far as captioner and renderers are deterministic; for that, this mode treats failures as
follows:

- A member fails only by `Ring.fail`, the renderer's verdict on a picture, `max_retries` + 1 times; with the task's own
  seed that verdict is the same in every run, and so is the degraded group. A group without a positive is dropped, its
  task stays in the window as one without a group.
- The death of a process costs no retry: its members are rendered again, however often that takes, and a draw waits.
- No generator can be given up (`generator_down`): batches would depend on when that happened. The run ends instead.
- Groups leave by age in task ids only. Pins, reuse and age limits, and the rate limiter are off.

A window that cannot fill the batch (failed tasks, texts that occur twice, too few PAIR groups) is extended at its end,
task by task, each one waited for, until it can. When it has all that the ring can hold, or all that will ever be
produced, RingExhausted says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import RingExhausted
from polygen_stream.ring.layout import RingColumns, Total
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.records import DrawRequest, GroupState, Kind
from polygen_stream.ring.sampler import NO_ROWS, Candidates, Shortage, coin, find_sampler
from polygen_stream.ring.undo_journal import UndoJournal
from polygen_stream.ring.window import TaskWindow

Rows = tuple[np.ndarray, np.ndarray]  # group rows drawn as PLAIN and as PAIR, int64


def pick(control: Control, journal: UndoJournal, process: int, request: DrawRequest, extra: np.ndarray) -> Rows | None:
    """Return the group rows of a batch, or None while it has to wait.

    Args:
        control: the ring, in the caller's transition.
        journal: of that transition.
        process: row of the process that draws, noted as the one that waits if it has to.
        request: the batch.
        extra: rows that are drawn out of turn in throughput mode, int64 [n], after `request.first` and before others.

    Raises:
        RingExhausted: the batch can never be filled.
        UserError: the rate limiter's window is narrower than the batch.
    """
    if control.spec.mode == "replay":
        return _named(control, request)
    if request.groups > control.total(Total.LARGEST_DRAW):
        journal.set("total", int(Total.LARGEST_DRAW), request.groups)
    if control.spec.deterministic:
        return _from_window(control, journal, request)
    return _from_ready(control, journal, process, request, extra)


def _named(control: Control, request: DrawRequest) -> Rows | None:
    assert request.exactly is not None, "checked before"
    c, tasks = control.columns, np.array(request.exactly.task_ids, np.int64)
    complete = np.flatnonzero(c.group_state == GroupState.COMPLETE)
    complete = complete[np.argsort(c.group_task[complete], kind="stable")]
    places = np.searchsorted(c.group_task[complete], tasks)
    there = np.zeros(tasks.size, bool)
    inside = places < complete.size
    there[inside] = c.group_task[complete[places[inside]]] == tasks[inside]
    if there.all():
        rows = complete[places]
        return rows[: request.plain], rows[request.plain :]
    if control.total(Total.FINISHED) and not (c.group_state == GroupState.OPEN).any():
        raise RingExhausted(
            f"step {request.step} replays task {tasks[~there][0]}, which is not in the ring although production is "
            "over: it failed to render, or the journal is not that of the draw log"
        )
    return None


def _from_ready(
    control: Control, journal: UndoJournal, process: int, request: DrawRequest, extra: np.ndarray
) -> Rows | None:
    c, limiter = control.columns, RateLimiter.read(control.columns)
    limiter.check_batch(request.groups)
    completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
    finished = bool(control.total(Total.FINISHED))
    over = finished and not (c.group_state == GroupState.OPEN).any()
    if not limiter.may_sample(completed, samples, request.groups, finished):
        if over:
            raise RingExhausted(
                f"step {request.step}: production is over with {completed} complete groups but ring.min_fill "
                f"is {limiter.min_fill}; lower ring.min_fill or raise captions.target"
            )
        note_starvation(control, journal, process, None, held_back=completed >= limiter.min_fill)
        return None
    if request.other_sides:
        return _pinned(control, journal, process, request)
    groups = _by_coin(control, request, ready_groups(c))
    first = np.array([row for row, given in request.first if c.group_generation[row] == given], np.int64)
    if extra.size:
        first = np.concatenate([first, extra[~np.isin(extra, first)]])
    select = find_sampler(control.spec.sampler)
    selected = select(groups, control.spec.seed, request.step, request.plain, request.pair, first)
    if not isinstance(selected, Shortage):
        note_starvation(control, journal, process, None)
        return selected
    if over:
        limits = Limits.read(c)
        raise RingExhausted(
            f"step {request.step} wants {selected.wanted} {selected.kind.name} groups, {selected.ready} are "
            f"left and production is over ({np.count_nonzero(groups.drawable)} drawable groups, "
            f"ring.max_times_sampled {limits.max_times_sampled}, ring.max_age {limits.max_age}); "
            "raise captions.target, ring.max_times_sampled or ring.max_age"
        )
    note_starvation(control, journal, process, selected)
    return None


def _pinned(control: Control, journal: UndoJournal, process: int, request: DrawRequest) -> Rows | None:
    """Return the groups of `request.other_sides`; None while one of them is rendered again."""
    c = control.columns
    rows, generations, _ = np.array(request.other_sides, np.int64).T
    if (c.group_generation[rows] != generations).any() or not c.group_pinned[rows].all():
        raise PolygenError(f"step {request.step}: a group whose other text was to be drawn is no longer pinned")
    note_starvation(control, journal, process, None)
    return (rows, NO_ROWS) if (c.group_state[rows] == GroupState.COMPLETE).all() else None


def _by_coin(control: Control, request: DrawRequest, groups: Candidates) -> Candidates:
    """Let a draw by coin see the texts that it would take, so that no text comes twice in a batch."""
    if not request.by_coin:
        return groups
    swap = coin(control.spec.seed, request.step, groups.task) & (groups.kind == Kind.PAIR)
    return replace(
        groups,
        caption_key=np.where(swap, groups.negative_key, groups.caption_key),
        negative_key=np.where(swap, groups.caption_key, groups.negative_key),
        alike=True,
    )


def ready_groups(c: RingColumns) -> Candidates:
    """Return all groups that a draw may take now in throughput mode."""
    return _candidates(c, within_limits(c, Limits.read(c)), c.group_round)


def within_limits(c: RingColumns, limits: Limits) -> np.ndarray:
    """Return which groups are complete and neither drawn as often nor as old as the limits let them be, bool [n]."""
    drawable = c.group_state == GroupState.COMPLETE
    if limits.max_times_sampled:
        drawable &= c.group_times < limits.max_times_sampled
    if limits.max_age:
        drawable &= c.group_step >= int(c.total[Total.STEP]) - limits.max_age
    return drawable


def note_rounds(control: Control, journal: UndoJournal, rows: np.ndarray, alike: bool = False) -> None:
    """Move groups that were drawn in turn to the next round; the round of their kind becomes theirs if it was earlier.

    Args:
        control: the ring, in the caller's transition.
        journal: of that transition.
        rows: of the groups, int64 [n].
        alike: whether both kinds are drawn alike and so are in the same rounds.
    """
    c = control.columns
    is_pair = c.group_kind[rows] == Kind.PAIR
    plains, pairs = (rows, rows) if alike else (rows[~is_pair], rows[is_pair])
    for total, mine in ((Total.ROUND, plains), (Total.PAIR_ROUND, pairs)):
        latest = int(c.group_round[mine].max(initial=0))
        if latest > control.total(total):
            journal.set("total", int(total), latest)
    journal.add("group_round", rows, 1)


def _from_window(control: Control, journal: UndoJournal, request: DrawRequest) -> Rows | None:
    c, spec, step = control.columns, control.spec, request.step
    if step > control.total(Total.NEXT_STEP):
        journal.set("total", int(Total.NEXT_STEP), step)
    tasks = window_now(control, step)
    if tasks.start < control.total(Total.PASSED):
        raise RingExhausted(
            f"step {step} draws from the tasks {tasks.start} to {tasks.stop - 1}, but those below "
            f"{control.total(Total.PASSED)} made room for later steps; resume with a new ring"
        )
    ended = ended_tasks(control, tasks.start)
    if ended.stop < tasks.stop:
        return None
    inside = (c.group_state == GroupState.COMPLETE) & (c.group_task >= ended.start) & (c.group_task < ended.stop)
    select = find_sampler(spec.sampler)
    for stop in _promising_stops(c, inside, tasks, ended, request):
        drawable = inside & (c.group_task < stop)
        groups = _by_coin(control, request, _candidates(c, drawable, np.zeros_like(c.group_round)))
        selected = select(groups, spec.seed, step, request.plain, request.pair, NO_ROWS)
        if not isinstance(selected, Shortage):
            return selected
    last = tasks.start + TaskWindow.of(spec).capacity
    if ended.stop < last and not (control.total(Total.FINISHED) and ended.stop >= control.total(Total.KNOWN)):
        return None
    pairs = np.count_nonzero(inside & (c.group_kind == Kind.PAIR))
    raise RingExhausted(
        f"step {step} wants {request.plain} PLAIN + {request.pair} PAIR groups of different texts, but the tasks "
        f"{ended.start} to {ended.stop - 1}, all it may draw from, have {np.count_nonzero(inside)} groups, {pairs} of "
        "them PAIR; raise ring.window or captions.target, or lower curriculum.end"
    )


def ended_tasks(control: Control, start: int) -> range:
    """Return the tasks from `start` on, as far as each is complete, dropped or skipped and the ring can hold them."""
    c, stop = control.columns, start + TaskWindow.of(control.spec).capacity
    inside = (c.group_task >= start) & (c.group_task < stop)
    if control.total(Total.FINISHED):  # a task that was never opened has no group
        opened = c.group_task[inside & (c.group_state == GroupState.OPEN)]
        return range(start, int(opened.min(initial=min(stop, control.total(Total.KNOWN)))))
    ended = inside & ((c.group_state == GroupState.COMPLETE) | (c.group_state == GroupState.SKIPPED))
    there = np.zeros(stop - start + 1, dtype=bool)
    there[c.group_task[ended] - start] = True
    return range(start, start + int(np.argmin(there)))


def _promising_stops(c: RingColumns, inside: np.ndarray, tasks: range, ended: range, request: DrawRequest) -> range:
    """Return the ends of the window, from its own on, with enough groups inside; texts may still coincide."""
    task = c.group_task[inside]
    pairs = np.cumsum(np.bincount(task[c.group_kind[inside] == Kind.PAIR] - ended.start, minlength=len(ended)))
    groups = np.cumsum(np.bincount(task - ended.start, minlength=len(ended)))
    enough = np.flatnonzero((pairs >= request.pair) & (groups >= request.groups))
    return range(max(tasks.stop, ended.start + int(enough[0]) + 1), ended.stop + 1) if enough.size else range(0)


def window_now(control: Control, step: int) -> range:
    """Return the task ids the batch of `step` is drawn from, as far as production is known to go."""
    total = control.total(Total.KNOWN) if control.total(Total.FINISHED) else None
    return TaskWindow.of(control.spec).tasks(step, total)


def _candidates(c: RingColumns, drawable: np.ndarray, rounds: np.ndarray) -> Candidates:
    return Candidates(
        drawable=drawable,
        kind=c.group_kind,
        round=rounds,
        task=c.group_task,
        caption_key=c.group_caption_key,
        negative_key=c.group_negative_key,
    )


def note_starvation(
    control: Control, journal: UndoJournal, process: int, short: Shortage | None, held_back: bool = False
) -> None:
    """Record what a draw waits for, or that it no longer waits.

    Eviction (rules 3 and 4) and the rate limiter then admit the groups that it waits for. If several draws are
    starving, the first is recorded.

    Args:
        control: the ring, in the caller's transition.
        journal: of that transition.
        process: row of the process that draws.
        short: the groups that are missing, None if that is not why it waits.
        held_back: whether the rate limiter makes it wait for inserts.
    """
    mine = process + 1
    starved = short is not None and short.kind is Kind.PAIR
    for total, starving in (
        (Total.STARVED_PAIR, starved),
        (Total.STARVED_ANY, short is not None),
        (Total.HELD_BACK, held_back),
    ):
        before = control.total(total)
        if starving and before == 0:
            journal.set("total", int(total), mine)
        elif not starving and before == mine:
            journal.set("total", int(total), 0)
    if short is not None and control.total(Total.STARVED_ANY) == mine:
        journal.set("total", int(Total.MISSING), short.wanted - short.ready)
