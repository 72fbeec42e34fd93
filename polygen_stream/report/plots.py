"""The report's plots of training: each is a figure with a title and a sentence that says what it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from polygen_stream.base.eval_log import BY_EDIT, ITT_BY_EDIT
from polygen_stream.base.records import is_number
from polygen_stream.report.run_data import RunData

# Okabe and Ito's colours, without the yellow, which is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",  # text stays text: smaller, and the reader's own font
    "svg.hashsalt": "polygen-stream",  # the same run gives the same file
}
SIZE = (4.4, 3.1)  # inches: about as wide as a phone shows without scaling
NAMES = {
    "i2t r1": "image to text R@1",
    "t2i r1": "text to image R@1",
    "micro sugarcrepe pp itt": "micro SugarCrepe++ ITT",
    "micro sugarcrepe pp tot": "micro SugarCrepe++ TOT",
    "micro sugarcrepe pp": "micro SugarCrepe++",
}
SMOOTH = 50  # steps or fewer that a moving average spans


@dataclass(frozen=True)
class Plot:
    """A plot on the page.

    Attributes:
        about: what it shows, in words and with its main numbers.
        image: an SVG as a data URI.
    """

    key: str
    title: str
    about: str
    image: str


def plot(key: str, title: str, about: str, draw: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> Plot:
    """Draw a plot.

    Args:
        key: HTML id, unique on the page.
        title: heading.
        about: description in words.
        draw: draws into the axes.
        size: width and height in inches.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes)
        _legend(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return Plot(key, title, about, f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def _legend(figure: Figure) -> None:
    """One legend of all axes above them, where no line can run through it."""
    found = [one.get_legend_handles_labels() for one in figure.axes]
    handles, labels = ([item for part in parts for item in part] for parts in zip(*found, strict=True))
    if len(labels) > 1:
        columns = 2 if max(map(len, labels)) > 16 else 3
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.0, handlelength=1.5)


def training_plots(run: RunData) -> list[Plot]:
    """Return plots of loss, curriculum, leftover queue, throughput, waiting and ring, as far as there are numbers."""
    if len(run.metrics) < 2:
        return []
    found = [_loss(run), _curriculum(run), _throughput(run), _waiting(run), _fill(run)]
    if "leftover" in run.metrics[-1]:
        found.insert(2, _leftover(run))
    if run.ring is not None and any(run.ring.reuse.values()):
        found.append(_reuse(run))
    return found


def score_plots(run: RunData) -> list[Plot]:
    """Return plots of the scores by step and, of the newest checkpoint, by edit and against untrained and chance."""
    if run.last is None or not run.last["metrics"]:
        return []
    return [_scores(run), _against(run), _edits(run)]


def task_plots(run: RunData) -> list[Plot]:
    """Return a plot of the tasks of evaluate.tasks by step, if any was scored more than once."""
    scored = [line for line in run.evaluations if line.get("tasks")]
    return [_tasks(scored)] if len(scored) > 1 else []


def _loss(run: RunData) -> Plot:
    steps, loss = _column(run, "step"), _column(run, "loss")
    parts = {
        name: [line["loss_parts"].get(name, np.nan) for line in run.metrics] for name in run.metrics[-1]["loss_parts"]
    }

    def draw(axes: Axes) -> None:
        axes.plot(steps, loss, color="#bbbbbb", linewidth=0.6)
        axes.plot(steps, smooth(loss), label="total", color=COLOURS[-1])
        for name, values in parts.items():
            axes.plot(steps, smooth(np.array(values)), linewidth=1, label=name.replace("_", " "))
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))

    said = _course(steps, smooth(loss), run.steps)
    shares = _column(run, "p")
    if shares.min() < shares.max():
        said += (
            " Its values at different steps are not comparable while the share of hard negatives changes"
            f" ({shares.min():.2f} to {shares.max():.2f}): more hard negatives make a batch harder."
        )
    return plot("loss", "Loss", said, draw)


