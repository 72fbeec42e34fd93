"""The measurement of balancing as a table, and the flattening as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table, one line per figure."""
    verdicts = result["verdicts"]
    rows = [
        ("bank", f"{result['entries']:,} entries, t = {result['threshold']:g}"),
        ("build the automaton", f"{result['build_s']:.1f} s"),
        ("balance", f"{result['captions']:,} captions in {result['decide_s']:.1f} s, {result['captions_per_s']:,}/s"),
        ("peak memory", f"{result['peak_rss_mib']:,} MiB"),
        *((name, f"{count:,}") for name, count in sorted(verdicts.items(), key=lambda item: -item[1])),
        ("the most frequent concept", f"{result['seen'][0][1]:,} captions, {result['kept'][0][1]:,} kept"),
    ]
    return "\n".join(["| balancing | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def plot_flattening(result: Mapping[str, Any], path: Path) -> None:
    """Captions per concept by rank, before and after, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, label in (("seen", "written"), ("kept", "kept")):
        points = [(rank, count) for rank, count in result[name] if count]
        axes.loglog(*zip(*points, strict=True), label=label)
    axes.axhline(result["threshold"], color="grey", linestyle=":", label=f"t = {result['threshold']:g}")
    axes.set_xlabel("concepts, the most frequent one first")
    axes.set_ylabel("captions that name it")
    axes.set_title(f"{result['captions']:,} captions, {result['entries']:,} concepts", loc="left")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
