"""The report: one HTML file with its style and pictures in it, which needs neither network nor script."""

from __future__ import annotations

from collections.abc import Sequence

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.secrets import redact
from polygen_stream.config import RunConfig, no_scores
from polygen_stream.config.keys import all_keys
from polygen_stream.config.render import toml_value
from polygen_stream.registry import is_own
from polygen_stream.report.caption_grid import Neighbours, caption_grid
from polygen_stream.report.generator_plots import generator_plots
from polygen_stream.report.html import render
from polygen_stream.report.plots import label, score_plots, task_plots, training_plots
from polygen_stream.report.run_data import RunData
from polygen_stream.report.synthesis_plots import synthesis_plots


def run_page(run: RunData, neighbours: Sequence[Neighbours] = (), refresh_s: int | None = None) -> str:
    """Return the page of one run as HTML.

    Args:
        run: what its folder holds.
        neighbours: texts with their nearest images.
        refresh_s: while the run goes on, the seconds after which a browser reloads the page.
    """
    return render(
        "run.html",
        run=run,
        title=f"{run.config.name}, seed {run.config.seed}",
        facts=_facts(run),
        scores=_score_rows(run),
        tables=_task_rows(run),
        score_plots=score_plots(run),
        task_plots=task_plots(run),
        training_plots=[*training_plots(run), *synthesis_plots(run)],
        generator_plots=generator_plots(run.analysis),
        caption_grid=caption_grid(run.gallery) if run.gallery else [],
        neighbours=neighbours,
        no_scores=no_scores(run.config),
        refresh_s=refresh_s,
    )


def _facts(run: RunData) -> list[tuple[str, str]]:
    """(name, value) of the most important facts of a run."""
    config, summary = run.config, run.summary
    facts = []
    if status := summary.get("status"):
        facts.append(("status", status))
    if run.metrics:
        last = run.metrics[-1]
        facts += [
            ("steps", f"{run.steps} of {config.train.steps}, {last['texts']} texts each"),
            ("time", _time(run)),
            ("images", f"{_rendered(run)}, {_seen(run)} seen by the trainer, with repetition"),
            ("reuse", f"{last['mean_reuse']:.1f} draws per caption"),
            (
                "loss",
                f"{last['loss']:.3f}, hard negatives {last['p_realised']:.2f}, logit scale {last['logit_scale']:.1f}",
            ),
        ]
        if first := summary.get("seconds_to_first_step"):
            facts.append(("first step", f"after {first:.0f} s"))
    objective = config.train.objective
    objective = objective if is_own(objective) else objective.replace("_", " ")
    facts.append(
        (
            "model",
            f"{model_name(config.train.model)}, {objective}, {config.train.device}",
        )
    )
    made = config.generators
    facts.append(("generators", f"{', '.join(made.names)}; n+ = {made.positives}, negatives {made.negatives}"))
    refused = ", ".join(f"{reason} {count}" for reason, count in run.refused.most_common(3))
    written = f"{run.tasks} tasks written or dropped"
    if run.ring:
        written += f", {run.ring.stats.groups_completed} captions with all their images"
    facts.append(("captions", written + (f"; refused replies: {refused}" if refused else "")))
    facts.append(("settings", _settings(run.config)))
    if commit := (run.provenance.get("git") or {}).get("commit"):
        facts.append(("code", f"commit {commit[:10]}"))
    return facts


def _settings(config: RunConfig) -> str:
    """The keys that are not the micro preset's, with their values."""
    default = RunConfig()
    own = [
        f"{name} = {toml_value(key.of(config))}"
        for name, key in all_keys().items()
        if key.of(config) != key.of(default)
    ]
    return redact("; ".join(own)) if own else "those of the micro preset"


def _time(run: RunData) -> str:
    if "seconds" in run.summary:
        return f"{run.summary['seconds']:.0f} s in all"
    return f"{run.metrics[-1]['time']:.0f} s from the trainer's start to its last logged step"


def _rendered(run: RunData) -> str:
    if run.ring:
        return f"{sum(run.ring.stats.images_committed.values())} rendered"
    return f"{run.metrics[-1]['images_committed']:.0f} rendered until the last logged step"


def _seen(run: RunData) -> int:
    """Images that were trained on, with repetition; a logged line stands for the steps since the one before."""
    seen, before = 0, -1
    for line in run.metrics:
        seen, before = seen + line["images"] * (line["step"] - before), line["step"]
    return seen


def _score_rows(run: RunData) -> list[tuple[str, str, str, str, str]]:
    """(score, trained [interval], untrained, chance, other combinations) in percent."""
    if run.last is None or not run.last["metrics"]:
        return []
    last, before, rows = run.last, run.untrained, []
    for key in run.headline:
        limits = last.get("intervals", {}).get(key)
        trained = f"{100 * last['metrics'][key]:.1f}"
        if limits:
            trained += f" [{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"
        untrained = f"{100 * before['metrics'][key]:.1f}" if before and before["metrics"] else "-"
        seen = f"{100 * last['metrics']['seen'][key]:.1f}" if "seen" in last["metrics"] else "-"
        rows.append((label(key), trained, untrained, f"{100 * last['chance'][key]:.1f}", seen))
    return rows


def _task_rows(run: RunData) -> list[tuple[str, str, str, str, int]]:
    """(task, score, percent with interval, chance, n) of the tasks that the newest model was scored on."""
    return [
        (
            task if row == 0 else "",
            label(name),
            f"{100 * s['score']:.1f} [{100 * s['low']:.1f}, {100 * s['high']:.1f}]",
            "-" if s["chance"] is None else f"{100 * s['chance']:.1f}",
            s["n"],
        )
        for task, scores in run.tables.items()
        for row, (name, s) in enumerate(scores.items())
    ]
