"""Where a run stands at one instant, as plain values: for the live view and `polygen-stream status`."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polygen_stream.base.json_files import read_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import last_checkpoint
from polygen_stream.config import RunConfig, no_scores
from polygen_stream.launch.children import Child
from polygen_stream.launch.events import events
from polygen_stream.launch.ring_file import recorded_file
from polygen_stream.launch.role_table import PRODUCERS
from polygen_stream.launch.start_order import is_loading
from polygen_stream.launch.summary import newest_scores, recorder_summary, wait_share
from polygen_stream.launch.watch.metrics_tail import MetricsTail, TrainerWaits
from polygen_stream.ring import RingStats

RATE_WINDOW_S = 10.0
LAST_EVENTS = 5
MOST_WANTED = 5
STARTING = "importing its libraries"  # what a process does until it has joined the ring


@dataclass(frozen=True)
class ProcessStatus:
    """One process of a run. heartbeat_age_s: None before it has joined the ring, and after it has ended."""

    name: str
    label: str
    pid: int
    alive: bool
    doing: str
    heartbeat_age_s: float | None
    wait_share: float | None  # of its time, waiting for the ring


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands. Rates are those of the last RATE_WINDOW_S, 0.0 where nothing is known."""

    seconds: float | None  # since the start; None when it is over
    stats: RingStats
    metrics: dict  # newest line of metrics.jsonl, {} before the first step
    feedback: dict  # the newest one of metrics.jsonl, {} before the first step
    steps_per_second: float
    trainer_waits: TrainerWaits
    images_per_second: dict[str, float]
    processes: Sequence[ProcessStatus]
    starting: str  # what the first step waits for, "" after it
    ending: str  # what the run still does after the last step, "" before
    degraded: str  # what it is without generators that were given up, "" with all of them
    checkpoint_age_s: float | None = None  # of the newest one; None without any, and when the run is over

    def eta_s(self, steps: int) -> float | None:
        """Seconds to the last of `steps` at the present pace; None while there is none."""
        if not self.steps_per_second or "step" not in self.metrics:
            return None
        return (steps - self.metrics["step"] - 1) / self.steps_per_second


