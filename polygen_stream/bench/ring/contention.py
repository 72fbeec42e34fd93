"""From 1 to 16 producers on one ring: small pictures, so that the books are the work and not the copies."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from polygen_stream.bench.baselines import TIMED
from polygen_stream.bench.harness.process import Host, interleave
from polygen_stream.bench.harness.workload import Work
from polygen_stream.bench.statistics import summarise

PRODUCERS = (1, 2, 4, 8, 16)
SIDE = 32
SLOTS = 4096


def measure_contention(images: int, rounds: int, producers: tuple[int, ...] = PRODUCERS) -> dict[str, Any]:
    """By number of producers: images per second, and what a commit of `handed` images costs and waits for the mutex."""
    with ExitStack() as stack:
        hosts = {count: Host(TIMED, Work(SIDE, images, SLOTS, producers=count)) for count in producers}
        for host in hosts.values():
            stack.enter_context(host)
        answers = interleave(list(hosts.values()), rounds)
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