def _course(steps: np.ndarray, loss: np.ndarray, taken: int) -> str:
    """Return how a smoothed loss went from its first value to its last, and its minimum where that is neither."""
    first, last, least = round(loss[0], 2), round(loss[-1], 2), round(loss.min(), 2)
    if first == last:
        said = f"The loss is {first:.2f} at the start and after {taken} steps"
    else:
        said = f"The loss {'falls' if last < first else 'rises'} from {first:.2f} to {last:.2f} in {taken} steps"
    lowest = f"; its minimum is {least:.2f}, at step {steps[loss.argmin()]:.0f}" if least < min(first, last) else ""
    return f"{said}{lowest} (moving average)."


def _curriculum(run: RunData) -> Plot:
    steps, configured, drawn = (_column(run, name) for name in ("step", "p", "p_realised"))

    def draw(axes: Axes) -> None:
        axes.plot(steps, drawn, ".", color="#bbbbbb", markersize=2)
        axes.plot(steps, smooth(drawn), label="drawn")
        axes.plot(steps, configured, "--", label="asked for")
        axes.set(xlabel="step", ylabel="hard negatives, share of texts", ylim=(0, 0.55))

    ends = f"from {configured[0]:.2f} to {configured[-1]:.2f}"
    said = f"The share of hard negatives goes {ends}; drawn were {smooth(drawn)[-1]:.2f}."
    return plot("curriculum", "Curriculum", said, draw)


def _leftover(run: RunData) -> Plot:
    steps = _column(run, "step")
    waiting = {
        lane: [line["leftover"][lane]["waiting"] for line in run.metrics] for lane in run.metrics[-1]["leftover"]
    }
    last = run.metrics[-1]["leftover"]

    def draw(axes: Axes) -> None:
        for lane, values in waiting.items():
            axes.plot(steps, values, label=lane)
        axes.set(xlabel="step", ylabel="waiting captions", ylim=(0, None))

    said = "; ".join(
        f"{lane}: {counts['entered']} entered, {counts['trained']} were trained, {counts['waiting']} wait,"
        f" {sum(v for k, v in counts.items() if k.startswith('dropped'))} were dropped"
        for lane, counts in last.items()
    )
    return plot("leftover", "Leftover queue", f"Captions in the leftover queue. {said}.", draw)


