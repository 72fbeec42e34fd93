"""The process of one baseline: its consumer, and the parent of its producers.

    python -m polygen_stream.bench.harness.worker MODULE:CLASS WORK PARENT_PID

It reads one JSON line per round from stdin, {"first": sample, "every": n}, and answers each with one line on stdout,
{"seconds": ...} or {"error": ...}. It ends at end of file, or when its parent dies.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, TextIO

from polygen_stream.bench.harness.baseline import Baseline, load_baseline
from polygen_stream.bench.harness.workload import Check, Work, WorkPictures
from polygen_stream.bench.parent_death import die_with_parent


def run_round(baseline: Baseline, work: Work, pictures: WorkPictures, first: int, every: int) -> dict[str, Any]:
    """Pass samples first .. first + work.images - 1 through a baseline.

    Args:
        baseline: The baseline, idle.
        work: The workload that it was made for.
        pictures: Source of the images' pixels, to compare with.
        first: Number of the first sample.
        every: Compare the bytes of every so many samples; their numbers are all checked.

    Returns:
        {"seconds": duration} and what the producers measured.

    Raises:
        DamagedSample: A sample came out changed, was lost or came twice.
    """
    check = Check(work, pictures.pool, first, every)
    began = time.perf_counter()
    baseline.begin(first)
    for _ in range(work.images // work.read):
        check.batch(baseline.draw())
    seconds = time.perf_counter() - began
    measured = baseline.finish()
    check.finish()
    return {"seconds": seconds, **measured}


def main() -> None:
    """Serve rounds until end of file; a failure is answered and ends the process with exit code 1."""
    target, work = sys.argv[1], Work.from_json(sys.argv[2])
    die_with_parent(int(sys.argv[3]))
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # libraries may print; stdout carries answers only
        try:
            _serve(target, work, answers)
        except Exception as problem:
            traceback.print_exc()
            print(json.dumps({"error": f"{type(problem).__name__}: {problem}"}), file=answers)
            sys.exit(1)


def _serve(target: str, work: Work, answers: TextIO) -> None:
    pictures = WorkPictures(work)
    baseline = load_baseline(target)(work)
    try:
        print(json.dumps({"ready": True}), file=answers)
        for line in sys.stdin:
            request = json.loads(line)
            print(json.dumps(run_round(baseline, work, pictures, request["first"], request["every"])), file=answers)
    finally:
        baseline.close()


if __name__ == "__main__":
    main()
