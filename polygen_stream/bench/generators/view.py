"""The measurement of generators as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = ("generator", "backend", "batch", "images/s", "images/CPU-s", "x eager", "ms", "text", "denoise", "decode",
        "other", "MiB")  # fmt: skip


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table: one line per generator, backend and batch size, then the ensemble."""
    lines = [f"| {' | '.join(HEAD)} |", f"| --- | --- |{' ---: |' * (len(HEAD) - 2)}"]
    lines += [_line(row, result["results"]) for row in result["results"]]
    for row in result["ensemble"]:
        factor = _factor(row, result["ensemble"])
        cells = ["all, equal shares", row["backend"], row["batch"], "", row["images_per_cpu_s"], factor]
        lines.append(f"| {' | '.join(map(str, cells + [''] * (len(HEAD) - len(cells))))} |")
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> str:
    same = [other for other in rows if other["generator"] == row["generator"]]
    stages = [row["stages_ms"][stage] for stage in ("text", "denoise", "decode", "other")]
    cells = [row["generator"], row["backend"], row["batch"], row["images_per_s"], row["images_per_cpu_s"],
             _factor(row, same), row["latency_ms"], *stages, row["mib"]]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _factor(row: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> str:
    """How many times eager's pictures per processor second, at the same batch size."""
    eager = [other for other in rows if (other["backend"], other["batch"]) == ("eager", row["batch"])]
    return f"{row['images_per_cpu_s'] / eager[0]['images_per_cpu_s']:.2f}" if eager else ""
