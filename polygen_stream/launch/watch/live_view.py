"""The live view of a run: one screen on a terminal, one line every few seconds anywhere else."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from polygen_stream.config import RunConfig
from polygen_stream.launch.watch.run_status import RunStatus, producers_wait_share
from polygen_stream.ring import RingStats

LINE_EVERY_S = 5.0


class StatusView:
    """Shows the state of a run on `console` once a second, or in plain lines when it is not a terminal."""

    def __init__(self, config: RunConfig, run_dir: Path, console: Console | None = None):
        self._config = config
        self._run_dir = run_dir
        self._console = console or Console(highlight=False, markup=False)
        self._started = time.monotonic()
        self._next_line = 0.0
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self.open()
        else:
            self._console.print(f"run folder: {run_dir}", soft_wrap=True, markup=False)

    def update(self, shot: RunStatus) -> None:
        """Show how the run stands now."""
        now = time.monotonic()
        if self._live:
            self._live.update(screen(self._config, self._run_dir, shot), refresh=True)
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._console.print(line(self._config, shot), soft_wrap=True, markup=False)

    def say(self, message: str) -> None:
        """Print a message that stays on the screen."""
        self._console.print(f"[{clock(time.monotonic() - self._started)}] {message}", soft_wrap=True, markup=False)

    def open(self) -> None:
        """Show the live screen, where there is one; again after `close`."""
        if self._live:
            self._live.start()

    def close(self) -> None:
        """Remove the live screen, so that what is printed next stays."""
        if self._live:
            self._live.stop()


def line(config: RunConfig, shot: RunStatus) -> str:
    """One plain line: where the run stands."""
    stats, metrics, waits = shot.stats, shot.metrics, shot.trainer_waits
    complete, total = _fill(stats)
    if shot.ending:
        return f"[{clock(shot.seconds)}] training is done, {shot.ending}"
    if metrics:
        progress = (
            f"step {metrics.get('step', 0) + 1}/{config.train.steps}  {shot.steps_per_second:.2f} steps/s  "
            f"loss {number(metrics.get('loss'), '.3f')}  p {number(metrics.get('p'), '.2f')}  "
            f"trainer waits {recent_wait(waits.recent, waits.recent_steps)}  ETA {_eta(config, shot)}"
        )
    else:
        progress = shot.starting
    rates = "  ".join(f"{name} {rate:.1f}" for name, rate in shot.images_per_second.items())
    return (
        f"[{clock(shot.seconds)}] {progress}  |  images/s {rates}  |  captions {complete} complete of "
        f"{total}, reuse {stats.mean_reuse:.1f}  |  producers wait {share(producers_wait_share(stats))}"
        f"{''.join(f'  |  {said}' for said in (*stats.draw_bounds, shot.degraded) if said)}"
    )


def screen(config: RunConfig, run_dir: Path, shot: RunStatus) -> RenderableType:
    """The whole live screen."""
    stats, metrics, waits = shot.stats, shot.metrics, shot.trainer_waits
    head = Text(
        f"polygen-stream {config.name}   {clock(shot.seconds)}   {run_dir}",
        style="bold",
        overflow="ellipsis",
    )

    training = grid()
    training.add_row("step", f"{metrics['step'] + 1 if 'step' in metrics else 0} / {config.train.steps}")
    training.add_row("steps/s", f"{shot.steps_per_second:.2f}")
    training.add_row("ETA", shot.ending or _eta(config, shot))
    training.add_row("loss", number(metrics.get("loss"), ".4f"))
    training.add_row("p (hard negatives)", number(metrics.get("p"), ".3f"))
    training.add_row("trainer waits", recent_wait(waits.recent, waits.recent_steps))
    training.add_row("for the first batch", "-" if waits.first_batch_s is None else f"{waits.first_batch_s:.1f} s")
    training.add_row("producers wait", share(producers_wait_share(stats)))
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
        age = "" if row.heartbeat_age_s is None else f"{row.heartbeat_age_s:.0f} s"
        processes.add_row(*(Text(cell) for cell in (row.label, row.doing, age)))

    upper = Table.grid(padding=(0, 4))
    upper.add_row(training, generators, ring)
    degraded = [Text(shot.degraded, style="bold red")] if shot.degraded else []
    bounds = [Text(f"draws: {said}") for said in stats.draw_bounds]
    starting = [Text(), Text(shot.starting)] if shot.starting else []
    return Group(head, *degraded, *starting, Text(), upper, *bounds, Text(), processes)


def grid() -> Table:
    """Return a table of names and values."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    return grid


def _fill(stats: RingStats) -> tuple[int, int]:
    """Groups complete, groups in the ring."""
    complete = sum(counts["complete"] for counts in stats.groups.values())
    return complete, complete + sum(counts["open"] for counts in stats.groups.values())


def _eta(config: RunConfig, shot: RunStatus) -> str:
    return clock(shot.eta_s(config.train.steps))


def clock(seconds: float | None) -> str:
    """Return seconds as M:SS or H:MM:SS, and "-" where they are not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float | None, spec: str) -> str:
    """Return a number in a format, and "-" where it is not known."""
    return "-" if value is None else format(value, spec)


def share(value: float | None) -> str:
    """Return a share in per cent, and "-" where it is not known."""
    return "-" if value is None else f"{100 * value:.0f} %"


def recent_wait(value: float | None, steps: int) -> str:
    """Return the share of the last steps that the trainer waited, with their number, and "-" where it is not known."""
    return "-" if value is None else f"{share(value)} of the last {steps} steps"
