"""Several runs on one page: curves, scores, Delta_MTL against the first, and the generators' coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from polygen_stream.analyze.correlation import FEWEST, coordinates, correlations
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import check_writable
from polygen_stream.base.records import is_number
from polygen_stream.evaluate.delta_mtl import delta_mtl, delta_mtl_interval
from polygen_stream.evaluate.score import Score
from polygen_stream.report.html import render
from polygen_stream.report.plots import COLOURS, Plot, label, plot, smooth
from polygen_stream.report.run_data import RunData, read_run_data

# Reported beside Delta_MTL, never in it; transfer because it depends on what pictures a machine has.
APART = ("compositional", "micro_sugarcrepe_pp", "transfer")


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page that compares runs; the first one is the baseline of Delta_MTL.

    Args:
        folders: run folders.
        out: the HTML file to write.

    Returns:
        `out`.

    Raises:
        UserError: a folder is no run folder or has no evaluation of a trained model; `out` cannot be written.
    """
    check_writable(out)
    runs = [read_run_data(folder) for folder in folders]
    for run in runs:
        if run.last is None:
            raise UserError(f"{run.folder} has no evaluation of a trained model yet, so there is nothing to compare")
    out.write_text(comparison_page(runs), encoding="utf-8")
    return out


def comparison_page(runs: Sequence[RunData]) -> str:
    """Return the page as HTML; every run has an evaluation of a trained model."""
    names = _names(runs)
    scores = [_scores(run) for run in runs]
    tasks = [task for task in scores[0] if all(task in one for one in scores)]
    deltas = [_delta(one, scores[0], tasks) for one in scores] if _in_delta(tasks) else []
    points = [coordinates(run.analysis) if run.analysis else {} for run in runs]
    found = correlations(points, [delta for delta, _, _, _ in deltas]) if deltas else {}
    return render(
        "compare.html",
        title=f"{len(runs)} runs",
        refresh_s=None,
        names=names,
        folders=[run.folder for run in runs],
        plots=_plots(runs, names),
        score_rows=[(label(task), *(_cell(one[task]) for one in scores)) for task in tasks],
        delta_rows=[
            (name, f"{delta:+.1f} [{low:+.1f}, {high:+.1f}]", *(f"{terms[t]:+.1f}" for t in _in_delta(tasks)))
            for name, (delta, low, high, terms) in zip(names[1:], deltas[1:], strict=bool(deltas))
        ],
        speed_rows=_speed_rows(runs),
        delta_tasks=[label(task) for task in _in_delta(tasks)],
        coordinate_rows=[
            (axis, *(f"{point[axis]:.3f}" if axis in point else "-" for point in points),
             f"{found[axis]['rho']:+.2f} (p {found[axis]['p']:.3f})" if axis in found else "-")
            for axis in dict.fromkeys(axis for point in points for axis in point)
        ],
        fewest=FEWEST,
    )  # fmt: skip


def _names(runs: Sequence[RunData]) -> list[str]:
    """Folder names, with their parents where two are the same."""
    short = [run.name for run in runs]
    return short if len(set(short)) == len(short) else [f"{run.folder.parent.name}/{run.name}" for run in runs]


def _scores(run: RunData) -> dict[str, Score]:
    """Of the newest checkpoint: the micro suite's headline, and the first score of every task of `evaluate`."""
    last = run.last
    assert last is not None
    found = {}
    for key in run.headline if last["metrics"] else ():
        value = last["metrics"][key]
        low, high = last.get("intervals", {}).get(key, (value, value))
        found[key] = Score(value, low, high, 0, last["chance"][key])
    for task, parts in run.tables.items():
        if not task.startswith("micro"):
            name, first = next(iter(parts.items()))
            found[f"{task} {name}"] = Score(**first)
    return found


def _in_delta(tasks: Sequence[str]) -> list[str]:
    return [task for task in tasks if not task.startswith((*APART, "sugarcrepe", "edits", "pairs"))]


