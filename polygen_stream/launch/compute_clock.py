"""How long a process could compute: the measure of limits on a machine that others use, too."""

from __future__ import annotations

import time
from pathlib import Path

PAUSE_S = 5.0  # between two looks: then the whole run was paused (Ctrl-Z, a stopped container)


class ComputeClock:
    """Counts the seconds of a process, without those in which it was ready and other processes had the cores.

    Computing, reading and waiting for a GPU count. Where the kernel does not say how long a process was kept waiting
    (/proc/PID/schedstat), all seconds count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._before = (-1, 0.0, 0.0)  # pid, moment and seconds kept waiting at the last look

    def look(self, pid: int) -> float:
        """Return the seconds so far. Call it often; a process may take the place of one that died."""
        before, moment, waited = self._before
        now, waited_now = time.monotonic(), kept_waiting_s(pid)
        self._before = (pid, now, waited_now)
        if pid == before:
            # A wait becomes known when it is over: it is taken off what had been counted meanwhile.
            self.seconds += min(now - moment, PAUSE_S) - (waited_now - waited)
        return self.seconds


def kept_waiting_s(pid: int) -> float:
    """Return the seconds in which the first thread of a process was ready to compute and had no core."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):  # it has ended, or the kernel does not count
        return 0.0
