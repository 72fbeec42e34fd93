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

SCORES = (
    "zero_shot_things", "zero_shot_colours", "retrieval_i2t_r1", "retrieval_t2i_r1", "compositional",
    "micro_sugarcrepe_pp_itt", "micro_sugarcrepe_pp_tot",
)  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    summaries = [read_summary(run) for run in parser.parse_args().runs]
    print("| reserved combinations, % | trained | untrained | chance |\n| --- | ---: | ---: | ---: |")
    for score in SCORES:
        if not all(s["evaluation"]["chance"].get(score) for s in summaries):
            continue  # a run of an earlier version
        cells = [spread([100 * s["evaluation"][model][score] for s in summaries]) for model in ("trained", "untrained")]
        chance = 100 * summaries[0]["evaluation"]["chance"][score]
        print(f"| {score.replace('_', ' ')} | {cells[0]} | {cells[1]} | {chance:.1f} |")
    for task, first in common_tasks(summaries):
        found = [s["evaluation"]["tasks"][task][first] for s in summaries]
        cells = [spread([100 * each[model] for each in found]) for model in ("trained", "untrained")]
        chance = "-" if found[0]["chance"] is None else f"{100 * found[0]['chance']:.1f}"
        print(f"| {task} {first.replace('_', ' ')} | {cells[0]} | {cells[1]} | {chance} |")
    print()
    for name, unit in (("seconds", "s"), ("seconds_to_first_step", "s"), ("images_total", ""), ("mean_reuse", "")):
        print(f"{name.replace('_', ' ')}: {spread([s[name] for s in summaries])} {unit}".rstrip())


def common_tasks(summaries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the tasks that all runs were scored on before and after training, each with its first score."""
    found = [s["evaluation"].get("tasks", {}) for s in summaries]

    def in_all(task: str, score: str) -> bool:
        shares = [tasks.get(task, {}).get(score, {}) for tasks in found]
        return all(share.get(model) is not None for share in shares for model in ("trained", "untrained"))

    return [(task, score) for task, scores in found[0].items() for score in [*scores][:1] if in_all(task, score)]


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
