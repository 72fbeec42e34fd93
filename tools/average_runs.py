"""Average the scores of completed runs that differ only in their seed, and print a Markdown table.

    for s in 0 1 2; do polygen-stream run --seed $s --run-dir runs/seed-$s; done
    python tools/average_runs.py runs/seed-0 runs/seed-1 runs/seed-2

It reads summary.json of each run folder and prints mean and sample standard deviation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

SCORES = ("zero_shot_things", "zero_shot_colours", "retrieval_i2t_r1", "retrieval_t2i_r1", "compositional")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    summaries = [read_summary(run) for run in parser.parse_args().runs]
    print("| reserved combinations, % | trained | untrained | chance |\n| --- | ---: | ---: | ---: |")
    for score in SCORES:
        cells = [spread([100 * s["evaluation"][model][score] for s in summaries]) for model in ("trained", "untrained")]
        chance = 100 * summaries[0]["evaluation"]["chance"][score]
        print(f"| {score.replace('_', ' ')} | {cells[0]} | {cells[1]} | {chance:.1f} |")
    print()
    for name, unit in (("seconds", "s"), ("seconds_to_first_step", "s"), ("images_total", ""), ("mean_reuse", "")):
        print(f"{name.replace('_', ' ')}: {spread([s[name] for s in summaries])} {unit}".rstrip())


def read_summary(run: Path) -> dict[str, Any]:
    """Return the summary of a completed run; exit with an error if there is none."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"error: {run} has no summary.json: give the folder of a completed run")
    if summary["status"] != "completed":
        sys.exit(f"error: {run} is {summary['status']}, not completed: its scores are not final")
    return summary


def spread(values: list[float]) -> str:
    """Format the mean and the sample standard deviation of values."""
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
