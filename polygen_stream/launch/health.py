"""Processes that live and yet do nothing: found by their heartbeats in the ring."""

from __future__ import annotations

from collections.abc import Iterable

from polygen_stream.launch.children import Child
from polygen_stream.ring import RingStats

# Hang timeouts a process has until its first unit of work is done: imports and weights from a cold disk, or on a
# machine that is busy with something else, take minutes.
START_FACTOR = 5
PAUSE_S = 5.0  # between two looks: then the whole run was paused (a stopped container), and no process is to blame


class Heartbeats:
    """Says which child is silent for too long.

    Args:
        timeout_s: longest silence of a process that has begun to work.
    """

    def __init__(self, timeout_s: float, now: float) -> None:
        self._timeout_s = timeout_s
        self._thawed = self._looked = now

    def silent(self, children: Iterable[Child], stats: RingStats, now: float) -> tuple[Child, str] | None:
        """Return the child that has been silent longest, and why it has to go; None if none has been for too long.

        Only one at a time: the others may be waiting for it.
        """
        if now - self._looked > PAUSE_S:
            self._thawed = now
        self._looked = now
        rows = {row["pid"]: row for row in stats.processes}
        silent = []
        for child in children:
            row = rows.get(child.popen.pid)
            if row is None:  # not registered yet
                row = {"heartbeat_age_s": now - child.started, "doing": "starting", "wait_s": 0, "busy_s": 0}
            limit = self._timeout_s * (1 if row["wait_s"] or row["busy_s"] else START_FACTOR)
            silent_s = min(row["heartbeat_age_s"], now - self._thawed)
            if child.alive and silent_s > limit:
                reason = (
                    f"{child.process.label} was silent for {silent_s:.0f} s (limit {limit:g}, see "
                    f'launch.hang_timeout_s), last known to be "{row["doing"]}", and was killed'
                )
                silent.append((silent_s, child.process.name, child, reason))
        return max(silent)[2:] if silent else None
