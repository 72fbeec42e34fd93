"""The measurement of training loops as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table, one line per loop."""
    lines = ["| loop | ms a step | ours / it, median of paired ratios [95 %] |", "| --- | ---: | ---: |"]
    for name, milliseconds in result["step_ms"].items():
        ratio = result["ratio"].get(name)
        shown = "" if ratio is None else f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
        lines.append(f"| {name} | {milliseconds} | {shown} |")
    return "\n".join(lines) + "\n"
