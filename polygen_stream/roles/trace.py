"""What the processes of a run do over time: each writes RUN/trace/NAME.PID.jsonl.

First line: {"process", "pid", "clock", "time", "boot"}; clock (monotonic) and time (since 1970) are one instant in
nanoseconds, and the monotonic clock is the same for all processes of one boot. Then, with times of that clock:

    {"t": start, "d": duration, "name": what, "thread": id}        a span
    {"t": when, "counters": {chart: {series: number}}}             numbers at one instant

Spans come from the heartbeats that every process makes anyway. `polygen-stream trace` puts the files together.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.run_folder import RunFolder

MERGED_NS = 5_000_000  # spans of one name that are no further apart are one: waiting is polling


def boot_id() -> str:
    """Return what tells this boot of the machine from others: processes with the same id share the monotonic clock."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class TraceFile:
    """One process's part of a trace. Lines are written whole, from any thread."""

    def __init__(self, run_dir: Path, name: str) -> None:
        folder = RunFolder(run_dir).traces
        folder.mkdir(exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(folder / f"{name}.{os.getpid()}.jsonl", flags, 0o644)
        clock = {"clock": time.monotonic_ns(), "time": time.time_ns(), "boot": boot_id()}
        self.write({"process": name, "pid": os.getpid(), **clock})

    def write(self, line: Mapping[str, object]) -> None:
        """Append one line."""
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def counters(self, **charts: Mapping[str, float]) -> None:
        """Append numbers as they are now: chart -> series -> number."""
        self.write({"t": time.monotonic_ns(), "counters": charts})

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass
class _Track:
    """What one thread was last known to do: a span that may go on, and what it said it would do now."""

    name: str = ""
    start: int = 0
    stop: int = 0
    mark: str = ""  # "" = none
    marked: int = 0


class Tracer:
    """Turns heartbeats into spans.

    A heartbeat with seconds says what has just been done: the last `busy_s`, and before them `waited_s` of waiting. One
    without says what begins now, and so names the seconds that the next one accounts for.
    """

    def __init__(self, file: TraceFile, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._file, self._clock = file, clock
        self._tracks: dict[int, _Track] = {}

    def heartbeat(self, doing: str, waited_s: float, busy_s: float) -> None:
        """Turn a heartbeat of this thread into spans; an observer for Ring.observe."""
        now = self._clock()
        track = self._tracks.setdefault(threading.get_ident(), _Track())
        worked = now - int(busy_s * 1e9)
        began = worked - int(waited_s * 1e9)
        if not (waited_s or busy_s):
            if track.mark != doing:
                self._end_mark(track, now)
                track.mark, track.marked = doing, now
            return
        name = track.mark if track.mark and track.marked >= worked else doing
        self._end_mark(track, began)
        if waited_s:
            self._span(track, "waiting" if busy_s else doing, began, worked)
        if busy_s:
            self._span(track, name, worked, now)

    def close(self) -> None:
        """Writes what is still under way."""
        for thread, track in self._tracks.items():
            self._end_mark(track, self._clock())
            self._write(track, thread)
        self._file.close()

    def _end_mark(self, track: _Track, stop: int) -> None:
        if track.mark and track.marked < stop:
            self._span(track, track.mark, track.marked, stop)
        track.mark = ""

    def _span(self, track: _Track, name: str, start: int, stop: int) -> None:
        start = max(start, track.stop)  # spans of one thread follow each other
        if stop <= start:
            return
        if name != track.name or start - track.stop > MERGED_NS:
            self._write(track, threading.get_ident())
            track.name, track.start = name, start
        track.stop = stop

    def _write(self, track: _Track, thread: int) -> None:
        if track.name:
            duration = track.stop - track.start
            self._file.write({"t": track.start, "d": duration, "name": track.name, "thread": thread})
