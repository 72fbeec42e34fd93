"""The page of an experiment: what was asked, every arm, every difference with its interval, and a plot."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from polygen_stream.experiment.measures import OTHERS, TASKS
from polygen_stream.experiment.runner import best_learning_rate
from polygen_stream.experiment.spec import Experiment
from polygen_stream.experiment.statistics import COMPOSITION, delta_by_seed, differences, estimate

LABELS = {"delta_mtl": "Delta_MTL", COMPOSITION: "compositional"}


def write_page(experiment: Experiment, rows: pd.DataFrame, folder: Path, command: str) -> Path:
    """NAME.md and NAME.png in the folder; the path of the first. Of what has been run so far.

    Args:
        command: how to make the page again.
    """
    deltas = delta_by_seed(rows, experiment.baseline)
    picture = folder / f"{experiment.name}.png"
    figure = (_grid if experiment.plot == "grid" else _bars)(experiment, rows, deltas)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    parts = [
        f"# {experiment.title}",
        f"    {command}",
        experiment.text.strip(),
        _budget(experiment, rows),
        f"![{experiment.title}]({picture.name})",
        _delta_table(experiment, deltas),
        _contrast_table(experiment, deltas),
        _score_table(experiment, rows),
        f"Every run is a row of [{experiment.name}.csv]({experiment.name}.csv), the trials for the learning rate"
        " (`tune`) included.",
    ]
    page = folder / f"{experiment.name}.md"
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _budget(experiment: Experiment, rows: pd.DataFrame) -> str:
    tested = rows[rows.phase == "test"]
    rates = {arm.name: best_learning_rate(experiment, rows, arm.name) for arm in experiment.arms}
    tuned = (
        f"The learning rate of each arm is the best of {', '.join(f'{lr:g}' for lr in experiment.learning_rates)} on"
        f" the validation split (seed {experiment.tuning_seed})."
        if len(experiment.learning_rates) > 1
        else f"The learning rate is {experiment.learning_rates[0]:g}."
    )
    lines = ["| arm | n+ | m | captions | images rendered | images seen | texts seen | steps | learning rate | seeds |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for arm in experiment.arms:
        own = tested[tested.arm == arm.name]
        if len(own):
            first = own.iloc[0]
            numbers = [first.captions, first.images_rendered, first.images_seen, first.texts_seen, first.steps]
            shown = " | ".join(f"{int(number):,}" for number in numbers)
            lines.append(
                f"| {arm.name} | {first.n_positives} | {first.m} | {shown} | {rates[arm.name]:g} | {len(own)} |"
            )
    minutes = tested.seconds.sum() / 60 + rows[rows.phase == "tune"].seconds.sum() / 60
    took = f"{len(rows)} runs of one CPU thread took {minutes:.0f} minutes, added up."
    return "\n".join(lines) + f"\n\n{tuned} {took}"


def _delta_table(experiment: Experiment, deltas: pd.DataFrame) -> str:
    outcomes = ["delta_mtl", *TASKS, COMPOSITION]
    head = f"Percent over `{experiment.baseline}`, mean over paired seeds with the 95 % t interval of Delta_MTL and of"
    lines = [
        f"{head} composition, and the five terms of Delta_MTL:",
        "",
        "| arm | Delta_MTL | " + " | ".join(task.replace("_", " ") for task in TASKS) + " | compositional | seeds |",
        "| --- |" + " ---: |" * (len(outcomes) + 1),
    ]
    for arm in experiment.arms:
        own = deltas[deltas.arm == arm.name]
        if arm.name == experiment.baseline or not len(own):
            continue
        terms = " | ".join(f"{own[task].mean():+.1f}" for task in TASKS)
        both = estimate(own["delta_mtl"]), estimate(own[COMPOSITION])
        lines.append(f"| {arm.name} | {both[0]} | {terms} | {both[1]} | {len(own)} |")
    return "\n".join(lines)


def _contrast_table(experiment: Experiment, deltas: pd.DataFrame) -> str:
    found = differences(experiment, deltas)
    if not found:
        return ""
    lines = [
        "The differences that the experiment was made for, in points of percent of the baseline, paired by seed; p of a"
        " paired t test, after Holm's correction over this table. All else on this page is exploratory.",
        "",
        "| question | arms | outcome | difference [95 %] | seeds | p | p (Holm) |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for d in found:
        lines.append(
            f"| {d.question} | {d.arm} - {d.against} | {LABELS[d.outcome]} | {d.estimate} | {d.estimate.n} |"
            f" {d.p:.2g} | {d.p_holm:.2g} |"
        )
    return "\n".join(lines)


def _score_table(experiment: Experiment, rows: pd.DataFrame) -> str:
    tested = rows[rows.phase == "test"]
    names = [*TASKS, *OTHERS]
    lines = [
        "Scores in percent, mean ± standard deviation over seeds:",
        "",
        "| arm | " + " | ".join(name.replace("_", " ") for name in names) + " | early variance of the gradient norm |",
        "| --- |" + " ---: |" * (len(names) + 1),
    ]
    for arm in experiment.arms:
        own = tested[tested.arm == arm.name]
        if len(own):
            cells = [f"{100 * own[name].mean():.1f} ± {100 * own[name].std():.1f}" for name in names]
            variance = own.early_grad_norm_variance
            lines.append(f"| {arm.name} | {' | '.join(cells)} | {variance.mean():.3f} ± {variance.std():.3f} |")
    return "\n".join(lines)


def _grid(experiment: Experiment, rows: pd.DataFrame, deltas: pd.DataFrame) -> plt.Figure:
    """Delta_MTL and composition against n+, one line per m; arms called nX-mY."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    tested = rows[rows.phase == "test"].drop_duplicates("arm").set_index("arm")
    cells = [arm for arm in experiment.arms if arm.name in tested.index and _is_cell(arm.name)]
    for axis, outcome in zip(axes, ("delta_mtl", COMPOSITION), strict=True):
        for m in sorted({tested.loc[arm.name].m for arm in cells}):
            own = sorted((arm for arm in cells if tested.loc[arm.name].m == m), key=lambda arm: arm.positives)
            values = [estimate(deltas[deltas.arm == arm.name][outcome]) for arm in own]
            axis.errorbar(
                [arm.positives * (1 + 0.02 * (m - 2.5)) for arm in own],
                [v.mean for v in values],
                yerr=[[v.mean - v.low for v in values], [v.high - v.mean for v in values]],
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


def _is_cell(name: str) -> bool:
    n, _, m = name.partition("-")
    return n[:1] == "n" and n[1:].isdigit() and m[:1] == "m" and m[1:].isdigit()


def _bars(experiment: Experiment, rows: pd.DataFrame, deltas: pd.DataFrame) -> plt.Figure:
    """Delta_MTL and composition of every arm, with intervals and single seeds."""
    arms = [arm.name for arm in experiment.arms if arm.name in set(deltas.arm)]
    figure, axes = plt.subplots(1, 2, figsize=(10, 1.2 + 0.4 * len(arms)), layout="constrained", sharey=True)
    for axis, outcome in zip(axes, ("delta_mtl", COMPOSITION), strict=True):
        for place, arm in enumerate(arms):
            own = deltas[deltas.arm == arm][outcome]
            value = estimate(own)
            axis.scatter(own, [place] * len(own), color="silver", s=12)
            axis.errorbar(
                value.mean, place, xerr=[[value.mean - value.low], [value.high - value.mean]], fmt="o", capsize=3
            )
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_yticks(range(len(arms)), arms)
        axis.set_xlabel(f"{LABELS[outcome]}, % over {experiment.baseline}")
    axes[0].invert_yaxis()
    return figure
