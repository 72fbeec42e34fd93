"""The text of a missed deadline: which kind is short, which generator lags, which process to look at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.board import late_ranks
from polygen_stream.ring.control import Control
from polygen_stream.ring.groups import full_backlogs
from polygen_stream.ring.layout import Total, get_text
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.limits import Limits, say_left
from polygen_stream.ring.picking import ended_tasks, ready_groups, window_now, within_limits
from polygen_stream.ring.records import DrawRequest, GroupState, Kind, Member, ProcessState, SlotState
from polygen_stream.ring.sampler import NO_ROWS, Shortage, find_sampler
from polygen_stream.ring.window import TaskWindow

OPENERS = ("captioner", "reader")  # roles that open groups


def starved_draw(control: Control, request: DrawRequest, waited_s: float) -> str:
    """Return why a draw got nothing."""
    with control.reading():
        why = _late_receivers(control) or _missing_groups(control, request)
    asked = f"{request.plain} PLAIN + {request.pair} PAIR groups"
    return f"step {request.step} waited {waited_s:.1f} s for {asked}: {why}"


def _late_receivers(control: Control) -> str | None:
    late = late_ranks(control)
    if late is None:
        return None
    step, ranks = late
    return f"rank {', '.join(map(str, ranks))} has not received its slice of step {step} from the draw board"


def _missing_groups(control: Control, request: DrawRequest) -> str:
    spec, limiter = control.spec, RateLimiter.read(control.columns)
    completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
    if spec.deterministic:
        return _open_window(control, request.step)
    if spec.mode == "replay":
        return _lagging_producer(control)
    if completed < limiter.min_fill:
        fill = f"{completed} of ring.min_fill {limiter.min_fill} groups are complete"
        return f"{fill}; {_lagging_producer(control)}"
    if not limiter.may_sample(completed, samples, request.groups, bool(control.total(Total.FINISHED))):
        return (
            f"the rate limiter holds it back ({completed} groups x samples_per_insert "
            f"{limiter.samples_per_insert:g} against {samples} samples); {_lagging_producer(control)}"
        )
    select = find_sampler(spec.sampler)
    short = select(ready_groups(control.columns), spec.seed, request.step, request.plain, request.pair, NO_ROWS)
    if not isinstance(short, Shortage):
        return "the groups became ready at the last moment; raise ring.draw_timeout_s"
    lagging = _lagging_producer(control, Kind.PAIR if short.kind is Kind.PAIR else None)
    return f"{short.ready} of {short.wanted} {short.kind.name} are ready{_used_up(control)}; {lagging}"


def _used_up(control: Control) -> str:
    """Return how many of the complete groups the limits still let a draw take, "" if that is all of them."""
    c, limits = control.columns, Limits.read(control.columns)
    left = int(np.count_nonzero(within_limits(c, limits)))
    complete = int(np.count_nonzero(c.group_state == GroupState.COMPLETE))
    return "" if left == complete else f"; {say_left(left, complete, limits.max_times_sampled, limits.max_age)}"


def _open_window(control: Control, step: int) -> str:
    """Return which task a deterministic draw waits for."""
    c, tasks = control.columns, window_now(control, step)
    awaited = ended_tasks(control, tasks.start).stop
    what = f"it draws from the tasks {tasks.start} to {max(awaited, tasks.stop - 1)} and task {awaited}"
    if ((c.group_task == awaited) & (c.group_state == GroupState.OPEN)).any():
        return f"{what} is being rendered; {_lagging_producer(control)}"
    captioner = _waiting_for(control, _role_rows(control, *OPENERS), "captioner")
    return f"{what} was neither opened nor skipped; {captioner}"


def missing_broadcast(control: Control, step: int, rank: int, waited_s: float) -> str:
    """Return why a rank received no slice."""
    with control.reading():
        steps = control.columns.board_step
        newest = f"the newest step there is {steps.max()}" if (steps >= 0).any() else "it is empty"
        leaders = _waiting_for(control, _role_rows(control, "trainer"), "trainer")
        return (
            f"rank {rank} waited {waited_s:.1f} s for step {step} on the draw board, {newest}; "
            f"{leaders} to broadcast it"
        )


@dataclass(frozen=True)
class _Fill:
    """How full the ring is."""

    free: int  # slots
    opened: int  # groups
    complete: int
    unseen: int  # complete groups that were never drawn
    leased: int

    @classmethod
    def of(cls, control: Control) -> _Fill:
        c = control.columns
        complete = c.group_state == GroupState.COMPLETE
        return cls(
            free=int(np.count_nonzero(c.slot_state == SlotState.FREE)),
            opened=int(np.count_nonzero(c.group_state == GroupState.OPEN)),
            complete=int(np.count_nonzero(complete)),
            unseen=int(np.count_nonzero(complete & (c.group_times == 0))),
            leased=int(np.count_nonzero(c.group_leased)),
        )


def full_ring(control: Control, task_id: int, members: Sequence[Member], waited_s: float) -> str:
    """Return why a group with these members could not be opened, or, without members, a task not be skipped."""
    with control.reading():
        fill = _Fill.of(control)
        state = (
            f"{fill.free} of {control.spec.slots} slots free, {fill.opened} groups open, {fill.complete} complete "
            f"({fill.unseen} never drawn, {fill.leased} leased)"
        )
        why = _reached_bound(control, fill, state, members) or _no_room(control, fill, state)
    return f"task {task_id} waited {waited_s:.1f} s to open a group of {len(members)} images: {why}"


def _reached_bound(control: Control, fill: _Fill, state: str, members: Sequence[Member]) -> str | None:
    """Return which bound on open groups is reached, None if none is."""
    spec, backlogs = control.spec, full_backlogs(control, members)
    if backlogs:
        names = ", ".join(f"'{spec.generators[generator]}'" for generator in backlogs)
        return (
            f"generator {names} has its ring.max_backlog of {spec.max_backlog} images, {state}; "
            f"{_lagging_producer(control)}"
        )
    if fill.opened >= spec.open_limit:
        return f"the limit of {spec.open_limit} open groups is reached, {state}; {_lagging_producer(control)}"
    return None


def _no_room(control: Control, fill: _Fill, state: str) -> str:
    limiter = RateLimiter.read(control.columns)
    completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
    if control.spec.deterministic:
        step = control.total(Total.NEXT_STEP)
        lagging = _lagging_producer(control) if fill.opened else _lagging_trainer(control)
        return (
            f"step {step} is drawn first, it needs the tasks below {TaskWindow.of(control.spec).due(step)}, {state}; "
            f"{lagging}"
        )
    if not limiter.may_insert(completed, fill.opened, samples, control.spec.in_flight):
        return (
            f"the rate limiter holds it back ({completed} + {fill.opened} groups x samples_per_insert "
            f"{limiter.samples_per_insert:g} against {samples} samples), {state}; {_lagging_trainer(control)}"
        )
    if completed < limiter.min_fill:
        remedy = _lagging_producer(control) if fill.opened else "lower ring.min_fill or raise ring.slots"
        return f"{state}, {completed} of ring.min_fill {limiter.min_fill} complete; {remedy}"
    lagging = _lagging_producer(control) if fill.opened > fill.complete else _lagging_trainer(control)
    return f"the ring is full, {state}; {lagging}"


def _lagging_producer(control: Control, kind: Kind | None = None) -> str:
    """Return the generator with the largest backlog in open groups (of one kind, if given), and which process lags."""
    c, spec = control.columns, control.spec
    pending = np.flatnonzero((c.slot_state == SlotState.WANTED) | (c.slot_state == SlotState.WRITING))
    if kind is not None:
        pending = pending[c.group_kind[c.slot_group[pending]] == kind]
    if pending.size == 0:
        what = "group" if kind is None else f"{kind.name} group"
        return f"no {what} is open; {_waiting_for(control, _role_rows(control, *OPENERS), 'captioner')}"
    generator = int(np.bincount(c.slot_generator[pending]).argmax())
    mine = pending[c.slot_generator[pending] == generator]
    writing = mine[c.slot_state[mine] == SlotState.WRITING]
    serving = np.flatnonzero((c.process_serves >> generator) & 1 & (c.process_state == ProcessState.LIVE))
    reason = get_text(c.generator_reason[generator])
    failed = f", last failure: {reason}" if reason else ""
    return (
        f"generator '{spec.generators[generator]}' lags with {mine.size} members ({writing.size} being "
        f"written{failed}); {_waiting_for(control, serving, 'renderer')}"
    )


def _lagging_trainer(control: Control) -> str:
    return _waiting_for(control, _role_rows(control, "trainer"), "trainer") + " to draw"


def _role_rows(control: Control, *roles: str) -> np.ndarray:
    c = control.columns
    live = np.flatnonzero(c.process_state == ProcessState.LIVE).tolist()
    return np.array([row for row in live if get_text(c.process_role[row]) in roles], dtype=np.int64)


def _waiting_for(control: Control, rows: np.ndarray, role: str) -> str:
    """Return the process with the oldest heartbeat among these rows of the process table."""
    if rows.size == 0:
        return f"waiting for a {role} (none is alive)"
    c = control.columns
    row = int(rows[c.process_heartbeat[rows].argmin()])
    process = f"{get_text(c.process_role[row])} '{get_text(c.process_name[row])}'"
    age = (time.monotonic_ns() - int(c.process_heartbeat[row])) / 1e9
    return (
        f"waiting for {process} (pid {int(c.process_pid[row])}, last heartbeat {age:.1f} s ago, "
        f"doing '{get_text(c.process_doing[row])}')"
    )