def _throughput(run: RunData) -> Plot:
    time, steps, images = (_column(run, name) for name in ("time", "step", "images_committed"))
    window = max(2, len(time) // 20)
    seconds = np.maximum(time[window:] - time[:-window], 1e-9)
    stepped, made = ((v[window:] - v[:-window]) / seconds for v in (steps, images))
    seen = (steps[-1] - steps[0]) / max(time[-1] - time[0], 1e-9)

    def draw(axes: Axes) -> None:
        axes.plot(time[window:], made, label="images rendered / s", color=COLOURS[1])
        axes.set(xlabel="seconds since the trainer started", ylabel="images rendered / s", ylim=(0, None))
        other = axes.twinx()
        other.plot(time[window:], stepped, label="steps / s", color=COLOURS[0])
        other.set(ylabel="steps / s", ylim=(0, None))
        other.grid(False)

    said = f"{seen:.2f} steps per second on average, {images[-1]:.0f} images rendered until the last step."
    return plot("throughput", "Throughput", said, draw)


def _waiting(run: RunData) -> Plot:
    waited, worked = _column(run, "wait_s"), _column(run, "step_s")
    # The first batch waits for the ring's fill, which would hide how the run went on.
    shares = {"trainer": float(waited[1:].sum() / max(1e-9, (waited[1:] + worked[1:]).sum()))}
    for owner in run.ring.owners if run.ring else []:
        if owner.role in ("captioner", "renderer") and owner.wait_s + owner.busy_s:
            shares[owner.name.removeprefix("renderer-micro-").removeprefix("renderer-")] = owner.wait_s / (
                owner.wait_s + owner.busy_s
            )

    def draw(axes: Axes) -> None:
        names = list(shares)
        axes.barh(names, [100 * shares[name] for name in names], color=[COLOURS[0], *[COLOURS[1]] * (len(names) - 1)])
        axes.set(xlabel="time spent waiting for the ring, %", xlim=(0, 100))
        axes.invert_yaxis()
        axes.grid(False, axis="y")

    said = (
        f"The trainer waited {waited[0]:.1f} s for the first batch. Time spent waiting for the ring, the trainer's "
        "since then: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()) + "."
    )
    return plot("waiting", "Waiting", said, draw)


def _fill(run: RunData) -> Plot:
    steps, complete, images, reuse = (
        _column(run, name) for name in ("step", "groups_complete", "images_committed", "mean_reuse")
    )

    def draw(axes: Axes) -> None:
        axes.plot(steps, complete, label="captions in the ring", color=COLOURS[0])
        axes.plot(steps, images, label="images rendered", color=COLOURS[1])
        axes.axhline(run.config.ring.slots, linestyle=":", color="#555555", label="slots of the ring")
        axes.set(xlabel="step", ylabel="count", ylim=(0, None))
        other = axes.twinx()
        other.plot(steps, reuse, "--", label="draws per caption", color=COLOURS[2])
        other.set(ylabel="draws per caption", ylim=(0, None))
        other.grid(False)

    said = (
        f"The ring of {run.config.ring.slots} slots holds {complete[-1]:.0f} captions at the last step; each was drawn"
        f" {reuse[-1]:.1f} times on average."
    )
    return plot("fill", "Ring", said, draw)


def _reuse(run: RunData) -> Plot:
    assert run.ring is not None
    kinds = {kind: times for kind, times in run.ring.reuse.items() if times}
    most = max(max(times) for times in kinds.values())
    edges = np.linspace(0, most + 1, min(30, most + 1) + 1)

    def draw(axes: Axes) -> None:
        axes.hist(
            [list(times) for times in kinds.values()], edges.tolist(), stacked=True,
            weights=[list(t.values()) for t in kinds.values()],
            label=[{"plain": "plain", "pair": "with a hard negative"}.get(kind, kind) for kind in kinds],
        )  # fmt: skip
        axes.set(xlabel="times a caption was drawn", ylabel="captions in the ring")

    return plot("reuse", "Reuse", f"How often each caption in the ring was drawn: between 0 and {most} times.", draw)


def _tasks(lines: Sequence[dict[str, Any]]) -> Plot:
    """Of every task its first score, which is its headline."""
    curves: dict[tuple[str, str], list[tuple[int, dict[str, float]]]] = {}
    for line in lines:
        for task, scores in line["tasks"].items():
            name, first = next(iter(scores.items()))
            curves.setdefault((task, name), []).append((line["step"], first))

    def draw(axes: Axes) -> None:
        for (task, name), points in curves.items():
            steps, scores = [step for step, _ in points], [score for _, score in points]
            [line] = axes.plot(
                steps, [100 * each["score"] for each in scores], "o-", label=f"{_short(task)}, {label(name)}"
            )
            low, high = ([100 * each[end] for each in scores] for end in ("low", "high"))
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel="step", ylabel="%", ylim=(0, 100))

    last = [(f"{task}, {label(name)}", *points[-1]) for (task, name), points in curves.items()]
    ends = "; ".join(f"{called}: {100 * first['score']:.1f} % at step {step}" for called, step, first in last)
    return plot("tasks", "Tasks by step", f"{ends}. Bands are 95 % intervals.", draw)


def _short(task: str) -> str:
    """Return a task without the folders that its data is in."""
    kind, _, dataset = task.partition(":")
    return f"{kind} {dataset.rpartition('/')[2]}".strip()


