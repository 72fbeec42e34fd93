"""The newest lines of a metrics file that the trainer is still writing."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from polygen_stream.base.jsonl import read_jsonl_lines, report_damage


class MetricsTail:
    """The trainer's metrics.jsonl as it grows, read incrementally; keeps the last `window` lines."""

    def __init__(self, path: Path, window: int = 50):
        self._path = path
        self._offset = self._number = 0
        self.recent: deque[dict] = deque(maxlen=window)
        self.first_seen: float | None = None  # monotonic seconds when the first step's line was there

    def start_again(self) -> None:
        """Read a file that was cut, before it is written to again: `recent` is what it holds, nothing has been seen."""
        self._offset = self._number = 0
        self.recent.clear()
        self.read()
        self.first_seen = None

    def read(self) -> None:
        """Read what was appended since the last call, up to the last complete line."""
        damaged: list[int] = []
        for line in read_jsonl_lines(self._path, self._offset, self._number):
            self._number, self._offset = line.number, line.end
            if line.record is None or "step" not in line.record:
                damaged.append(line.number)
                continue
            self.recent.append(line.record)
            if self.first_seen is None:
                self.first_seen = time.monotonic()
        report_damage(self._path, damaged)

    @property
    def last(self) -> dict:
        """The newest record; {} before the first step."""
        return self.recent[-1] if self.recent else {}

    @property
    def steps_per_second(self) -> float:
        """Over the window; 0.0 before two steps are known."""
        if len(self.recent) < 2:
            return 0.0
        first, last = self.recent[0], self.recent[-1]
        seconds = last.get("time", 0.0) - first.get("time", 0.0)
        return (last.get("step", 0) - first.get("step", 0)) / seconds if seconds > 0 else 0.0

    @property
    def wait_share(self) -> float | None:
        """Share of the window's time the trainer waited for a batch."""
        waited = sum(record.get("wait_s", 0.0) for record in self.recent)
        worked = sum(record.get("step_s", 0.0) for record in self.recent)
        return waited / (waited + worked) if waited + worked else None
