"""The text of a missed deadline: which kind is short, which generator lags, which process to look at."""

from __future__ import annotations

import time

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.drawing import candidates
from polygen_stream.ring.layout import Total, get_text
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.records import GroupState, Kind, ProcessState, SlotState
from polygen_stream.ring.sampler import Shortage, select


def starved_draw(control: Control, step: int, plain: int, pair: int, waited_s: float) -> str:
    """Why a draw got nothing."""
    with control.reading():
        spec = control.spec
        completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
        limiter = RateLimiter.of(spec)
        head = f"step {step} waited {waited_s:.1f} s for {plain} PLAIN + {pair} PAIR groups: "
        if completed < spec.min_fill:
            return (
                f"{head}{completed} of ring.min_fill {spec.min_fill} groups are complete; {_lagging_producer(control)}"
            )
        if not limiter.may_sample(completed, samples, plain + pair, bool(control.total(Total.FINISHED))):
            return (
                f"{head}the rate limiter holds it back ({completed} groups x samples_per_insert "
                f"{spec.samples_per_insert:g} against {samples} samples); {_lagging_producer(control)}"
            )
        short = select(candidates(control), spec.seed, step, plain, pair)
        if not isinstance(short, Shortage):
            return f"{head}the groups became ready at the last moment; raise ring.draw_timeout_s"
        lagging = _lagging_producer(control, Kind.PAIR if short.kind is Kind.PAIR else None)
        return f"{head}{short.ready} of {short.wanted} {short.kind.name} are ready; {lagging}"


def full_ring(control: Control, task_id: int, kind: Kind, members: int, waited_s: float) -> str:
    """Why a group could not be opened."""
    with control.reading():
        c, spec = control.columns, control.spec
        free = int(np.count_nonzero(c.slot_state == SlotState.FREE))
        opened = int(np.count_nonzero(c.group_state == GroupState.OPEN))
        complete = c.group_state == GroupState.COMPLETE
        unseen = int(np.count_nonzero(complete & (c.group_times == 0)))
        leased = int(np.count_nonzero(c.group_leased))
        head = f"task {task_id} waited {waited_s:.1f} s to open a {kind.name} group of {members} images: "
        state = (
            f"{free} of {spec.slots} slots free, {opened} groups open, {int(complete.sum())} complete "
            f"({unseen} never drawn, {leased} leased)"
        )
        limiter = RateLimiter.of(spec)
        completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
        if opened >= spec.open_limit:
            return f"{head}the limit of {spec.open_limit} open groups is reached, {state}; {_lagging_producer(control)}"
        if not limiter.may_insert(completed, opened, samples):
            return (
                f"{head}the rate limiter holds it back ({completed} + {opened} groups x samples_per_insert "
                f"{spec.samples_per_insert:g} against {samples} samples), {state}; "
                f"{_lagging_trainer(control)}"
            )
        if completed < spec.min_fill:
            return (
                f"{head}{state}, {completed} of ring.min_fill {spec.min_fill} complete; "
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
        return f"no {what} is open; {_waiting_for(control, _role_rows(control, 'captioner'), 'captioner')}"
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


def _role_rows(control: Control, role: str) -> np.ndarray:
    c = control.columns
    live = np.flatnonzero(c.process_state == ProcessState.LIVE).tolist()
    return np.array([row for row in live if get_text(c.process_role[row]) == role], dtype=np.int64)


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
