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
from polygen_stream.evaluate.delta_mtl import (
    TASK_LABELS,
    TASKS,
    delta_mtl,
    delta_mtl_interval,
    named_tasks,
    synthclip_task,
)
from polygen_stream.evaluate.score import Score, mean_of
from polygen_stream.report.html import render
from polygen_stream.report.plots import COLOURS, Plot, label, plot, smooth
from polygen_stream.report.run_data import RunData, read_run_data


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
    common = [key for key in scores[0] if all(key in one for one in scores)]
    five = [_synthclip_scores(one, common) for one in scores]
    tasks = list(five[0])
    deltas = [_delta(one, five[0]) for one in five] if tasks else []
    points = [coordinates(run.analysis) if run.analysis else {} for run in runs]
    found = correlations(points, [delta for delta, _, _, _ in deltas]) if deltas else {}
    return render(
        "compare.html",
        title=f"{len(runs)} runs",
        refresh_s=None,
        names=names,
        folders=[run.folder for run in runs],
        plots=_plots(runs, names),
        score_rows=[(label(" ".join(key).strip()), *(_cell(one[key]) for one in scores)) for key in common],
        delta_rows=[
            (name, f"{delta:+.1f} [{low:+.1f}, {high:+.1f}]", *(f"{terms[task]:+.1f}" for task in tasks))
            for name, (delta, low, high, terms) in zip(names[1:], deltas[1:], strict=bool(deltas))
        ],
        speed_rows=_speed_rows(runs),
        delta_tasks=[TASK_LABELS[task] for task in tasks],
        delta_over=named_tasks(tasks),
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


def _scores(run: RunData) -> dict[tuple[str, str], Score]:
    """Return the scores of the newest checkpoint by (task, score).

    They are the micro suite's headline, under the task "", and of every task of `evaluate` the first score and those
    that are one of SynthCLIP's tasks.
    """
    last = run.last
    assert last is not None
    found: dict[tuple[str, str], Score] = {}
    for key in run.headline if last["metrics"] else ():
        value = last["metrics"][key]
        low, high = last.get("intervals", {}).get(key, (value, value))
        found["", key] = Score(value, low, high, 0, last["chance"][key])
    for task, parts in run.tables.items():
        if not task.startswith("micro"):
            for place, (name, score) in enumerate(parts.items()):
                if place == 0 or synthclip_task(task, name):
                    found[task, name] = Score(**score)
    return found


def _synthclip_scores(scores: Mapping[tuple[str, str], Score], common: Sequence[tuple[str, str]]) -> dict[str, Score]:
    """Return those of SynthCLIP's five tasks that all runs have, each as the mean over its datasets."""
    parts = {task: [scores[key] for key in common if synthclip_task(*key) == task] for task in TASKS}
    return {task: mean_of(found) for task, found in parts.items() if found}


def _delta(scores: Mapping[str, Score], baseline: Mapping[str, Score]) -> tuple[float, float, float, dict[str, float]]:
    values, reference = ({task: s.score for task, s in one.items()} for one in (scores, baseline))
    delta, terms = delta_mtl(values, reference)
    return delta, *delta_mtl_interval(scores, baseline), terms


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