def _scores(run: RunData) -> Plot:
    lines = run.suite_evaluations
    steps = [line["step"] for line in lines]

    def draw(axes: Axes) -> None:
        for colour, key in zip(COLOURS, run.headline, strict=False):
            axes.plot(steps, [100 * line["metrics"][key] for line in lines], "o-", color=colour, label=label(key))
            with_interval = [line for line in lines if line.get("intervals")]
            limits = np.array([line["intervals"][key] for line in with_interval]).reshape(-1, 2)
            axes.fill_between(
                [line["step"] for line in with_interval],
                100 * limits[:, 0],
                100 * limits[:, 1],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
        axes.set(xlabel="step", ylabel="reserved combinations, %", ylim=(0, 100))

    assert run.last is not None
    said = ", ".join(f"{label(key)} {100 * run.last['metrics'][key]:.1f} %" for key in run.headline)
    return plot("scores", "Scores by step", f"At step {run.last['step']}: {said}. Bands are 95 % intervals.", draw)


def _against(run: RunData) -> Plot:
    last, keys = run.last, run.headline
    assert last is not None

    def draw(axes: Axes) -> None:
        rows = np.arange(len(keys))
        for shift, (name, line, marker) in enumerate((("trained", last, "o"), ("untrained", run.untrained, "s"))):
            if not (line and line["metrics"]):
                continue
            values = np.array([line["metrics"][key] for key in keys])
            limits = np.array([line.get("intervals", {}).get(key, [v, v]) for key, v in zip(keys, values, strict=True)])
            error = 100 * np.abs(limits.T - values)
            axes.errorbar(100 * values, rows + 0.15 * shift, xerr=error, fmt=marker, capsize=3, label=name)
        chance = [100 * last["chance"][key] for key in keys]
        axes.plot(chance, rows, "|", color="#555555", markersize=14, label="chance")
        axes.set_yticks(rows, [label(key) for key in keys])
        axes.set(xlabel="reserved combinations, %", xlim=(0, 100))
        axes.invert_yaxis()

    said = "; ".join(
        f"{label(key)} {100 * last['metrics'][key]:.1f} % (chance {100 * last['chance'][key]:.1f})" for key in keys
    )
    return plot("against", "Against untrained and chance", f"{said}. Bars are 95 % intervals.", draw)


def _edits(run: RunData) -> Plot:
    last = run.last
    assert last is not None
    by_edit = last["metrics"][BY_EDIT]
    names = sorted(by_edit, key=by_edit.get)
    both = last["metrics"].get(ITT_BY_EDIT)
    if not (isinstance(both, dict) and both.keys() == by_edit.keys() and all(map(is_number, both.values()))):
        both = None  # a line of an earlier version

    def draw(axes: Axes) -> None:
        rows = np.arange(len(names))
        values = np.array([by_edit[name] for name in names])
        limits = last.get("intervals", {}).get(BY_EDIT, {})
        error = 100 * np.abs(np.array([limits.get(n, [v, v]) for n, v in zip(names, values, strict=True)]).T - values)
        axes.barh(rows, 100 * values, 0.7, xerr=error, color=COLOURS[0], error_kw={"elinewidth": 1}, label="reserved")
        seen = last["metrics"].get("seen", {}).get(BY_EDIT, {})
        if seen:
            axes.plot([100 * seen[name] for name in names], rows, "D", color=COLOURS[1], markersize=4, label="other")
        if both:
            axes.plot(
                [100 * both[name] for name in names], rows, "|", color=COLOURS[2], markersize=9, markeredgewidth=2,
                label="ITT: its paraphrase too",
            )  # fmt: skip
        axes.axvline(50, linestyle=":", color="#555555", label="chance")
        axes.set_yticks(rows, [label(name) for name in names])
        axes.set(xlabel="pictures closer to the true caption, %", xlim=(0, 100))
        axes.grid(False, axis="y")

    best, worst = (f"{label(name)}, {100 * by_edit[name]:.0f} %" for name in (names[-1], names[0]))
    said = f"Best: {best}. Worst: {worst}. Bars are 95 % intervals."
    if both:
        said += " ITT asks that the picture is closer to a paraphrase of the true caption too; its chance is 33 %."
    return plot("edits", "Composition by edit", said, draw, (SIZE[0], 4.2))


def smooth(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the moving average over at most SMOOTH values, over fewer at both ends: float [n]."""
    values = np.asarray(values, float)
    half = min(SMOOTH, max(1, len(values) // 10)) // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first, after = (np.clip(np.arange(len(values)) + shift, 0, len(values)) for shift in (-half, half + 1))
    return (sums[after] - sums[first]) / (after - first)


def label(key: str) -> str:
    """Return a score's name as readers know it."""
    words = key.replace("_", " ")
    return reduce(lambda text, name: text.replace(name, NAMES[name]), NAMES, words)


def _column(run: RunData, name: str) -> np.ndarray:
    return np.array([line[name] for line in run.metrics], float)
