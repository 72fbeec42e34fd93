"""The ring at work for minutes: what its processes hold in memory, and how fast they are, over time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from polygen_stream.bench.baselines import OURS
from polygen_stream.bench.harness.process import Host
from polygen_stream.bench.harness.workload import Work

MIB = 2**20
MOST_POINTS = 100


def soak(work: Work, minutes: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Rounds for `minutes`: about MOST_POINTS of them as points, and the trends over all.

    All bytes of the first round are compared, as always.
    rss_growth_mib: how much more the processes hold together at the end than after the first tenth.
    rate_drift: median rate of the second half / that of the first, minus 1.
    """
    points = []
    with Host(OURS, work) as host:
        host.round(every=1)
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < 60 * minutes or len(points) < 4:
            seconds = host.round()["seconds"]
            resident, private = host.memory()
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
        "points": points[:: max(1, len(points) // MOST_POINTS)],
    }