def _delta(
    scores: Mapping[str, Score], baseline: Mapping[str, Score], tasks: Sequence[str]
) -> tuple[float, float, float, dict[str, float]]:
    mine, theirs = ({task: one[task] for task in _in_delta(tasks)} for one in (scores, baseline))
    values, reference = ({task: s.score for task, s in one.items()} for one in (mine, theirs))
    delta, terms = delta_mtl(values, reference)
    return delta, *delta_mtl_interval(mine, theirs), terms


def _cell(score: Score) -> str:
    return f"{100 * score.score:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _speed_rows(runs: Sequence[RunData]) -> list[tuple[str, ...]]:
    """(what, value of each run), from their summaries; a damaged or missing value is "-"."""

    def row(name: str, form: str, *path: str, factor: float = 1.0) -> tuple[str, ...]:
        found: list[Any] = [run.summary for run in runs]
        for key in path:
            found = [one.get(key) if isinstance(one, dict) else None for one in found]
        return (name, *(format(factor * one, form) if is_number(one) else "-" for one in found))

    return [
        row("seconds in all", ".0f", "seconds"),
        row("seconds to the first step", ".1f", "seconds_to_first_step"),
        row("steps/s", ".2f", "steps_per_second"),
        row("images rendered", ".0f", "images_total"),
        row("images seen", ".0f", "images_seen"),
        row("mean reuse", ".1f", "mean_reuse"),
        row("trainer waited for the first batch, s", ".1f", "trainer_wait", "first_batch_s"),
        row("trainer waited since then, %", ".1f", "trainer_wait", "share_after_first_batch", factor=100),
    ]


def _plots(runs: Sequence[RunData], names: Sequence[str]) -> list[Plot]:
    def loss(axes: Axes) -> None:
        for run, name in zip(runs, names, strict=True):
            axes.plot(
                [line["step"] for line in run.metrics], smooth([line["loss"] for line in run.metrics]), label=name
            )
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))

    def points(axes: Axes) -> None:
        for colour, run, name in zip(np.resize(COLOURS, len(runs)), runs, names, strict=True):
            known = coordinates(run.analysis) if run.analysis else {}
            if "diversity of the ensemble" in known and "recognizability (prototype)" in known:
                y = known.get("recognizability (oracle)", known["recognizability (prototype)"])
                axes.plot(known["diversity of the ensemble"], 100 * y, "o", color=colour, label=name)
        axes.set(xlabel="diversity of the ensemble", ylabel="recognizability, %")

    return [
        plot("loss", "Loss", f"The loss of {', '.join(names)} by step.", loss),
        *_score_plots(runs, names),
        plot("ensembles", "Ensembles", "Recognizability and diversity of each run's generators together.", points),
    ]


def _score_plots(runs: Sequence[RunData], names: Sequence[str]) -> list[Plot]:
    """Return the scores on the micro world, if all runs are about it."""
    last = [run.last["metrics"] for run in runs if run.last]
    if not all(last):
        return []
    keys = [key for key in runs[0].headline if all(key in run.headline for run in runs)]

    def curve(key: str, x: str):
        def draw(axes: Axes) -> None:
            for run, name in zip(runs, names, strict=True):
                times = {line["step"]: line["time"] for line in run.metrics}
                at = [line["step"] if x == "step" else times.get(line["step"] - 1, 0) for line in run.suite_evaluations]
                axes.plot(at, [100 * line["metrics"][key] for line in run.suite_evaluations], "o-", label=name)
            axes.set(xlabel=x, ylabel=f"{label(key)}, %", ylim=(0, 100))

        return draw

    ends = {
        key: "; ".join(f"{name} {100 * metrics[key]:.1f} %" for name, metrics in zip(names, last, strict=True))
        for key in keys
    }
    return [
        *(plot(key, label(key), f"At the end: {ends[key]}.", curve(key, "step")) for key in keys),
        plot("by-time", "Zero-shot by time", "Zero-shot accuracy by seconds since the trainer started.",
             curve("zero_shot_things", "seconds")),
    ]  # fmt: skip
