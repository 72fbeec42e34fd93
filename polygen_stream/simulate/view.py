"""Views of a simulation: Markdown tables, and a plot over the number of GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polygen_stream.simulate.against import ComparedFigure
from polygen_stream.simulate.hardware import ModelTimes
from polygen_stream.simulate.sweep import Point


def table(points: Sequence[Point]) -> str:
    """Return a Markdown table with one row per number of GPUs."""
    head = (
        "GPUs", "nodes", "hours", "GPU-hours", "first step, s", "trainer waits", "images", "reuse",
        "negatives never drawn", "simulated",
    )  # fmt: skip
    rows = [
        (
            f"{point.gpus:,}",
            f"{point.nodes:,}",
            f"{point.hours:,.1f}",
            f"{point.gpu_hours:,.0f}",
            f"{point.first_step_s:,.0f}",
            f"{point.waiting_share:.1%}",
            f"{point.images:,.0f}",
            f"{point.reuse:.1f}",
            "-" if point.negatives_unused_share is None else f"{point.negatives_unused_share:.1%}",
            f"{point.simulated:.2%}",
        )
        for point in points
    ]
    return _markdown(head, rows)


def comparison(figures: Sequence[ComparedFigure], times: ModelTimes) -> str:
    """Return a Markdown table of measured and simulated figures, and the model times they rest on."""
    rates = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in times.image_s.items())
    rows = [(f.name, f"{f.measured:.4g}", f"{f.simulated:.4g}", f"{f.relative_error:+.1%}") for f in figures]
    return (
        _markdown(("", "measured", "simulated", "off by"), rows)
        + f"\nms measured in the run: per image {rates}; per caption {times.caption_s * 1e3:.1f}; "
        f"per step {times.step_s * 1e3:.1f}\n"
    )


def plot(points: Sequence[Point], file: Path) -> None:
    """Plot waiting and cost over the number of GPUs, GPU-hours relative to the cheapest point, to a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    waiting, cost = figure.subplots(1, 2)
    gpus = [point.gpus for point in points]
    waiting.plot(gpus, [100 * point.waiting_share for point in points], marker="o", label="trainer waits")
    unused = [point.negatives_unused_share for point in points if point.negatives_unused_share is not None]
    if len(unused) == len(points):
        waiting.plot(gpus, [100 * share for share in unused], marker="s", label="hard negatives never drawn")
    waiting.set_ylabel("%")
    waiting.set_ylim(0, 100)
    waiting.set_title("Waiting and waste", loc="left")
    cheapest = min(point.gpu_hours for point in points)
    cost.plot(gpus, [point.gpu_hours / cheapest for point in points], marker="o", label="GPU-hours")
    cost.plot(gpus, [point.images / points[0].images for point in points], marker="s", label="images")
    cost.set_ylabel("GPU-hours / least, images / first")
    cost.set_ylim(bottom=0)
    cost.set_title("Growth of cost", loc="left")
    for axes in (waiting, cost):
        axes.set_xscale("log", base=2)
        axes.set_xticks(gpus, [str(count) for count in gpus], rotation=45)
        axes.set_xlabel("GPUs")
        axes.grid(True, alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=120)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))
