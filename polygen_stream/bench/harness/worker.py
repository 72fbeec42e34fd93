"""The process a peer lives in: its consumer, and the parent of its producers.

    python -m polygen_stream.bench.harness.worker PEER WORK PARENT

reads one JSON line per round on stdin, {"first": sample, "every": n}, and answers with one on stdout, {"seconds": ...}
or {"error": ...}. It ends at end of file, or when its parent dies.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, TextIO

from polygen_stream.bench.baselines import BASELINES, Baseline
from polygen_stream.bench.harness.workload import Check, Work, WorkPictures
from polygen_stream.bench.parent_death import die_with_parent


def run_round(peer: Baseline, work: Work, pictures: WorkPictures, first: int, every: int) -> dict[str, Any]:
    """Samples first .. first + work.images - 1 through `peer`. DamagedSample when they come out changed."""
    check = Check(work, pictures.pool, first, every)
    began = time.perf_counter()
    peer.begin(first)
    for _ in range(work.images // work.read):
        check.batch(peer.draw())
    seconds = time.perf_counter() - began
    measured = peer.finish()
    check.finish()
    return {"seconds": seconds, **measured}


def main() -> None:
    name, work = sys.argv[1], Work.from_json(sys.argv[2])
    die_with_parent(int(sys.argv[3]))
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # libraries print what they like; stdout is for answers alone
        try:
            _serve(name, work, answers)
        except Exception as problem:
            traceback.print_exc()
            print(json.dumps({"error": f"{type(problem).__name__}: {problem}"}), file=answers)
            sys.exit(1)


def _serve(name: str, work: Work, answers: TextIO) -> None:
    pictures = WorkPictures(work)
    peer = BASELINES[name].load()(work)
    try:
        print(json.dumps({"ready": True}), file=answers)
        for line in sys.stdin:
            request = json.loads(line)
            print(json.dumps(run_round(peer, work, pictures, request["first"], request["every"])), file=answers)
    finally:
        peer.close()


if __name__ == "__main__":
    main()
