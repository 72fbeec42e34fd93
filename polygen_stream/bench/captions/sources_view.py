"""The measurement of caption sources as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polygen_stream.bench.captions.sources import REFERENCE

HEAD = ("source", "in flight", "captions/s", f"x {REFERENCE}", "captions/CPU-s", f"x {REFERENCE}", "tokens/s",
        "accepted, %", "dropped, %", "start, s", "MiB")  # fmt: skip


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table: one line per source and concurrency."""
    lines = [f"| {' | '.join(HEAD)} |", f"| --- |{' ---: |' * (len(HEAD) - 1)}"]
    for row in result["results"]:
        rate, per_cpu = row["captions_per_s"], f"{row['captions_per_cpu_s']['median']:.2f}"
        served = row["source"] == "openai"  # by a process that is not the source's
        cells = (
            row["source"],
            row["in_flight"],
            f"{rate['median']:.2f} ± {rate['spread'] / 2:.2f}",
            _factor(row, result["results"], "captions_per_s"),
            "" if served else per_cpu,
            "" if served else _factor(row, result["results"], "captions_per_cpu_s"),
            f"{row['tokens_per_s']['median']:.0f}",
            f"{100 * row['accepted']:.0f}",
            f"{100 * row['dropped']:.0f}",
            f"{row['start_s']:.0f}",
            row["memory_mib"],
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _factor(row: Mapping[str, Any], rows: list[Mapping[str, Any]], rate: str) -> str:
    """How many times the reference's rate, with as many in flight."""
    same = [r for r in rows if (r["source"], r["in_flight"]) == (REFERENCE, row["in_flight"])]
    return f"{row[rate]['median'] / same[0][rate]['median']:.2f}" if same else ""
