"""The audit as a table and as one picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from rich.table import Table

ROWS = {
    "recognizability": "one thing alone: all of",
    "thing": "thing",
    "colour": "colour",
    "background": "background",
    "size": "size",
    "count": "count",
    "relation": "relation (pairs)",
    "pair_thing": "left or upper thing (pairs)",
    "pair_second_thing": "the other thing (pairs)",
    "hard_negative_fidelity": "hard negative shows its edit",
}
MARKERS = {"ensemble": "D", "painter": "*"}  # of the points that are no single generator's


def audit_table(results: Mapping[str, Mapping[str, Any]], together: Mapping[str, Mapping[str, Any]]) -> Table:
    """One column per generator; shares in percent with 95 % intervals, seen / reserved combinations below.

    Args:
        results: {generator: figures}.
        together: {"ensemble": figures, "painter": figures}, which have fewer of them.
    """
    columns = {**results, **together}
    table = Table(title="What the oracle reads in the pictures, % [95 % interval]")
    table.add_column("asked")
    for name in columns:
        table.add_column(name, justify="right")

    def row(label: str, key: str, cell: Callable[[Any], str], style: str | None = None) -> None:
        table.add_row(label, *(cell(one[key]) if key in one else "" for one in columns.values()), style=style)

    for key, label in ROWS.items():
        row(label, key, _percent)
        if "seen" in next(iter(results.values()))[key]:
            row("  seen / reserved", key, _seen_and_reserved, "dim")
    row("diversity (feature std)", "diversity", lambda d: f"{d['std']:.3f} [{d['low']:.3f}, {d['high']:.3f}]")
    row("Vendi score of 8", "diversity", lambda d: f"{d['vendi']:.2f}")
    row("images/s", "images_per_second", "{:.1f}".format)
    return table


def distance_table(distances: Mapping[str, Mapping[str, float]]) -> Table:
    """How far the normalised spectra of generators and painter are from each other, in decades."""
    table = Table(title="Distance of spectra, decades")
    table.add_column("")
    for name in distances:
        table.add_column(name, justify="right")
    for name, others in distances.items():
        table.add_row(name, *("" if other == name else f"{others[other]:.3f}" for other in distances))
    return table


def language_table(writer: Mapping[str, Any], editor: Mapping[str, Any]) -> Table:
    """What the validators say of raw replies, and the grammar of what they let pass; percent with 95 % intervals."""
    table = Table(title="What the language models write, % [95 % interval]")
    for heading in ("asked", "raw", "accepted ones that the grammar could write"):
        table.add_column(heading, justify="left" if heading == "asked" else "right")
    for key, label in {"valid": "caption of the grammar", "concept_present": "with its concept"}.items():
        table.add_row(label, _percent(writer[key]), "")
    table.add_row(
        "hard negative changes one axis, the named one", _percent(editor["one_axis"]), _percent(editor["exact"])
    )
    for axis, raw in editor["one_axis_by_axis"].items():
        table.add_row(f"  {axis}", _percent(raw), _percent(editor["exact_by_axis"][axis]), style="dim")
    rates = (f"{r['captions_per_second']:.0f}" for r in (writer, editor))
    table.add_row("captions/s, hard negatives/s", *rates)
    return table


def verdict_table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """What people said of hard negatives, by axis; percent with 95 % intervals."""
    table = Table(title="Hard negatives that people found right, % [95 % interval]")
    table.add_column("axis")
    table.add_column("judged", justify="right")
    table.add_column("right", justify="right")
    for axis, right in found.items():
        table.add_row(axis, str(right["n"]), _percent(right), end_section=axis == list(found)[-2])
    return table


def audit_figure(results: Mapping[str, Mapping[str, Any]], together: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Recognizability against diversity, radial spectra, and hard-negative fidelity by edit.

    Args:
        results: {generator: figures} of `audit_generator`.
        together: {"ensemble": figures, "painter": figures}, whose points and the painter's spectrum are drawn beside.
    """
    figure, (quadrant, spectra, fidelity) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    for name, r in {**results, **together}.items():
        shown, spread = r["recognizability"], r["diversity"]
        quadrant.errorbar(
            spread["std"],
            100 * shown["share"],
            xerr=[[spread["std"] - spread["low"]], [spread["high"] - spread["std"]]],
            yerr=[[100 * (shown["share"] - shown["low"])], [100 * (shown["high"] - shown["share"])]],
            fmt=MARKERS.get(name, "o"),
            color="black" if name in MARKERS else None,
            label=name,
        )
        if "spectrum" in r:
            spectra.plot(r["spectrum"], "k--" if name in MARKERS else "-", label=name)
    quadrant.set(
        xlabel="diversity within a caption (feature std)",
        ylabel="recognizability (thing, colour and background right, %)",
    )
    spectra.set(xlabel="radius in the Fourier plane (16 = Nyquist)", ylabel="log10 power")
    by_edit = {name: r["hard_negative_fidelity_by_edit"] for name, r in results.items()}
    names = list(next(iter(by_edit.values())))
    height = 0.8 / len(by_edit)
    for i, (name, shares) in enumerate(by_edit.items()):
        rows = np.arange(len(names)) + i * height
        fidelity.barh(rows, [100 * shares[e]["share"] for e in names], height, label=name)
    fidelity.set_yticks(np.arange(len(names)) + 0.4, names)
    fidelity.set(xlabel="hard negatives whose picture shows the edit, %")
    fidelity.invert_yaxis()
    for axes in (quadrant, spectra, fidelity):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure


def _seen_and_reserved(share: Mapping[str, Any]) -> str:
    return f"{share['seen']['share']:.1%} / {share['unseen']['share']:.1%}" if "seen" in share else ""


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['share']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"
