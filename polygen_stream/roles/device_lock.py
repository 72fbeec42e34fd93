"""Time slices on a device that several processes of a run share, first come, first served.

A queue per device, in a small file under RUN/device_locks/: the process at its head has the device. It releases the
device when it has nothing to do, or after its time slice, if another process waits; then it queues again at the end. A
dead process, recognised by its pid and start time, is removed from every queue.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from polygen_stream.base.files import write_atomically
from polygen_stream.ring.processes import is_alive, start_time

POLL_S = 0.05


class DeviceLock:
    """This process's place in the queue of one device.

    Args:
        time_slice_s: how long it may stay at the head while others wait. 0: no time slices, it always has the device.
        clock: seconds.
    """

    def __init__(
        self, folder: Path, device: str, time_slice_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.device, self._time_slice_s, self._clock = device, time_slice_s, clock
        self._file = folder / f"{device.replace(':', '-')}.json"
        # Ticks after boot: a time of day would change for every process when the clock is set.
        self._me = [os.getpid(), start_time(os.getpid())]
        self._since: float | None = None  # when it came to the head
        self._looked, self._others = -POLL_S, False  # loops ask often
        self._worked = 0.0

    @property
    def enabled(self) -> bool:
        """Whether processes take turns at all."""
        return self._time_slice_s > 0

    @property
    def held(self) -> bool:
        """Whether this process has the device; no other process can take it away."""
        return not self.enabled or self._since is not None

    def try_acquire(self) -> bool:
        """Join the queue, if not in it yet. Return whether this process has the device, until `release`."""
        if not self.held:
            queue = self._queue(lambda queue: queue if self._me in queue else [*queue, self._me])
            self._since = self._clock() if queue[0] == self._me else None
            self.touch()
        return self.held

    def acquire(self, beat: Callable[[str], None], stop: Callable[[], bool]) -> bool:
        """Wait until this process has the device. Return False if it was asked to stop first."""
        while not self.try_acquire():
            if stop():
                return False
            beat(f"waiting for its turn on {self.device}")
            time.sleep(POLL_S)
        return True

    def contested(self) -> bool:
        """Return whether another process waits for the device that this one has, at most POLL_S ago."""
        if self._since is None:
            return False
        if self._clock() - self._looked >= POLL_S:
            self._looked, self._others = self._clock(), len(self._queue(lambda queue: queue)) > 1
        return self._others

    def slice_expired(self) -> bool:
        """Return whether the time slice is over and another process waits."""
        return self._since is not None and self._clock() - self._since >= self._time_slice_s and self.contested()

    def touch(self) -> None:
        """Record that this process has just used the device."""
        self._worked = self._clock()

    def idle_while_contested(self) -> bool:
        """Return whether this process has been idle for POLL_S while another one waits."""
        return self._since is not None and self._clock() - self._worked > POLL_S and self.contested()

    def release(self) -> None:
        """Leave the queue."""
        if self.enabled:
            self._since = None
            self._queue(lambda queue: [each for each in queue if each != self._me])

    def _queue(self, change: Callable[[list], list]) -> list:
        """Return the queue after a change, without dead processes."""
        self._file.parent.mkdir(exist_ok=True)
        with FileLock(self._file.with_suffix(".lock")):
            try:
                queue = json.loads(self._file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                queue = []
            new = change([each for each in queue if is_alive(*each)])
            if new != queue:
                write_atomically(self._file, json.dumps(new))  # a process killed while it writes leaves the old one
        return new
