"""The live view of a run: one screen on a terminal, one line every few seconds anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from polygen_stream.config import RunConfig
from polygen_stream.launch.children import Child
from polygen_stream.launch.summary import wait_share
from polygen_stream.launch.tail import MetricsTail
from polygen_stream.ring import RingStats

LINE_EVERY_S = 5.0
RATE_WINDOW_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """Everything one refresh shows."""

    seconds: float  # since the start
    stats: RingStats
    metrics: dict  # newest line of metrics.jsonl, {} before the first step
    steps_per_second: float
    trainer_wait_share: float | None
    images_per_second: dict[str, float]
    processes: Sequence[tuple[str, str, str]]  # label, doing, heartbeat age
    ending: str  # what the run still does after the last step, "" before
    degraded: str  # what it is without generators that were given up, "" with all of them


class StatusView:
    """Shows the state of a run on `console` once a second, or in plain lines when it is not a terminal."""

    def __init__(self, config: RunConfig, run_dir: Path, console: Console | None = None):
        self._config = config
        self._run_dir = run_dir
        self._console = console or Console(highlight=False, markup=False)
        self._started = time.monotonic()
        self._committed: deque[tuple[float, dict[str, int]]] = deque()
        self._next_line = 0.0
        self._live: Live | None = None
        self.degraded = ""  # what the run is without generators that were given up
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        else:
            self._console.print(f"run folder: {run_dir}", soft_wrap=True, markup=False)

    def update(self, stats: RingStats, tail: MetricsTail, children: Sequence[Child]) -> None:
        now = time.monotonic()
        snapshot = self._snapshot(now, stats, tail, children)
        if self._live:
            self._live.update(screen(self._config, self._run_dir, snapshot), refresh=True)
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._console.print(line(self._config, snapshot), soft_wrap=True, markup=False)

    def say(self, message: str) -> None:
        """Something that the user should see even if he looks later: it stays on the screen."""
        self._console.print(f"[{_clock(time.monotonic() - self._started)}] {message}", soft_wrap=True, markup=False)

    def close(self) -> None:
        """Takes the live screen away, so that what is printed next stays."""
        if self._live:
            self._live.stop()

    def _snapshot(self, now: float, stats: RingStats, tail: MetricsTail, children: Sequence[Child]) -> Snapshot:
        self._committed.append((now, dict(stats.images_committed)))
        while now - self._committed[0][0] > RATE_WINDOW_S:
            self._committed.popleft()
        rows = {row["pid"]: row for row in stats.processes}
        trained = any(child.process.role == "trainer" and child.done for child in children)
        processes, busy = [], []
        for child in children:
            row = rows.get(child.popen.pid)
            if not child.alive:
                doing, age = child.plans or ("done" if child.returncode == 0 else "stopped"), ""
            elif row is None:
                doing, age = "starting", ""
            else:
                doing, age = row["doing"], f"{row['heartbeat_age_s']:.0f} s"
            processes.append((child.process.label, doing, age))
            if child.alive and child.process.role in ("evaluator", "report"):
                busy.append(f"{child.process.label}: {doing}")
        return Snapshot(
            seconds=now - self._started,
            stats=stats,
            metrics=tail.last,
            steps_per_second=tail.steps_per_second,
            trainer_wait_share=tail.wait_share,
            images_per_second=self._rates(),
            processes=processes,
            ending=", ".join(busy) if trained else "",
            degraded=self.degraded,
        )

    def _rates(self) -> dict[str, float]:
        (began, before), (ended, after) = self._committed[0], self._committed[-1]
        seconds = ended - began
        return {name: (after[name] - before.get(name, 0)) / seconds if seconds else 0.0 for name in after}


def line(config: RunConfig, shot: Snapshot) -> str:
    """One plain line: where the run stands."""
    stats, metrics = shot.stats, shot.metrics
    complete, total = _fill(stats)
    if shot.ending:
        return f"[{_clock(shot.seconds)}] training is done, {shot.ending}"
    if metrics:
        progress = (
            f"step {metrics.get('step', 0) + 1}/{config.train.steps}  {shot.steps_per_second:.2f} steps/s  "
            f"loss {_number(metrics.get('loss'), '.3f')}  p {_number(metrics.get('p'), '.2f')}  "
            f"trainer waits {_share(shot.trainer_wait_share)}  ETA {_eta(config, shot)}"
        )
    else:
        progress = f"filling the ring: {complete} of {config.ring.min_fill} complete captions before the first step"
    rates = "  ".join(f"{name} {rate:.1f}" for name, rate in shot.images_per_second.items())
    return (
        f"[{_clock(shot.seconds)}] {progress}  |  images/s {rates}  |  captions {complete} complete of "
        f"{total}, reuse {stats.mean_reuse:.1f}  |  producers wait {_producers(stats)}"
        f"{'  |  ' + shot.degraded if shot.degraded else ''}"
    )


def screen(config: RunConfig, run_dir: Path, shot: Snapshot) -> RenderableType:
    """The whole live screen."""
    stats, metrics = shot.stats, shot.metrics
    head = Text(
        f"polygen-stream {config.name}   {_clock(shot.seconds)}   {run_dir}",
        style="bold",
        overflow="ellipsis",
    )

    training = _grid()
    training.add_row("step", f"{metrics['step'] + 1 if 'step' in metrics else 0} / {config.train.steps}")
    training.add_row("steps/s", f"{shot.steps_per_second:.2f}")
    training.add_row("ETA", shot.ending or _eta(config, shot))
    training.add_row("loss", _number(metrics.get("loss"), ".4f"))
    training.add_row("p (hard negatives)", _number(metrics.get("p"), ".3f"))
    training.add_row("trainer waits", _share(shot.trainer_wait_share))
    training.add_row("producers wait", _producers(stats))
    training.add_row("mean reuse", f"{stats.mean_reuse:.2f}")

    generators = Table("generator", "images", "images/s", "failed", box=None, pad_edge=False)
    for name, count in stats.images_committed.items():
        generators.add_row(name, str(count), f"{shot.images_per_second.get(name, 0.0):.1f}", str(stats.failed[name]))

    ring = Table("captions", "open", "complete", "leased", box=None, pad_edge=False)
    for kind, counts in stats.groups.items():
        ring.add_row(kind, *(str(counts[state]) for state in ("open", "complete", "leased")))
    ring.add_row("free slots", str(stats.free_slots), "", "")

    processes = Table("process", "doing", "heartbeat", box=None, pad_edge=False)
    for row in shot.processes:
        processes.add_row(*(Text(cell) for cell in row))

    upper = Table.grid(padding=(0, 4))
    upper.add_row(training, generators, ring)
    degraded = [Text(shot.degraded, style="bold red")] if shot.degraded else []
    return Group(head, *degraded, Text(), upper, Text(), processes)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    return grid


def _fill(stats: RingStats) -> tuple[int, int]:
    """Groups complete, groups in the ring."""
    complete = sum(counts["complete"] for counts in stats.groups.values())
    return complete, complete + sum(counts["open"] for counts in stats.groups.values())


def _producers(stats: RingStats) -> str:
    shares = [
        share for row in stats.processes if row["role"] in ("captioner", "renderer")
        if (share := wait_share(row)) is not None
    ]  # fmt: skip
    return _share(sum(shares) / len(shares)) if shares else "-"


def _eta(config: RunConfig, shot: Snapshot) -> str:
    if not shot.steps_per_second or "step" not in shot.metrics:
        return "-"
    return _clock((config.train.steps - shot.metrics["step"] - 1) / shot.steps_per_second)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
