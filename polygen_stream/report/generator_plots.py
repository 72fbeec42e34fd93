"""The report's plots of generators: recognizability and diversity, spectra, and the generator probe."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from polygen_stream.analyze.invariance import FEATURES
from polygen_stream.report.plots import COLOURS, SIZE, Plot, plot

JUDGES = {
    "oracle": "an oracle reads the caption, %",
    "clip_score": "CLIPScore",
    "prototype": "nearest to its own prototype, %",
}
MODELS = ("untrained", "trained")


def generator_plots(analysis: Mapping[str, Any] | None) -> list[Plot]:
    """Return the plots that an analysis (the content of analysis.json) has numbers for."""
    if not analysis:
        return []
    found = [_spectra(analysis)]
    if all("diversity" in figures for figures in analysis["generators"].values()):
        found.insert(0, _quadrant(analysis))
    probes = {name: probe for name, probe in analysis.get("invariance", {}).items() if name in FEATURES}
    if probes:
        found.append(_invariance(probes))
    return found


def _quadrant(analysis: Mapping[str, Any]) -> Plot:
    generators = analysis["generators"]
    judge = next(name for name in JUDGES if all(name in figures for figures in generators.values()))
    points = {name: (figures["diversity"], _vertical(figures[judge])) for name, figures in generators.items()}

    def draw(axes: Axes) -> None:
        for name, (x, y) in points.items():
            error = {"xerr": [[x["mean"] - x["low"]], [x["high"] - x["mean"]]],
                     "yerr": [[y["mean"] - y["low"]], [y["high"] - y["mean"]]]}  # fmt: skip
            axes.errorbar(x["mean"], y["mean"], **error, fmt="o", capsize=3, label=short(name))
        axes.axvline(fmean(x["mean"] for x, _ in points.values()), color="#999999", linewidth=0.8)
        axes.axhline(fmean(y["mean"] for _, y in points.values()), color="#999999", linewidth=0.8)
        axes.set(xlabel=f"diversity within a {analysis['classes']} (unbiased std)", ylabel=JUDGES[judge])

    said = "; ".join(f"{short(name)}: diversity {x['mean']:.2f}, {y['mean']:.2f}" for name, (x, y) in points.items())
    title = "Recognizability and diversity"
    return plot("quadrant", title, f"{JUDGES[judge]} against diversity. {said}. Bars are 95 % intervals.", draw)


def _vertical(value: Mapping[str, float]) -> dict[str, float]:
    if "share" in value:
        return {"mean": 100 * value["share"], "low": 100 * value["low"], "high": 100 * value["high"]}
    return dict(value)


def _spectra(analysis: Mapping[str, Any]) -> Plot:
    generators = analysis["generators"]

    def draw(axes: Axes) -> None:
        lines = [*((short(name), figures["spectrum"], "-") for name, figures in generators.items()),
                 ("ensemble", analysis["ensemble"]["spectrum"], "-.")]  # fmt: skip
        if "reference_spectrum" in analysis:
            lines.append(("real", analysis["reference_spectrum"], "--"))
        for colour, (name, spectrum, style) in zip(COLOURS, lines, strict=False):
            radii = np.arange(1, len(spectrum)) / (len(spectrum) - 1)
            dark = "#000000" if name in ("real",) else colour
            axes.plot(radii, spectrum[1:], style, label=name, color=dark, linewidth=1.2)
        axes.set(xscale="log", xlabel="spatial frequency, share of Nyquist", ylabel="log10 share of power")

    said = "; ".join(
        f"{short(name)}: slope {f['slope']:.2f}"
        + (f", {f['spectral_distance']:.2f} decades from real" if "spectral_distance" in f else "")
        for name, f in {**generators, "ensemble": analysis["ensemble"]}.items()
    )
    return plot("spectra", "Power spectra", f"Radial power spectra. {said}.", draw)


def _invariance(probes: Mapping[str, Mapping[str, float]]) -> Plot:
    chance = next(iter(probes.values()))["chance"]

    names = [name for name in FEATURES if name in probes]

    def draw(axes: Axes) -> None:
        values = np.array([probes[name]["share"] for name in names])
        error = np.abs(np.array([[probes[n]["low"], probes[n]["high"]] for n in names]).T - values)
        colours = [COLOURS[0] if name == "trained" else COLOURS[4] for name in names]
        axes.barh([FEATURES[name] for name in names], 100 * values, 0.5, xerr=100 * error, color=colours, capsize=3)
        axes.invert_yaxis()
        axes.axvline(100 * chance, linestyle=":", color="#555555", label="chance: invariant")
        axes.set(xlabel="accuracy of the generator probe, %", xlim=(0, 100))
        axes.grid(False, axis="y")

    share = {name: f"{100 * probes[name]['share']:.0f} %" for name in names}
    models = "; ".join(f"{name} {share[name]}" for name in MODELS if name in share)
    said = (
        f"A linear probe names a picture's generator from the model's embedding: {models}, chance {100 * chance:.0f} %."
    )
    references = ", ".join(f"{FEATURES[name]} {share[name]}" for name in names if name not in MODELS)
    if references:
        said += f" For comparison, on the same pictures: {references}."
    return plot("invariance", "Generator invariance", said, draw, (SIZE[0], 1.2 + 0.4 * len(names)))


def short(name: str) -> str:
    """Return a recipe's name without its folder."""
    return name.rpartition("/")[2]
