"""Numbers about a ring at one instant, for the status screen, the metrics file and the run summary."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from polygen_stream.ring.layout import Total, get_text
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.limits import Limits, say_left
from polygen_stream.ring.picking import within_limits
from polygen_stream.ring.readable import ReadableRing
from polygen_stream.ring.records import GROUP_KINDS, GroupState, Kind, ProcessState, SlotState


@dataclass(frozen=True)
class RingStats:
    """Counters are totals over the run. Also reads like a mapping: stats["draws"], dict(stats)."""

    images_committed: dict[str, int]  # per generator
    failed: dict[str, int]  # members that ended FAILED, per generator
    last_failure: dict[str, str]  # per generator that ever failed
    backlog: dict[str, int]  # members WANTED or WRITING now, per generator
    stale_commits: int
    groups: dict[str, dict[str, int]]  # "plain" | "pair" -> "open" | "complete" | "leased"
    drawable: dict[str, int]  # complete groups that max_times_sampled and max_age still let a draw take, per kind
    held_back: bool  # a draw waits because of the rate limiter
    groups_opened: int
    groups_completed: int
    evicted: int
    dropped: int  # groups without a READY positive
    degraded: int  # completed with a FAILED member
    demoted: int  # PAIR groups without a READY negative
    captions_rejected: int
    skipped: int  # tasks without a group, deterministic mode
    known: int  # 1 + largest task id opened or skipped; 0 before the first
    generators_down: tuple[str, ...]  # given up
    pinned: int  # groups that may not be evicted, see pins.py
    pins_refused: int  # the budget of pins was spent
    pins_gone: int  # the group had been evicted before
    retries: int
    reaped: int  # members taken back from dead processes
    recoveries: int  # times the mutex was taken over from a dead holder
    free_slots: int
    free_groups: int
    open_wait_s: float
    draw_wait_s: float
    draws: int
    samples: int  # groups drawn, with repetition
    images_drawn: int  # different images that draws took
    mean_reuse: float  # samples / different groups drawn
    limiter: dict[str, float]
    step: int
    finished_opening: bool
    processes: list[dict[str, Any]]

    @property
    def draw_bounds(self) -> list[str]:
        """What keeps draws from complete groups now, in words for a user; [] if nothing does."""
        most, age = int(self.limiter["max_times_sampled"]), int(self.limiter["max_age"])
        left, complete = sum(self.drawable.values()), sum(counts["complete"] for counts in self.groups.values())
        said = []
        if left < complete:
            said.append(say_left(left, complete, most, age))
        if self.held_back:
            per_insert = self.limiter["samples_per_insert"]
            said.append(
                "the rate limiter holds a draw back until more captions are complete "
                f"(ring.samples_per_insert = {per_insert:g})"
            )
        return said

    def keys(self) -> list[str]:
        """Return the names of the numbers."""
        return [field.name for field in fields(self)]

    def __getitem__(self, name: str) -> object:
        return getattr(self, name)


def ring_stats(control: ReadableRing) -> RingStats:
    """Return the numbers of a ring, or of a copy of its columns."""
    with control.reading():
        c, names, t = control.columns, control.spec.generators, control.total
        pending = (c.slot_state == SlotState.WANTED) | (c.slot_state == SlotState.WRITING)
        backlog = np.bincount(c.slot_generator[pending], minlength=len(names))
        reasons = {name: get_text(c.generator_reason[i]) for i, name in enumerate(names)}
        limits, limiter = Limits.read(c), RateLimiter.read(c)
        stats = RingStats(
            images_committed=dict(zip(names, c.generator_committed.tolist(), strict=True)),
            failed=dict(zip(names, c.generator_failed.tolist(), strict=True)),
            last_failure={name: reason for name, reason in reasons.items() if reason},
            backlog=dict(zip(names, backlog.tolist(), strict=True)),
            stale_commits=t(Total.STALE),
            groups={kind.name.lower(): _group_counts(control, kind) for kind in GROUP_KINDS},
            drawable={},
            held_back=t(Total.HELD_BACK) > 0,
            groups_opened=t(Total.OPENED),
            groups_completed=t(Total.COMPLETED),
            evicted=t(Total.EVICTED),
            dropped=t(Total.DROPPED),
            degraded=t(Total.DEGRADED),
            demoted=t(Total.DEMOTED),
            captions_rejected=t(Total.CAPTIONS_REJECTED),
            skipped=t(Total.SKIPPED),
            known=t(Total.KNOWN),
            generators_down=tuple(name for name, down in zip(names, c.generator_down.tolist(), strict=True) if down),
            pinned=int(np.count_nonzero(c.group_pinned)),
            pins_refused=t(Total.PINS_REFUSED),
            pins_gone=t(Total.PINS_GONE),
            retries=t(Total.RETRIES),
            reaped=t(Total.REAPED),
            recoveries=t(Total.RECOVERIES),
            free_slots=int(np.count_nonzero(c.slot_state == SlotState.FREE)),
            free_groups=int(np.count_nonzero(c.group_state == GroupState.FREE)),
            open_wait_s=t(Total.OPEN_WAIT_NS) / 1e9,
            draw_wait_s=t(Total.DRAW_WAIT_NS) / 1e9,
            draws=t(Total.DRAWS),
            samples=t(Total.SAMPLES),
            images_drawn=t(Total.IMAGES_DRAWN),
            mean_reuse=t(Total.SAMPLES) / max(1, t(Total.GROUPS_DRAWN)),
            limiter={
                "samples_per_insert": limiter.samples_per_insert,
                "error_buffer": limiter.error_buffer,
                "min_fill": limiter.min_fill,
                "max_times_sampled": limits.max_times_sampled,
                "max_age": limits.max_age,
                "difference": limiter.difference(t(Total.COMPLETED), t(Total.SAMPLES)),
                "min_difference": limiter.min_difference,
                "max_difference": limiter.max_difference,
            },
            step=t(Total.STEP),
            finished_opening=bool(t(Total.FINISHED)),
            processes=_processes(control),
        )
    # Outside of the mutex, which a draw may want: of a ring in use the count may be a few groups older or newer.
    return replace(stats, drawable=_drawable(control, limits, stats))


def _drawable(control: ReadableRing, limits: Limits, stats: RingStats) -> dict[str, int]:
    complete = {kind: counts["complete"] for kind, counts in stats.groups.items()}
    if not (limits.max_times_sampled or limits.max_age):
        return complete
    c = control.columns
    within = within_limits(c, limits)
    counted = {kind.name.lower(): int(np.count_nonzero(within & (c.group_kind == kind))) for kind in GROUP_KINDS}
    return {kind: min(count, complete[kind]) for kind, count in counted.items()}


def _group_counts(control: ReadableRing, kind: Kind) -> dict[str, int]:
    c = control.columns
    mine = c.group_kind == kind
    return {
        "open": int(np.count_nonzero(mine & (c.group_state == GroupState.OPEN))),
        "complete": int(np.count_nonzero(mine & (c.group_state == GroupState.COMPLETE))),
        "leased": int(np.count_nonzero(mine & (c.group_leased > 0))),
    }


def _processes(control: ReadableRing) -> list[dict[str, Any]]:
    c, now = control.columns, time.monotonic_ns()
    return [
        {
            "pid": int(c.process_pid[row]),
            "role": get_text(c.process_role[row]),
            "name": get_text(c.process_name[row]),
            "alive": bool(c.process_state[row] == ProcessState.LIVE),
            "heartbeat_age_s": max(0, now - int(c.process_heartbeat[row])) / 1e9,  # heartbeats go on meanwhile
            "doing": get_text(c.process_doing[row]),
            "wait_s": int(c.process_wait_ns[row]) / 1e9,
            "busy_s": int(c.process_busy_ns[row]) / 1e9,
        }
        for row in np.flatnonzero(c.process_state != ProcessState.FREE).tolist()
    ]
