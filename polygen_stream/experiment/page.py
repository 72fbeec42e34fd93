"""The page of an experiment: its arms, their scores, and every contrast with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from polygen_stream.experiment.bootstrap import DRAWS, CrossedBootstrap, Interval
from polygen_stream.experiment.plots import LABELS, draw
from polygen_stream.experiment.reserved import SURE, ReservedCount
from polygen_stream.experiment.results import SCORES, TASKS, TrialResult
from polygen_stream.experiment.spec import Experiment
from polygen_stream.experiment.statistics import SeedDelta, delta_by_seed, differences
from polygen_stream.experiment.worst_edits import accuracy_by_edit, with_worst_edits, worst_edits


def write_page(
    experiment: Experiment,
    results: Sequence[TrialResult],
    counts: Mapping[str, ReservedCount],
    folder: Path,
    command: str,
) -> Path:
    """Write NAME.md and NAME.png of the results so far.

    Args:
        experiment: what was run.
        results: rows of the result table, with their items.
        counts: images that show reserved combinations, by generator; without any the page does not mention them.
        folder: where the files go.
        command: how to make the page again.

    Returns:
        The path of NAME.md.
    """
    with_worst = with_worst_edits(experiment, results)
    deltas, bootstrap = (
        delta_by_seed(with_worst, experiment.baseline),
        CrossedBootstrap(with_worst, experiment.baseline),
    )
    draw(experiment, results, deltas, bootstrap, folder / f"{experiment.name}.png")
    page = folder / f"{experiment.name}.md"
    page.write_text(page_text(experiment, results, counts, command), encoding="utf-8")
    return page


def page_text(
    experiment: Experiment, results: Sequence[TrialResult], counts: Mapping[str, ReservedCount], command: str
) -> str:
    """Return the page as Markdown; arguments as of `write_page`."""
    results = with_worst_edits(experiment, results)
    deltas, bootstrap = delta_by_seed(results, experiment.baseline), CrossedBootstrap(results, experiment.baseline)
    parts = [
        f"# {experiment.title}",
        f"    {command}",
        experiment.text.strip(),
        _budget(experiment, results),
        f"![{experiment.title}]({experiment.name}.png)",
        _delta_table(experiment, deltas, bootstrap),
        _contrast_table(experiment, deltas, bootstrap),
        _edit_table(experiment, results),
        _score_table(experiment, results),
        _reserved_table(counts),
        f"[{experiment.name}.csv]({experiment.name}.csv) has one row per run, including the trials for the"
        f" learning rate (`tune`); {experiment.name}-items.safetensors has which test items each run got right.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tests_of(results: Sequence[TrialResult], arm: str) -> list[TrialResult]:
    return [result for result in results if result.phase == "test" and result.arm == arm]


def _budget(experiment: Experiment, results: Sequence[TrialResult]) -> str:
    rates = ", ".join(f"{lr:g}" for lr in experiment.learning_rates)
    tuned = (
        f"The learning rate of each arm is the best of {rates} on the validation split (seed {experiment.tuning_seed})."
        if len(experiment.learning_rates) > 1
        else f"The learning rate is {rates}."
    )
    lines = ["| arm | n+ | m | captions | images rendered | images seen | texts seen | steps | learning rate | seeds |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for arm in experiment.arms:
        own = _tests_of(results, arm.name)
        if own:
            first = own[0]
            numbers = [first.captions, first.images_rendered, first.images_seen, first.texts_seen, first.steps]
            shown = " | ".join(f"{number:,}" for number in numbers)
            lines.append(f"| {arm.name} | {first.n_positives} | {first.m} | {shown} | {first.lr:g} | {len(own)} |")
    minutes = sum(result.seconds for result in results) / 60
    took = f"{len(results)} runs of one CPU thread took {minutes:.0f} minutes in total."
    pools = f" The runs of seed s use pool s modulo {experiment.pools}." if experiment.pools > 1 else ""
    return "\n".join(lines) + f"\n\n{tuned}{pools} {took}"


def _delta_table(experiment: Experiment, deltas: Sequence[SeedDelta], bootstrap: CrossedBootstrap) -> str:
    beside = bootstrap.outcomes[1:]
    over = "pools, seeds and test items" if experiment.pools > 1 else "seeds and test items of one pool"
    lines = [
        f"Change from `{experiment.baseline}` in percent, mean over paired seeds. {_and(bootstrap.outcomes)} have 95 %"
        f" intervals of a crossed bootstrap over {over} ({DRAWS:,} draws); the other columns are the five terms of"
        " Delta_MTL:",
        "",
        f"| arm | {' | '.join(['Delta_MTL', *(name.replace('_', ' ') for name in (*TASKS, *beside))])} | seeds |",
        "| --- |" + " ---: |" * (len(TASKS) + len(beside) + 2),
    ]
    for arm in experiment.arms:
        own = [delta.percent for delta in deltas if delta.arm == arm.name]
        if arm.name == experiment.baseline or not own:
            continue
        terms = " | ".join(f"{np.mean([percent[task] for percent in own]):+.1f}" for task in TASKS)
        intervals = bootstrap.delta(arm.name)
        both = [
            f"{np.mean([percent[outcome] for percent in own]):+.1f} {_shown(interval)}"
            for outcome, interval in intervals.items()
        ]
        lines.append(f"| {arm.name} | {both[0]} | {terms} | {' | '.join(both[1:])} | {len(own)} |")
    return "\n".join(lines)


def _and(outcomes: Sequence[str]) -> str:
    *first, last = [LABELS[outcome] for outcome in outcomes]
    return f"{', '.join(first)} and {last}"


def _edit_table(experiment: Experiment, results: Sequence[TrialResult]) -> str:
    """Compositional accuracy by edit, where the worst edits are an outcome."""
    chosen = worst_edits(experiment, results) if experiment.worst_edits else []
    if not chosen:
        return ""
    by_arm = {arm.name: accuracy_by_edit(results, arm.name) for arm in experiment.arms}
    shown = {name: accuracy for name, accuracy in by_arm.items() if accuracy}
    lines = [
        "Compositional accuracy by edit in percent, mean over seeds. The worst edits are those with the lowest mean"
        f" over arms: {', '.join(edit.replace('_', ' ') for edit in chosen)}:",
        "",
        f"| edit | {' | '.join(shown)} |",
        "| --- |" + " ---: |" * len(shown),
    ]
    reference = by_arm[experiment.baseline]
    for edit in sorted(reference, key=reference.__getitem__):
        scores = " | ".join(f"{100 * accuracy[edit]:.1f}" for accuracy in shown.values())
        lines.append(f"| {edit.replace('_', ' ')} | {scores} |")
    return "\n".join(lines)


def _contrast_table(experiment: Experiment, deltas: Sequence[SeedDelta], bootstrap: CrossedBootstrap) -> str:
    found = differences(experiment, deltas, bootstrap)
    if not found:
        return ""
    lines = [
        "The planned contrasts: differences between the changes of two arms, in percentage points, paired by seed, with"
        " the interval of the same bootstrap and the t interval over seeds alone. p is that of a paired t test, p"
        " (Holm) is corrected over this table. Everything else on this page is exploratory.",
        "",
        "| question | arms | outcome | difference [95 %] | t interval | seeds | p | p (Holm) |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for d in found:
        tested = not np.isnan(d.p)
        t_interval = _shown((d.estimate.low, d.estimate.high)) if tested else "-"
        p_values = f"{d.p:.2g} | {d.p_holm:.2g}" if tested else "- | -"
        lines.append(
            f"| {d.question} | {d.arm} - {d.against} | {LABELS[d.outcome]} | {d.estimate.mean:+.1f}"
            f" {_shown(d.interval)} | {t_interval} | {d.estimate.n} | {p_values} |"
        )
    return "\n".join(lines)


def _score_table(experiment: Experiment, results: Sequence[TrialResult]) -> str:
    lines = [
        "Scores in percent, mean ± standard deviation over seeds:",
        "",
        "| arm | " + " | ".join(name.replace("_", " ") for name in SCORES) + " | early variance of the gradient norm |",
        "| --- |" + " ---: |" * (len(SCORES) + 1),
    ]
    for arm in experiment.arms:
        own = _tests_of(results, arm.name)
        if own:
            measured = ([result.scores[name] for result in own if name in result.scores] for name in SCORES)
            cells = [_mean(values, 1, scale=100) if values else "-" for values in measured]
            cells.append(_mean([result.early_grad_norm_variance for result in own], 3))
            lines.append(f"| {arm.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _reserved_table(counts: Mapping[str, ReservedCount]) -> str:
    if not counts:
        return ""
    lines = [
        "No caption names a reserved combination, but where a caption leaves colour or background open, its image may"
        " show one. The pool's images of one thing, those of which the oracle gives thing, colour and background a"
        f" probability of {SURE:.0%} or more each, and those of these that show a reserved combination, counted by the"
        " command above:",
        "",
        "| generator | images of one thing | oracle is sure | of these, reserved combinations |",
        "| --- | ---: | ---: | ---: |",
    ]
    for generator, count in counts.items():
        share = f" ({count.reserved / count.sure:.1%})" if count.sure else ""
        lines.append(f"| {generator} | {count.images:,} | {count.sure:,} | {count.reserved:,}{share} |")
    return "\n".join(lines)


def _shown(interval: Interval) -> str:
    """An interval, "-" if there is none."""
    low, high = interval
    return f"[{low:+.1f}, {high:+.1f}]" if low == low else "-"


def _mean(values: Sequence[float], digits: int, scale: float = 1) -> str:
    """The mean with the standard deviation over seeds, without it if there is one seed."""
    mean = f"{scale * np.mean(values):.{digits}f}"
    return f"{mean} ± {scale * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean
