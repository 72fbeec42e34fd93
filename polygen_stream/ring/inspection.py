"""Everything `inspect` shows of a ring at one instant, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from polygen_stream.ring.drawing import describe
from polygen_stream.ring.layout import PROCESSES, Total, get_text
from polygen_stream.ring.processes import is_alive, pid_namespace
from polygen_stream.ring.readable import ReadableRing
from polygen_stream.ring.records import GROUP_KINDS, DrawnGroup, GroupState, Kind, ProcessState, SlotState
from polygen_stream.ring.state import RingState
from polygen_stream.ring.stats import RingStats, ring_stats


@dataclass(frozen=True)
class Owner:
    """A process of the ring, and what it owns and leases."""

    pid: int
    role: str
    name: str
    alive: bool | None  # None: its pid means nothing here (a finished run, another PID namespace)
    doing: str
    heartbeat_age_s: float  # at the instant of the copy
    wait_s: float
    busy_s: float
    writing: int  # members it owns
    leases: int  # groups it keeps from eviction by draws


@dataclass(frozen=True)
class Age:
    """The oldest group of one state: openings and steps since it was opened."""

    task_id: int
    openings: int
    steps: int


@dataclass(frozen=True)
class Inspection:
    """stats: see RingStats; its `processes` are the `owners` here."""

    stats: RingStats
    slots: int
    group_rows: int
    members: dict[str, dict[str, int]]  # generator -> slot state -> members
    owners: list[Owner]
    oldest: dict[str, Age]  # group state -> its oldest group
    reuse: dict[str, dict[int, int]]  # kind -> draws so far -> complete groups

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        values = asdict(self)
        del values["stats"]["processes"]
        return values


def inspect_state(state: RingState, running: bool) -> Inspection:
    """running: the ring's run was alive when the state was copied, so its processes can be looked up."""
    c, spec = state.columns, state.spec
    return Inspection(
        stats=replace(ring_stats(state), processes=[]),
        slots=spec.slots,
        group_rows=spec.groups,
        members={
            name: {
                member.name.lower(): int(np.count_nonzero((c.slot_generator == index) & (c.slot_state == member)))
                for member in SlotState
                if member is not SlotState.FREE  # keeps the generator of its last picture
            }
            for index, name in enumerate(spec.generators)
        },
        owners=_owners(state, running),
        oldest={
            group.name.lower(): age
            for group in (GroupState.OPEN, GroupState.COMPLETE)
            if (age := _oldest(state, group)) is not None
        },
        reuse={kind.name.lower(): _reuse(state, kind) for kind in GROUP_KINDS},
    )


def complete_groups(ring: ReadableRing, limit: int | None = None) -> list[DrawnGroup]:
    """Return all complete groups, or the first `limit`, by task id. The caller holds the mutex of a mapped ring."""
    c = ring.columns
    rows = np.flatnonzero(c.group_state == GroupState.COMPLETE)
    rows = rows[np.argsort(c.group_task[rows], kind="stable")][:limit]
    return list(describe(ring, rows, tuple(Kind(kind) for kind in c.group_kind[rows].tolist()), c.group_times[rows]))


def _owners(state: RingState, running: bool) -> list[Owner]:
    c = state.columns
    known = running and state.pid_namespace == pid_namespace()
    leases = c.lease.reshape(PROCESSES, state.spec.groups)
    owners = []
    for row in np.flatnonzero(c.process_state != ProcessState.FREE).tolist():
        alive: bool | None = False  # a DEAD row was reaped
        if c.process_state[row] == ProcessState.LIVE:
            alive = is_alive(int(c.process_pid[row]), int(c.process_start[row])) if known else None
        owners.append(
            Owner(
                pid=int(c.process_pid[row]),
                role=get_text(c.process_role[row]),
                name=get_text(c.process_name[row]),
                alive=alive,
                doing=get_text(c.process_doing[row]),
                # heartbeats go on during the copy
                heartbeat_age_s=max(0, state.monotonic_ns - int(c.process_heartbeat[row])) / 1e9,
                wait_s=int(c.process_wait_ns[row]) / 1e9,
                busy_s=int(c.process_busy_ns[row]) / 1e9,
                writing=int(np.count_nonzero(c.slot_owner == row)),
                leases=int(np.count_nonzero(leases[row])),
            )
        )
    return owners


def _oldest(state: RingState, group_state: GroupState) -> Age | None:
    c = state.columns
    rows = np.flatnonzero(c.group_state == group_state)
    if rows.size == 0:
        return None
    row = rows[c.group_order[rows].argmin()]
    return Age(
        task_id=int(c.group_task[row]),
        openings=state.total(Total.SEQUENCE) - 1 - int(c.group_order[row]),
        steps=state.total(Total.STEP) - int(c.group_step[row]),
    )


def _reuse(state: RingState, kind: Kind) -> dict[int, int]:
    c = state.columns
    times = c.group_times[(c.group_state == GroupState.COMPLETE) & (c.group_kind == kind)]
    return dict(zip(*(column.tolist() for column in np.unique(times, return_counts=True)), strict=True))
