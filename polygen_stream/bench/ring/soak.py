"""The ring at work for minutes: memory and throughput over time, to find leaks and drift."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from polygen_stream.bench.baselines.registry import BASELINES, OURS
from polygen_stream.bench.harness.process import BaselineProcess
from polygen_stream.bench.harness.workload import Work

MIB = 2**20
MAX_POINTS = 100


def soak(work: Work, minutes: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Run rounds for some minutes, after a warm-up round in which all bytes are compared.

    Args:
        work: The workload.
        minutes: Duration.
        say: Called with a line of progress.

    Returns:
        "points": about MAX_POINTS rounds. "rss_growth_mib", "private_growth_mib": growth of the memory of all processes
        from the first tenth of the time to the end. "rate_drift": median rate of the second half / of the first - 1.
    """
    points = []
    with BaselineProcess(BASELINES[OURS], work) as process:
        process.round(every=1)
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < 60 * minutes or len(points) < 4:
            seconds = process.round()["seconds"]
            resident, private = process.memory()
            points.append(
                {
                    "at_s": elapsed,
                    "images_per_s": work.images / seconds,
                    "rss_mib": resident / MIB,
                    "private_mib": private / MIB,
                }
            )
            if len(points) % 20 == 1:
                last = points[-1]
                say(
                    f"soak {elapsed:6.0f} s: {last['images_per_s']:.0f} images/s, "
                    f"{last['rss_mib']:.1f} MiB resident, {last['private_mib']:.1f} MiB private"
                )
    rates = np.array([point["images_per_s"] for point in points])
    half, tenth = len(points) // 2, max(1, len(points) // 10)
    return {
        "minutes": minutes,
        "rounds": len(points),
        "rss_growth_mib": points[-1]["rss_mib"] - points[tenth]["rss_mib"],
        "private_growth_mib": points[-1]["private_mib"] - points[tenth]["private_mib"],
        "rate_drift": float(np.median(rates[half:]) / np.median(rates[:half]) - 1),
        "points": points[:: max(1, len(points) // MAX_POINTS)],
    }
