"""What shows a run to the outside while it goes on: live view, control socket, Prometheus page, trace."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig
from polygen_stream.launch.children import Child
from polygen_stream.launch.watch.control_server import ControlServer
from polygen_stream.launch.watch.live_view import StatusView
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.prometheus import MetricsPage
from polygen_stream.launch.watch.run_status import StatusTracker, counters, to_dict
from polygen_stream.ring import Ring, RingStats
from polygen_stream.roles.trace import TraceFile


class RunMonitor:
    """Shows one run. It never waits for those that look at it, and what goes wrong with a view ends no run.

    Args:
        config: Of the run.
        run_dir: The run folder.
        page: The Prometheus page, if there is one; its owner closes it.
    """

    def __init__(self, config: RunConfig, run_dir: Path, page: MetricsPage | None) -> None:
        self._config = config
        self._run_dir = run_dir
        self._page = page
        self._tracker = StatusTracker(run_dir)
        self._control = ControlServer(run_dir)
        self._trace = TraceFile(run_dir, "supervisor") if config.launch.trace else None
        self._told = False  # the log has the first error of a view
        self._view = StatusView(config, run_dir)

    def show(
        self, ring: Ring, stats: RingStats, tail: MetricsTail, children: Sequence[Child], to_start: Sequence[str]
    ) -> None:
        """Show how the run stands now, and answer the commands that ask.

        Args:
            ring: Of the run.
            stats: Of the ring.
            tail: Of the metrics.
            children: What was started.
            to_start: The processes, in words, that have not been started yet.

        Raises:
            LockTimeout: The ring's mutex could not be had for a command.
        """
        status = self._tracker.take(stats, tail, children, to_start)
        with self._no_reason_to_end():
            self._view.update(status)
        for change in self._control.serve(ring, lambda: to_dict(self._config, self._run_dir, "running", status)):
            self.say(change)
        with self._no_reason_to_end():
            if self._page:
                self._page.update(status, self._run_dir)
            if self._trace:
                self._trace.counters(**counters(stats))

    def say(self, message: str) -> None:
        """Print a message that stays on the screen."""
        with self._no_reason_to_end():
            self._view.say(message)

    def pause(self, stop: Callable[[], None]) -> None:
        """Take the live screen away while `stop` stands still."""
        with self._no_reason_to_end():
            self._view.close()
        stop()
        with self._no_reason_to_end():
            self._view.open()

    def degraded(self, text: str) -> None:
        """Show from now on what the run is without generators that were given up."""
        self._tracker.degraded = text

    def close(self) -> None:
        """Stop showing the run."""
        self._control.close()
        with self._no_reason_to_end():
            if self._trace:
                self._trace.close()
        with self._no_reason_to_end():
            self._view.close()

    @contextmanager
    def _no_reason_to_end(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # a view that fails must not end a run
            if not self._told:
                self._told = True
                with suppress(OSError):
                    (RunFolder(self._run_dir).logs / "views.log").write_text(traceback.format_exc(), encoding="utf-8")
