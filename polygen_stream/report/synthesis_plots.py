"""The report's plots of the closed loop: what training measured by axis, and what was written because of it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from polygen_stream.report.plots import Plot, plot
from polygen_stream.report.run_data import RunData

SHOWN = 3  # axes from either end
PARTS = 10  # of the captions, of which shares are shown


def synthesis_plots(run: RunData) -> list[Plot]:
    """Return plots of margins and of the mix of captions by axis; none of a run whose policy is uniform."""
    lines = [line for line in run.metrics if line.get("feedback", {}).get("axes")]
    if run.config.synthesis.policy == "uniform" or len(lines) < 2 or len(run.axes) < PARTS:
        return []
    weights = {name: row["weight"] for name, row in lines[-1]["feedback"]["axes"].items()}
    ordered = sorted(weights, key=weights.__getitem__, reverse=True)
    ends = list(dict.fromkeys([*ordered[:SHOWN], *ordered[-SHOWN:]]))
    return [_errors(run, lines, ends), _mix(run, ends)]


def _errors(run: RunData, lines: list[dict], axes_shown: list[str]) -> Plot:
    """Margin by axis; the loss where no hard negative was drawn."""
    key = "margin" if any("margin" in row for row in lines[-1]["feedback"]["axes"].values()) else "loss"
    steps = np.array([line["step"] for line in lines], float)
    curves = {
        name: np.array([line["feedback"]["axes"].get(name, {}).get(key, np.nan) for line in lines])
        for name in axes_shown
    }

    def draw(axes: Axes) -> None:
        for name, values in curves.items():
            axes.plot(steps, values, label=name.replace("_", " "))
        axes.set(xlabel="step", ylabel=f"{key} of training captions")

    last = ", ".join(f"{name.replace('_', ' ')} {values[-1]:.2f}" for name, values in curves.items())
    what = "Cosine similarity of an image with its text minus that with the other text of its caption"
    about = f"{what if key == 'margin' else 'Loss'}, by axis, of those that weigh most and least at the end: {last}."
    return plot("feedback", "Feedback", about, draw)


def _mix(run: RunData, axes_shown: list[str]) -> Plot:
    parts = [list(part) for part in np.array_split(np.array(run.axes), PARTS)]
    shares = {name: np.array([part.count(name) / len(part) for part in parts]) for name in axes_shown}
    middle = (np.arange(PARTS) + 0.5) * len(run.axes) / PARTS

    def draw(axes: Axes) -> None:
        for name, share in shares.items():
            axes.plot(middle, 100 * share, "o-", label=name.replace("_", " "))
        axes.set(xlabel="captions written", ylabel="captions of the axis, %", ylim=(0, None))

    ends = ", ".join(
        f"{name.replace('_', ' ')} {100 * share[0]:.0f} % to {100 * share[-1]:.0f} %" for name, share in shares.items()
    )
    written = f"{len(run.axes)} captions were written, the policy is {run.config.synthesis.policy}"
    said = f"{written}; from the first tenth of them to the last: {ends}."
    return plot("mix", "Captions by axis", said, draw)
