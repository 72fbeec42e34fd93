"""Views of `bench ring`: tables in the terminal, the same in Markdown, and the growth plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = list[list[str]]


def tables(result: dict[str, Any]) -> list[tuple[str, Rows]]:
    """Return (title, rows) of every table; the first row is the header."""
    shown = [_throughput(result), _draw(result["draw"]), _contention(result["contention"])]
    if "soak" in result:
        shown.append(_soak(result["soak"]))
    shown.append(_targets(result["targets"]))
    return shown


def show(result: dict[str, Any], console: Console) -> None:
    """Print the tables, and why baselines were skipped."""
    for title, (heading, *rows) in tables(result):
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(heading):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for name, reason in result["skipped"].items():
        console.print(f"{name}: {reason}")


def markdown(result: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    parts = []
    for title, (heading, *rows) in tables(result):
        rule = ["---", *["---:"] * (len(heading) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (heading, rule, *rows)]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def plot_growth(result: dict[str, Any], path: Path) -> None:
    """Plot milliseconds of a draw by slots to a file, both axes logarithmic."""
    from matplotlib.figure import Figure

    growth = result["draw"]["growth"]
    slots = [point["slots"] for point in growth]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for key, label, marker in (("whole_ms", "whole draw", "o"), ("held_ms", "mutex held", "s")):
        axes.loglog(slots, [point[key]["median"] for point in growth], marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(slots, [f"{count // 1024} k" if count < 2**20 else f"{count // 2**20} M" for count in slots])
    axes.set_xlabel("slots, one image a caption, all complete")
    axes.set_ylabel("ms, median")
    axes.set_title("A draw of 512 captions", loc="left")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _throughput(result: dict[str, Any]) -> tuple[str, Rows]:
    cases = list(result["work"])
    measurements = {"ring": result["ours"], "limit: memcpy": result["memcpy"], **result["baselines"]}
    rows = [["images/s through", *(f"{case}" for case in cases), f"of limit, {cases[0]}", "note"]]
    for name, measured in measurements.items():
        row = [name]
        for case in cases:
            value = measured.get(case, {}).get("images_per_s")
            row.append(f"{value['median']:,.0f} ± {value['spread'] / 2:,.0f}" if value else "")
        row.append(f"{measured[cases[0]]['of_limit']['median']:.2f}")
        rows.append([*row, measured.get("note", "")])
    return "Insert and draw", rows


def _draw(measured: dict[str, Any]) -> tuple[str, Rows]:
    rows = [["a draw of captions", "from captions", "slots", "mutex held, ms", "whole, ms"]]
    for case in (measured["one_image_a_caption"], measured["four_images_a_caption"], *measured["growth"]):
        rows.append(
            [
                f"{case['drawn_captions']}",
                f"{case['captions']:,}",
                f"{case['slots']:,}",
                *(f"{case[key]['median']:.2f} ± {case[key]['spread'] / 2:.2f}" for key in ("held_ms", "whole_ms")),
            ]
        )
    return f"Draw, {measured['categories']} categories", rows


def _contention(measured: dict[str, Any]) -> tuple[str, Rows]:
    rows = [["producers", "images/s", "commit p50, ms", "commit p99, ms", "mutex wait p50, ms", "mutex wait p99, ms"]]
    for count, case in measured.items():
        rate = case["images_per_s"]
        times = [f"{case[key][p]:.2f}" for key in ("commit_ms", "commit_wait_ms") for p in ("p50", "p99")]
        rows.append([count, f"{rate['median']:,.0f} ± {rate['spread'] / 2:,.0f}", *times])
    return "Contention, 32 px", rows


def _soak(measured: dict[str, Any]) -> tuple[str, Rows]:
    points = measured["points"]
    rows = [["at, s", "images/s", "resident, MiB", "private, MiB"]]
    for number in range(0, len(points), max(1, len(points) // 10)):
        point = points[number]
        values = (point["at_s"], point["images_per_s"], point["rss_mib"], point["private_mib"])
        rows.append([f"{values[0]:.0f}", f"{values[1]:,.0f}", f"{values[2]:,.1f}", f"{values[3]:,.1f}"])
    title = (
        f"Soak of {measured['minutes']:g} minutes: resident {measured['rss_growth_mib']:+.1f} MiB, "
        f"rate {100 * measured['rate_drift']:+.1f} %"
    )
    return title, rows


def _targets(targets: list[dict[str, Any]]) -> tuple[str, Rows]:
    rows = [["target", "", "measured", "met"]]
    for target in targets:
        rows.append([target["name"], target["target"], f"{target['measured']:.2f}", "yes" if target["met"] else "no"])
    return "Targets", rows
