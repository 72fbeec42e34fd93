"""The comparison of streaming and offline as a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table of both pipelines, then what follows from them."""
    ours, theirs, compared = result["streaming"], result["offline"], result["compared"]
    rows = (
        ("first optimizer step, s", f"{ours['first_step_s']:.1f}", f"{theirs['first_step_s']:.1f}"),
        ("all steps, s", f"{ours['seconds']:.1f}", f"{theirs['seconds']:.1f}"),
        ("zero-shot at the end, %", f"{100 * ours['accuracy']:.1f}", f"{100 * theirs['accuracy']:.1f}"),
        ("pictures on disk, MB", f"{ours['picture_bytes'] / 1e6:.1f}", f"{theirs['picture_bytes'] / 1e6:.1f}"),
        ("trainer waits, %", f"{100 * ours['waiting']:.1f}", ""),
        ("utilisation of the trainer, %", f"{100 * ours['utilisation']:.1f}", ""),
        ("hard negatives never drawn, %", f"{100 * ours['unused_negatives']:.1f}", ""),
    )
    lines = ["| | streaming | offline |", "| --- | ---: | ---: |", *(f"| {' | '.join(row)} |" for row in rows), ""]
    for name, share in ours["busy"].items():
        lines.append(f"- {name} busy: {100 * share:.0f} %")
    lines += [
        f"- first step {compared['first_step_sooner']:.1f} times sooner",
        f"- all steps in {compared['seconds_ratio']:.2f} of the time",
        f"- area under accuracy over time: {compared['area_ratio']:.2f} times",
        f"- largest lead of the offline run at any time: {100 * compared['largest_lead_of_offline']:.1f} points",
        f"- its final accuracy is reached after {compared['offline_accuracy_reached_ratio']:.2f} of its time",
    ]
    return "\n".join(lines) + "\n"


def plot_curves(result: Mapping[str, Any], file: Path) -> None:
    """Accuracy over time of both."""
    from matplotlib.figure import Figure

    figure = Figure((6, 3.2), layout="constrained")
    axes = figure.subplots()
    for name in ("streaming", "offline"):
        seconds, accuracy = zip(*result[name]["curve"], strict=True)
        axes.plot(seconds, [100 * share for share in accuracy], marker=".", label=name)
    axes.set_xlabel("seconds since the start")
    axes.set_ylabel("zero-shot, %")
    axes.legend()
    figure.savefig(file, dpi=120)
