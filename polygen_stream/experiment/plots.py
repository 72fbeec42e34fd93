"""The plot of an experiment: Delta_MTL and composition of its arms with their intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from polygen_stream.experiment.bootstrap import CrossedBootstrap
from polygen_stream.experiment.results import COMPOSITION, WORST, TrialResult
from polygen_stream.experiment.spec import Experiment
from polygen_stream.experiment.statistics import SeedDelta

LABELS = {"delta_mtl": "Delta_MTL", COMPOSITION: "compositional", WORST: "worst edits"}
_CELL = re.compile(r"n[0-9]+-m[0-9]+")  # arms that belong to the grid


def draw(
    experiment: Experiment,
    results: Sequence[TrialResult],
    deltas: Sequence[SeedDelta],
    bootstrap: CrossedBootstrap,
    file: Path,
) -> None:
    """Draw the experiment's plot into a PNG file."""
    if experiment.plot == "grid":
        figure = _grid(experiment, results, deltas, bootstrap)
    else:
        figure = _bars(experiment, deltas, bootstrap)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _grid(
    experiment: Experiment, results: Sequence[TrialResult], deltas: Sequence[SeedDelta], bootstrap: CrossedBootstrap
) -> Figure:
    """All outcomes against n+, one line per m, of the arms named nX-mY."""
    outcomes = bootstrap.outcomes
    figure, axes = plt.subplots(1, len(outcomes), figsize=(5 * len(outcomes), 4), layout="constrained")
    generators = {result.arm: result.m for result in reversed(results) if result.phase == "test"}
    cells = [arm for arm in experiment.arms if arm.name in generators and _CELL.fullmatch(arm.name)]
    for axis, outcome in zip(axes, outcomes, strict=True):
        for m in sorted({generators[arm.name] for arm in cells}):
            own = sorted((arm for arm in cells if generators[arm.name] == m), key=lambda arm: arm.positives)
            means = [float(np.mean(_values(deltas, arm.name, outcome))) for arm in own]
            bars = [_bar(mean, *bootstrap.delta(arm.name)[outcome]) for arm, mean in zip(own, means, strict=True)]
            axis.errorbar(
                [arm.positives * (1 + 0.02 * (m - 2.5)) for arm in own],
                means,
                yerr=np.array(bars).T,
                marker="o", capsize=3, label=f"m = {m}",
            )  # fmt: skip
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(
            xscale="log", xlabel="n+, images per caption", ylabel=f"{LABELS[outcome]}, % over {experiment.baseline}"
        )
        axis.set_xticks([1, 2, 4], ["1", "2", "4"])
        axis.minorticks_off()
        axis.legend()
    return figure


def _bars(experiment: Experiment, deltas: Sequence[SeedDelta], bootstrap: CrossedBootstrap) -> Figure:
    """All outcomes of every arm, with intervals and single seeds."""
    arms = [arm.name for arm in experiment.arms if arm.name in {delta.arm for delta in deltas}]
    outcomes = bootstrap.outcomes
    size = 5 * len(outcomes), 1.2 + 0.4 * len(arms)
    figure, axes = plt.subplots(1, len(outcomes), figsize=size, layout="constrained", sharey=True)
    for axis, outcome in zip(axes, outcomes, strict=True):
        for place, arm in enumerate(arms):
            own = _values(deltas, arm, outcome)
            mean = float(np.mean(own))
            bar = _bar(mean, *bootstrap.delta(arm)[outcome])
            axis.scatter(own, [place] * len(own), color="silver", s=12)
            axis.errorbar(mean, place, xerr=np.array([bar]).T, fmt="o", capsize=3)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_yticks(range(len(arms)), arms)
        axis.set_xlabel(f"{LABELS[outcome]}, % over {experiment.baseline}")
    axes[0].invert_yaxis()
    return figure


def _bar(mean: float, low: float, high: float) -> tuple[float, float]:
    """Return the lengths of an error bar below and above a mean; a mean outside its interval has none on that side."""
    return float(np.maximum(0, mean - low)), float(np.maximum(0, high - mean))


def _values(deltas: Sequence[SeedDelta], arm: str, outcome: str) -> list[float]:
    return [delta.percent[outcome] for delta in deltas if delta.arm == arm]
