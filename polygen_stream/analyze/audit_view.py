"""The audit as a table and as one picture."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from rich.table import Table

ROWS = {
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


def audit_table(results: Mapping[str, Mapping[str, object]]) -> Table:
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


def audit_figure(results: Mapping[str, Mapping[str, object]], reference: np.ndarray | None = None) -> Figure:
    """Recognizability against diversity, radial spectra, and hard-negative fidelity by edit.

    Args:
        reference: radial spectrum of painter pictures, drawn beside the generators'.
    """
    figure, (quadrant, spectra, fidelity) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    for name, r in results.items():
        thing, spread = r["thing"], r["diversity"]
        quadrant.errorbar(
            spread["std"],
            100 * thing["share"],
            xerr=[[spread["std"] - spread["low"]], [spread["high"] - spread["std"]]],
            yerr=[[100 * (thing["share"] - thing["low"])], [100 * (thing["high"] - thing["share"])]],
            fmt="o",
            label=name,
        )
        spectra.plot(r["spectrum"], label=name)
    quadrant.set(xlabel="diversity within a caption (feature std)", ylabel="recognizability (thing, %)")
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
