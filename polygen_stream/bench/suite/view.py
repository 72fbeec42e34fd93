"""All measurements as a table, and two of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polygen_stream.bench.suite.run_all import Change, measures


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table, one line per number."""
    rows = [f"| {measure.name} | {measure.value:.4g} |" for measure in measures(result)]
    return "\n".join(["| measured | |", "| --- | ---: |", *rows]) + "\n"


def changes_markdown(changes: Sequence[Change]) -> str:
    """A Markdown table, one line per number that both measurements have."""
    rows = []
    for change in changes:
        ratio = f"{change.new / change.old:.3f}" if change.old else ""
        verdict = "worse" if change.worse else "better" if change.better else ""
        rows.append(f"| {change.measure} | {change.old:.4g} | {change.new:.4g} | {ratio} | {verdict} |")
    return (
        "\n".join(["| measured | before | now | now / before | |", "| --- | ---: | ---: | ---: | --- |", *rows]) + "\n"
    )
