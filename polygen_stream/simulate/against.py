"""Validation of the simulation: rates measured in a completed run, and the same figures of run and simulation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_json
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.ring.inspection import inspect_state
from polygen_stream.ring.snapshot_file import SnapshotFile
from polygen_stream.simulate.hardware import ModelTimes, Placement, one_device_each
from polygen_stream.simulate.node import simulate_node


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of a run and of its simulation."""

    name: str
    measured: float
    simulated: float

    @property
    def relative_error(self) -> float:
        """Error of the simulation relative to the measured value; infinite where that is 0 and the other is not."""
        if self.measured == self.simulated:
            return 0.0
        return self.simulated / self.measured - 1.0 if self.measured else float("inf")


@dataclass(frozen=True)
class RunMeasurement:
    """Speed of a completed run.

    Attributes:
        times: How long its models took.
        placement: Every process on a device of its own.
        lines: Lines of metrics.jsonl.
        images: Images rendered.
        reuse: Mean number of draws per caption.
    """

    times: ModelTimes
    placement: Placement
    lines: Sequence[dict]
    images: int
    reuse: float


def measure(run_dir: Path) -> RunMeasurement:
    """Measure the rates of a completed run with one rank: busy seconds of each process per item it produced.

    The captioner's waits for room in the ring are not counted. Every process is taken to have a device of its own;
    contention for cores is part of the measured rates.

    Raises:
        UserError: The run is not complete, or it was interrupted and resumed.
    """
    run = RunFolder(run_dir)
    summary = read_json(run.summary)
    if not summary:
        raise UserError(f"{run} has no summary.json: give the folder of a completed run")
    if summary["status"] != "completed" or summary["restarts"] or summary["resumes"]:
        raise UserError(
            f"{run} is {summary['status']}, with {len(summary['restarts'])} restarts and {len(summary['resumes'])} "
            "resumes: give a run that completed without interruption"
        )
    found = inspect_state(SnapshotFile(run.ring_snapshot).state, running=False)
    config, stats, lines = load_config(run.config), found.stats, list(read_jsonl(run.metrics))
    busy: dict[str, float] = defaultdict(float)
    replicas: Counter[str] = Counter()
    renderers = {each.name: each.generator for each in build_process_plan(config, there=False).with_role("renderer")}
    for owner in found.owners:
        if owner.role == "renderer" and (name := _generator_of(owner.name, renderers)):
            busy[name] += owner.busy_s
            replicas[name] += 1
        if owner.role == "captioner":
            busy["captioner"] += owner.busy_s
    times = ModelTimes(
        image_s={name: busy[name] / (stats.images_committed[name] or 1) for name in config.generators.names},
        caption_s=max(0.0, busy["captioner"] - stats.open_wait_s) / (stats.groups_opened or 1),
        step_s=sum(line["step_s"] for line in lines) / len(lines),
    )
    images = sum(stats.images_committed.values())
    return RunMeasurement(times, one_device_each(config.generators.names, replicas), lines, images, stats.mean_reuse)


def _generator_of(process: str, renderers: dict[str, str | None]) -> str | None:
    """Return the generator of a renderer: one of the plan, or a further one of those, NAME-2, NAME-3 and so on."""
    planned, _, number = process.rpartition("-")
    return renderers.get(process) or (renderers.get(planned) if number.isdigit() else None)


def compare(run: Path) -> list[ComparedFigure]:
    """Compare a run with its simulation, from the end of the first step to the end of the last.

    Raises:
        UserError: As `measure` and `simulate_node`.
    """
    found = measure(run)
    config = load_config(RunFolder(run).config)
    # The micro world has few captions, so they repeat, and a batch takes none twice: the simulation needs real ones.
    source = GrammarSource(config.captions.scene_share) if config.captions.bank == "micro" else None
    outcome = simulate_node(config, found.times, found.placement, source=source)
    first, *later = found.lines
    waited, worked = (sum(line[name] for line in later) for name in ("wait_s", "step_s"))
    seconds = later[-1]["time"] - first["time"]
    return [
        ComparedFigure("steps per second", len(later) / seconds, outcome.steps_per_second),
        ComparedFigure("trainer waiting share", waited / (waited + worked), outcome.waiting_share),
        ComparedFigure("images rendered", found.images, sum(outcome.images.values())),
        ComparedFigure("draws of a caption", found.reuse, outcome.reuse),
    ]
