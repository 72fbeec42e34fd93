"""The text of a missed deadline: which kind is short, which generator lags, which process to look at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from polygen_stream.ring.board import late_ranks
from polygen_stream.ring.control import Control
from polygen_stream.ring.groups import full_backlogs
from polygen_stream.ring.layout import Total, get_text
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.picking import ended_tasks, ready_groups, window_now
from polygen_stream.ring.records import GroupState, Kind, Member, ProcessState, SlotState
from polygen_stream.ring.sampler import NO_ROWS, Shortage, find_sampler
from polygen_stream.ring.window import TaskWindow

OPENERS = ("captioner", "reader")  # roles that open groups


def starved_draw(control: Control, step: int, plain: int, pair: int, waited_s: float) -> str:
    """Why a draw got nothing."""
    with control.reading():
        spec = control.spec
        completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
        limiter = RateLimiter.read(control.columns)
        head = f"step {step} waited {waited_s:.1f} s for {plain} PLAIN + {pair} PAIR groups: "
        late = late_ranks(control)
        if late is not None:
            posted, ranks = late
            return (
                f"{head}rank {', '.join(map(str, ranks))} has not taken its slice of step {posted} off the draw board"
            )
        if spec.deterministic:
            return head + _open_window(control, step)
        if spec.mode == "replay":
            return head + _lagging_producer(control)
        if completed < limiter.min_fill:
            fill = f"{completed} of ring.min_fill {limiter.min_fill} groups are complete"
            return f"{head}{fill}; {_lagging_producer(control)}"
        if not limiter.may_sample(completed, samples, plain + pair, bool(control.total(Total.FINISHED))):
            return (
                f"{head}the rate limiter holds it back ({completed} groups x samples_per_insert "
                f"{limiter.samples_per_insert:g} against {samples} samples); {_lagging_producer(control)}"
            )
        short = find_sampler(spec.sampler)(ready_groups(control.columns), spec.seed, step, plain, pair, NO_ROWS)
        if not isinstance(short, Shortage):
            return f"{head}the groups became ready at the last moment; raise ring.draw_timeout_s"
        lagging = _lagging_producer(control, Kind.PAIR if short.kind is Kind.PAIR else None)
        return f"{head}{short.ready} of {short.wanted} {short.kind.name} are ready; {lagging}"


def _open_window(control: Control, step: int) -> str:
    """Which task a deterministic draw waits for."""
    c, tasks = control.columns, window_now(control, step)
    awaited = ended_tasks(control, tasks.start).stop
    what = f"it draws from the tasks {tasks.start} to {max(awaited, tasks.stop - 1)} and task {awaited}"
    if ((c.group_task == awaited) & (c.group_state == GroupState.OPEN)).any():
        return f"{what} is being rendered; {_lagging_producer(control)}"
    captioner = _waiting_for(control, _role_rows(control, *OPENERS), "captioner")
    return f"{what} was neither opened nor skipped; {captioner}"


def missing_broadcast(control: Control, step: int, rank: int, waited_s: float) -> str:
    """Why a rank got no slice."""
    with control.reading():
        posted = control.columns.board_step
        newest = f"the newest step there is {posted.max()}" if (posted >= 0).any() else "it is empty"
        leaders = _waiting_for(control, _role_rows(control, "trainer"), "trainer")
        return f"rank {rank} waited {waited_s:.1f} s for step {step} on the draw board, {newest}; {leaders} to post it"


def full_ring(control: Control, task_id: int, members: Sequence[Member], waited_s: float) -> str:
    """Why a group could not be opened (members), or a task not be skipped (none)."""
    with control.reading():
        c, spec = control.columns, control.spec
        free = int(np.count_nonzero(c.slot_state == SlotState.FREE))
        opened = int(np.count_nonzero(c.group_state == GroupState.OPEN))
        complete = c.group_state == GroupState.COMPLETE
        unseen = int(np.count_nonzero(complete & (c.group_times == 0)))
        leased = int(np.count_nonzero(c.group_leased))
        head = f"task {task_id} waited {waited_s:.1f} s to open a group of {len(members)} images: "
        state = (
            f"{free} of {spec.slots} slots free, {opened} groups open, {int(complete.sum())} complete "
            f"({unseen} never drawn, {leased} leased)"
        )
        limiter = RateLimiter.read(c)
        completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
        backlogs = full_backlogs(control, members)
        if backlogs:
            names = ", ".join(f"'{spec.generators[generator]}'" for generator in backlogs)
            return (
                f"{head}generator {names} has its ring.max_backlog of {spec.max_backlog} images, {state}; "
                f"{_lagging_producer(control)}"
            )
        if opened >= spec.open_limit:
            return f"{head}the limit of {spec.open_limit} open groups is reached, {state}; {_lagging_producer(control)}"
        if spec.deterministic:
            step = control.total(Total.NEXT_STEP)
            return (
                f"{head}step {step} is drawn first, it needs the tasks below {TaskWindow.of(spec).due(step)}, {state}; "
                f"{_lagging_producer(control) if opened else _lagging_trainer(control)}"
            )
        if not limiter.may_insert(completed, opened, samples):
            return (
                f"{head}the rate limiter holds it back ({completed} + {opened} groups x samples_per_insert "
                f"{limiter.samples_per_insert:g} against {samples} samples), {state}; "
                f"{_lagging_trainer(control)}"
            )
        if completed < limiter.min_fill:
            return (
                f"{head}{state}, {completed} of ring.min_fill {limiter.min_fill} complete; "
                f"{_lagging_producer(control) if opened else 'lower ring.min_fill or raise ring.slots'}"
            )
        rendering = opened > int(complete.sum())
        lagging = _lagging_producer(control) if rendering else _lagging_trainer(control)
        return f"{head}the ring is full, {state}; {lagging}"


def _lagging_producer(control: Control, kind: Kind | None = None) -> str:
    """The generator with the largest backlog in open groups (of one kind, if given), and who serves it."""
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
    if rows.size == 0:
        return f"waiting for a {role} (none is alive)"
    c = control.columns
    row = int(rows[c.process_heartbeat[rows].argmin()])
    who = f"{get_text(c.process_role[row])} '{get_text(c.process_name[row])}'"
    age = (time.monotonic_ns() - int(c.process_heartbeat[row])) / 1e9
    return (
        f"waiting for {who} (pid {int(c.process_pid[row])}, last heartbeat {age:.1f} s ago, "
        f"doing '{get_text(c.process_doing[row])}')"
    )