class StatusTracker:
    """Says how a run that is going on stands, and counts images over time.

    Its clock is the monotonic one: the time of day may be set while the run goes on.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        newest = last_checkpoint(run_dir)  # of a run that is resumed
        self._checkpoint = newest and newest[0], time.monotonic() - ((newest and _age_s(newest[1])) or 0.0)
        self.degraded = ""  # what the run is without generators that were given up
        self._started = time.monotonic()
        self._committed: deque[tuple[float, dict[str, int]]] = deque()

    def take(
        self, stats: RingStats, tail: MetricsTail, children: Sequence[Child], to_start: Sequence[str] = ()
    ) -> RunStatus:
        """Return how the run stands now; `to_start` are the processes, in words, that have not been started yet."""
        now = time.monotonic()
        self._committed.append((now, dict(stats.images_committed)))
        while now - self._committed[0][0] > RATE_WINDOW_S:
            self._committed.popleft()
        rows = {row["pid"]: row for row in stats.processes}
        processes = [_process(child, rows.get(child.popen.pid)) for child in children]
        trained = any(child.process.kind.restarts_together and child.done for child in children)
        busy = [
            f"{row.label}: {row.doing}"
            for child, row in zip(children, processes, strict=True)
            if child.alive and child.process.kind.after_training
        ]
        return RunStatus(
            seconds=now - self._started,
            stats=stats,
            metrics=tail.last,
            feedback=tail.feedback,
            steps_per_second=tail.steps_per_second,
            trainer_waits=tail.waits,
            images_per_second=self._rates(),
            processes=processes,
            starting="" if tail.last else _starting(stats, children, to_start),
            ending=", ".join(busy) if trained else "",
            degraded=self.degraded,
            checkpoint_age_s=self._checkpoint_age_s(now),
        )

    def _checkpoint_age_s(self, now: float) -> float | None:
        newest = last_checkpoint(self._run_dir)
        step = newest and newest[0]
        if step != self._checkpoint[0]:
            self._checkpoint = step, now
        return None if step is None else now - self._checkpoint[1]

    def _rates(self) -> dict[str, float]:
        (began, before), (ended, after) = self._committed[0], self._committed[-1]
        seconds = ended - began
        return {name: (after[name] - before.get(name, 0)) / seconds if seconds else 0.0 for name in after}


def _process(child: Child, row: dict | None) -> ProcessStatus:
    age = None
    if not child.alive:
        doing = child.plans or ("done" if child.returncode == 0 else "stopped")
    elif row is None:
        doing = STARTING
    else:
        doing, age = row["doing"], row["heartbeat_age_s"]
    share = wait_share(row) if row else None
    return ProcessStatus(child.process.name, child.process.label, child.popen.pid, child.alive, doing, age, share)


def _starting(stats: RingStats, children: Sequence[Child], to_start: Sequence[str]) -> str:
    """What the first step waits for: processes that load, those that come after them, and captions."""
    rows = {row["pid"]: row for row in stats.processes}
    loading = [
        f"{child.process.label} ({row['doing'] if row else STARTING})"
        for child in children
        if child.alive and child.process.kind.in_ring and is_loading(row := rows.get(child.popen.pid))
    ]
    complete, wanted = stats.groups_completed, int(stats.limiter["min_fill"])
    if loading or to_start:
        then = f", then {to_start[0]}{f' and {len(to_start) - 1} more' if to_start[1:] else ''}" if to_start else ""
        return f"starting {', '.join(loading)}{then}; {complete} of {wanted} captions complete"
    if complete < wanted:
        return f"filling the ring: {complete} of {wanted} complete captions before the first step"
    doing = "the first step is being taken" if stats.draws else "the first batch is being drawn"
    return f"{complete} captions are complete (ring.min_fill = {wanted}), {doing}"


def of_the_past(stats: RingStats, tail: MetricsTail) -> RunStatus:
    """Return how a run that is over stood, by its last ring and metrics."""
    processes = [
        ProcessStatus(row["name"], row["name"], row["pid"], False, row["doing"], None, wait_share(row))
        for row in stats.processes
    ]
    rates = dict.fromkeys(stats.images_committed, 0.0)
    return RunStatus(
        None, stats, tail.last, tail.feedback, tail.steps_per_second, tail.waits, rates, processes, "", "", ""
    )


def producers_wait_share(stats: RingStats) -> float | None:
    """Return the mean over captioners, renderers and readers; None before any of them has worked."""
    rows = [wait_share(row) for row in stats.processes if row["role"] in PRODUCERS]
    shares = [share for share in rows if share is not None]
    return sum(shares) / len(shares) if shares else None


def counters(stats: RingStats) -> dict[str, Mapping[str, float]]:
    """Return what goes up and down, chart by chart, for a trace."""
    fill = {
        f"{kind}, {state}": counts[state] for kind, counts in stats.groups.items() for state in ("open", "complete")
    }
    return {"captions in the ring": fill, "backlog": stats.backlog, "free slots": {"slots": stats.free_slots}}


def to_dict(config: RunConfig, run_dir: Path, state: str, shot: RunStatus) -> dict:
    """Return for JSON the status, and what the run folder says of checkpoints and events."""
    stats, metrics = shot.stats, shot.metrics
    checkpoint, age_s = last_checkpoint(run_dir), shot.checkpoint_age_s
    if checkpoint and age_s is None:
        age_s = _age_s(checkpoint[1])
    happened = events(run_dir)
    return {
        "run": str(run_dir),
        "name": config.name,
        "state": state,
        "seconds": shot.seconds,
        "step": metrics["step"] + 1 if "step" in metrics else 0,
        "steps": config.train.steps,
        "eta_s": shot.eta_s(config.train.steps) if state == "running" and not shot.ending else None,
        "starting": shot.starting,
        "ending": shot.ending,
        "loss": metrics.get("loss"),
        "p": metrics.get("p"),
        "steps_per_second": shot.steps_per_second,
        "trainer_wait_share": shot.trainer_waits.recent,
        "trainer_wait_steps": shot.trainer_waits.recent_steps,
        "trainer_first_batch_wait_s": shot.trainer_waits.first_batch_s,
        "trainer_wait_share_after_first_batch": shot.trainer_waits.after,
        "producers_wait_share": producers_wait_share(stats),
        "captions": stats.groups,
        "captions_drawable": stats.drawable,
        "draw_bounds": stats.draw_bounds,
        "captions_opened": stats.groups_opened,
        "mean_reuse": stats.mean_reuse,
        "slots": {"free": stats.free_slots, "all": config.ring.slots},
        "ring_file": (file := recorded_file(run_dir)) and str(file),
        "synthesis": {"policy": config.synthesis.policy, "wanted": _most_wanted(config, shot.feedback)},
        "generators": {
            name: {
                "images": count,
                "images_per_second": shot.images_per_second[name],
                "backlog": stats.backlog[name],
                "failed": stats.failed[name],
                "given_up": name in stats.generators_down,
            }
            for name, count in stats.images_committed.items()
        },
        "processes": [asdict(row) for row in shot.processes],
        "evaluation": newest_scores(run_dir),
        "no_scores": no_scores(config),
        "missing": read_json(RunFolder(run_dir).summary).get("missing", []) if state == "completed" else [],
        "checkpoint": checkpoint and {"step": checkpoint[0], "age_s": age_s},
        "recorder": recorder_summary(run_dir, stats),
        "restarts": dict(Counter(event["process"] for event in happened if event["event"] == "restart")),
        "degraded": shot.degraded or "; ".join(event["text"] for event in happened if event["event"] == "degraded"),
        "events": happened[-LAST_EVENTS:],
    }


def _most_wanted(config: RunConfig, feedback: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the axes that a policy wants more than others, the MOST_WANTED first of them."""
    axes = {} if config.synthesis.policy == "uniform" else feedback.get("axes", {})
    weighed = {name: row for name, row in axes.items() if row["weight"] > 1}
    return dict(sorted(weighed.items(), key=lambda item: -item[1]["weight"])[:MOST_WANTED])


def _age_s(folder: Path) -> float | None:
    """Seconds since a folder was written, by the time of day: there is no other clock for what was before this boot."""
    try:
        return max(0.0, time.time() - os.stat(folder).st_mtime)
    except FileNotFoundError:  # it has just made room for a newer one
        return None
