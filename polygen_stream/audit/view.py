"""The audit as a table and as one picture."""

from __future__ import annotations

from collections.abc import Mapping
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


def audit_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """One column per generator; shares in percent with 95 % intervals, seen / reserved combinations below."""
    table = Table(title="What the oracle reads in the pictures, % [95 % interval]")
    table.add_column("asked")
    for name in results:
        table.add_column(name, justify="right")
    for key, label in ROWS.items():
        table.add_row(label, *(_percent(r[key]) for r in results.values()))
        if "seen" in next(iter(results.values()))[key]:
            cells = (f"{r[key]['seen']['share']:.1%} / {r[key]['unseen']['share']:.1%}" for r in results.values())
            table.add_row("  seen / reserved", *cells, style="dim")
    spread = (r["diversity"] for r in results.values())
    table.add_row("diversity (feature std)", *(f"{d['std']:.3f} [{d['low']:.3f}, {d['high']:.3f}]" for d in spread))
    table.add_row("Vendi score of 8", *(f"{r['diversity']['vendi']:.2f}" for r in results.values()))
    table.add_row("images/s", *(f"{r['images_per_second']:.1f}" for r in results.values()))
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


def audit_figure(results: Mapping[str, Mapping[str, Any]], reference: np.ndarray | None = None) -> Figure:
    """Recognizability against diversity, radial spectra, and hard-negative fidelity by edit.

    Args:
        results: {generator: figures} of `audit_generator`.
        reference: radial spectrum of painter pictures, drawn beside the generators'.
    """
    figure, (quadrant, spectra, fidelity) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    for name, r in results.items():
        shown, spread = r["recognizability"], r["diversity"]
        quadrant.errorbar(
            spread["std"],
            100 * shown["share"],
            xerr=[[spread["std"] - spread["low"]], [spread["high"] - spread["std"]]],
            yerr=[[100 * (shown["share"] - shown["low"])], [100 * (shown["high"] - shown["share"])]],
            fmt="o",
            label=name,
        )
        spectra.plot(r["spectrum"], label=name)
    quadrant.set(
        xlabel="diversity within a caption (feature std)",
        ylabel="recognizability (thing, colour and background right, %)",
    )
    if reference is not None:
        spectra.plot(reference, "k--", label="painter")
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


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['share']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"
