"""A page of a run's numbers for Prometheus, at http://127.0.0.1:PORT/metrics while the run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from polygen_stream.base.errors import UserError
from polygen_stream.launch.events import events
from polygen_stream.launch.watch.run_status import RunStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "polygen_stream_"


class MetricsPage:
    """Serves the newest status that `update` was given, from a thread of its own; before the first, nothing.

    Raises:
        UserError: the prometheus_client package is missing, or the port is taken.
    """

    def __init__(self, port: int, steps: int) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise UserError(
                "launch.prometheus_port needs the prometheus_client package: pip install 'polygen-stream[prometheus]'"
            ) from None
        self._steps = steps
        self._now: tuple[RunStatus, Path] | None = None  # replaced as a whole: the thread sees one or the other
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, _ = start_http_server(port, "127.0.0.1", registry)
        except OSError as error:
            raise UserError(
                f"launch.prometheus_port = {port}: 127.0.0.1:{port} cannot be had ({error.strerror}); choose another, "
                "or 0 for none"
            ) from error

    def update(self, shot: RunStatus, run_dir: Path) -> None:
        """Answer with this status from now on."""
        self._now = shot, run_dir

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; prometheus_client calls this for each scrape."""
        return () if self._now is None else _metrics(*self._now, self._steps)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def _metrics(shot: RunStatus, run_dir: Path, steps: int) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def family(kind: type, name: str, help_: str, values: dict, *labels: str) -> Metric:
        found = kind(PREFIX + name, help_, labels=labels)
        for key, value in values.items():
            found.add_metric(key if isinstance(key, tuple) else (key,), value)
        return found

    def gauge(name: str, help_: str, values: dict, *labels: str) -> Metric:
        return family(GaugeMetricFamily, name, help_, values, *labels)

    def counter(name: str, help_: str, values: dict, *labels: str) -> Metric:
        return family(CounterMetricFamily, name, help_, values, *labels)

    stats, metrics = shot.stats, shot.metrics
    yield counter("steps", "Optimizer steps.", {(): metrics["step"] + 1 if "step" in metrics else 0})
    yield gauge("steps_planned", "Optimizer steps of the whole run.", {(): steps})
    yield gauge("steps_per_second", "Over the last 50 logged steps.", {(): shot.steps_per_second})
    for name, key, help_ in (("loss", "loss", "Of the newest step."), ("p", "p", "Share of hard negatives.")):
        if metrics.get(key) is not None:
            yield gauge(name, help_, {(): metrics[key]})
    yield counter("images", "Pictures committed to the ring.", stats.images_committed, "generator")
    yield counter("image_failures", "Pictures that failed for good.", stats.failed, "generator")
    yield gauge("backlog", "Pictures wanted or being made.", stats.backlog, "generator")
    given_up = {name: int(name in stats.generators_down) for name in stats.images_committed}
    yield gauge("generator_given_up", "1 from when a run goes on without it.", given_up, "generator")
    groups = {(kind, state): count for kind, counts in stats.groups.items() for state, count in counts.items()}
    yield gauge("captions", "Captions in the ring.", groups, "kind", "state")
    for name, count in (
        ("opened", stats.groups_opened),
        ("completed", stats.groups_completed),
        ("evicted", stats.evicted),
    ):
        yield counter(f"captions_{name}", f"Captions {name}.", {(): count})
    yield counter("captions_drawn", "Captions drawn, with repetition.", {(): stats.samples})
    yield gauge("free_slots", "Of the ring.", {(): stats.free_slots})
    yield gauge("mean_reuse", "Draws per caption drawn.", {(): stats.mean_reuse})
    waited: Counter[str] = Counter()
    worked: Counter[str] = Counter()
    for row in stats.processes:  # one that died has a row of its own
        waited[row["name"]] += row["wait_s"]
        worked[row["name"]] += row["busy_s"]
    yield counter("wait_seconds", "Waiting for the ring.", waited, "process")
    yield counter("busy_seconds", "Working.", worked, "process")
    yield gauge("process_up", "1 while it lives.", {row.name: int(row.alive) for row in shot.processes}, "process")
    ages = {row.name: row.heartbeat_age_s for row in shot.processes if row.heartbeat_age_s is not None}
    yield gauge("heartbeat_age_seconds", "Since a process was last heard of.", ages, "process")
    restarts = Counter(event["process"] for event in events(run_dir, "restart"))
    yield counter("restarts", "Processes started again.", restarts, "process")
