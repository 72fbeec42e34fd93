"""When the processes of a run start: in the order of the plan, and not more at once than there are cores.

Importing torch and loading a model keeps a core busy for seconds. Processes that all do so at once on few cores come up
together, at the end; one after the other the captioner writes while the renderers load, and they render while the
trainer does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from polygen_stream.launch.children import Child
from polygen_stream.launch.process_plan import ProcessSpec
from polygen_stream.ring import RingStats

# Longer than that no process holds up others: what takes so long waits for a disk, a network or another machine.
HOLDS_UP_S = 20.0


class StartQueue:
    """The processes that have yet to be started.

    Args:
        processes: In starting order. Ranks of one trainer start together.
        at_once: How many may be loading at the same time; the cores of this process if None.
    """

    def __init__(self, processes: Sequence[ProcessSpec], at_once: int | None = None) -> None:
        self._at_once = at_once or len(os.sched_getaffinity(0))
        by_trainer = groupby(processes, lambda each: each.name if each.rank is None else "the ranks")
        self._groups = [[*group] for _, group in by_trainer]

    @property
    def left(self) -> list[ProcessSpec]:
        """What has not been started, in starting order."""
        return [process for group in self._groups for process in group]

    def due(self, children: Sequence[Child], stats: RingStats, now: float) -> list[ProcessSpec]:
        """Return the processes to be started now.

        Args:
            children: Those that were started.
            stats: Of the ring.
            now: Monotonic seconds.
        """
        rows = {row["pid"]: row for row in stats.processes}
        loading = sum(
            child.alive and now - child.started < HOLDS_UP_S and is_loading(rows.get(child.popen.pid))
            for child in children
            if child.process.kind.in_ring
        )
        due: list[ProcessSpec] = []
        for group in self._groups:
            if loading + len(due) >= self._at_once:
                break
            due += group
        return due

    def remove(self, started: Sequence[ProcessSpec]) -> None:
        """Remove what `due` returned and has been started."""
        self._groups = [group for group in self._groups if group[0] not in started]


def is_loading(row: Mapping[str, Any] | None) -> bool:
    """Whether a process still gets ready, by its row in the ring's table: it has not worked, and waits for nothing."""
    return row is None or not (row["wait_s"] or row["busy_s"] or row["doing"].startswith("waiting"))
