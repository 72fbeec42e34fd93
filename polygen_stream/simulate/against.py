"""A simulation beside the run it is of: rates measured in the run, and then the same figures of both."""

from __future__ import annotations

from collections import Counter
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
from polygen_stream.simulate.hardware import ModelTimes, Placement, alone
from polygen_stream.simulate.node import simulate_node


@dataclass(frozen=True)
class Figure:
    """One figure of the run and of its simulation. Shares differ by their difference, all else relatively."""

    name: str
    measured: float
    simulated: float

    @property
    def off(self) -> float:
        """The simulation's error relative to what was measured."""
        if self.measured == self.simulated:
            return 0.0
        return self.simulated / self.measured - 1.0 if self.measured else float("inf")


@dataclass(frozen=True)
class Measured:
    """What a finished run tells of its own speed."""

    times: ModelTimes
    placement: Placement
    lines: Sequence[dict]  # of metrics.jsonl
    images: int
    reuse: float


def measure(run_dir: Path) -> Measured:
    """Rates of a completed run of one rank: busy seconds of each process over what it made.

    A captioner's seconds are without its waits for room in the ring. Processes are taken to have a device each: that
    they took cores from each other is in their rates.

    Raises:
        UserError: no completed run, or one that went on after an interruption.
    """
    run = RunFolder(run_dir)
    summary = read_json(run.summary)
    if not summary:
        raise UserError(f"{run} has no summary.json: give the folder of a completed run")
    if summary["status"] != "completed" or summary["restarts"] or summary["resumes"]:
        raise UserError(
            f"{run} is {summary['status']}, with {len(summary['restarts'])} restarts and {len(summary['resumes'])} "
            "resumes: give a run that was completed at one go"
        )
    found = inspect_state(SnapshotFile(run.ring_snapshot).state, running=False)
    config, stats, lines = load_config(run.config), found.stats, list(read_jsonl(run.metrics))
    busy: Counter[str] = Counter()
    replicas: Counter[str] = Counter()
    renderers = {each.name: each.generator for each in build_process_plan(config, there=False).with_role("renderer")}
    for owner in found.owners:
        if owner.role == "renderer" and (name := renderers.get(owner.name)):
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
    return Measured(times, alone(config.generators.names, replicas), lines, images, stats.mean_reuse)


def compare(run: Path) -> list[Figure]:
    """The run and its simulation, from the end of the first step to that of the last."""
    found = measure(run)
    config = load_config(RunFolder(run).config)
    # In a small world captions repeat, and a batch takes none twice.
    source = GrammarSource() if config.captions.bank == "micro" else None
    outcome = simulate_node(config, found.times, found.placement, source=source)
    first, *later = found.lines
    waited, worked = (sum(line[name] for line in later) for name in ("wait_s", "step_s"))
    seconds = later[-1]["time"] - first["time"]
    return [
        Figure("steps per second", len(later) / seconds, outcome.steps_per_second),
        Figure("trainer waiting share", waited / (waited + worked), outcome.waiting_share),
        Figure("images rendered", found.images, sum(outcome.images.values())),
        Figure("draws of a caption", found.reuse, outcome.reuse),
    ]
