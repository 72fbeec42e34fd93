"""From 1 to 16 producers on one ring, with small images, so that bookkeeping and not copying is measured."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from polygen_stream.bench.baselines.registry import BASELINES, TIMED
from polygen_stream.bench.harness.process import BaselineProcess, interleave
from polygen_stream.bench.harness.workload import Work
from polygen_stream.bench.statistics import summarise

PRODUCERS = (1, 2, 4, 8, 16)
SIDE = 32
SLOTS = 4096


def measure_contention(images: int, rounds: int, producers: tuple[int, ...] = PRODUCERS) -> dict[str, Any]:
    """Measure throughput and commits by number of producers.

    Args:
        images: Images of a round.
        rounds: Measured rounds.
        producers: Numbers of producers.

    Returns:
        By number of producers: images per second, and percentiles in ms of a commit of work.handed images and of its
        wait for the mutex.
    """
    with ExitStack() as stack:
        processes = {
            count: BaselineProcess(BASELINES[TIMED], Work(SIDE, images, SLOTS, producers=count)) for count in producers
        }
        for process in processes.values():
            stack.enter_context(process)
        answers = interleave(list(processes.values()), rounds)
    result = {}
    for count, rounds_of in zip(producers, answers, strict=True):
        commits = np.concatenate([answer["commit_s"] for answer in rounds_of])
        waits = np.concatenate([answer["commit_wait_s"] for answer in rounds_of])
        result[str(count)] = {
            "images_per_s": summarise([images / answer["seconds"] for answer in rounds_of]),
            "commit_ms": _percentiles(commits),
            "commit_wait_ms": _percentiles(waits),
        }
    return result


def _percentiles(seconds: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(1e3 * seconds, (50, 99)).tolist()
    return {"p50": p50, "p99": p99, "max": 1e3 * float(seconds.max()), "n": len(seconds)}
