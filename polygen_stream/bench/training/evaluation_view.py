"""The measurement of evaluation beside training as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(result: Mapping[str, Any]) -> str:
    """A Markdown table, one line per kind of pair."""
    lines = ["| pair | ms a step | ratio, median of pairs [95 %] |", "| --- | ---: | ---: |"]
    for kind, ratio in result["ratio"].items():
        first, second = result["step_ms"][kind]
        lines.append(
            f"| {kind} | {first:.1f} / {second:.1f} | {ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] |"
        )
    share = f"The evaluator had {100 * result['evaluator_share']:.0f} % of a core during the steps beside it."
    return "\n".join(lines) + f"\n\n{share}\n"
