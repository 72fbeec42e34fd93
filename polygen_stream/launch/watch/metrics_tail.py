"""The newest lines of a metrics file that the trainer is still writing."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.jsonl import Damage, read_jsonl_lines
from polygen_stream.base.records import is_count, is_feedback, is_number, wrong_values

# What the numbers of a line that are worked with here, and in a summary, have to be.
METRIC_KINDS = {
    "step": is_count,
    "images": is_count,
    "images_committed": is_count,
    "feedback": is_feedback,
    **dict.fromkeys(("time", "loss", "p", "wait_s", "step_s"), is_number),
}


@dataclass(frozen=True)
class TrainerWaits:
    """How long the trainer waited for batches. The first batch waits for the ring's fill, so it counts apart.

    Attributes:
        first_batch_s: seconds for the first batch of the run, None before the first step.
        after: share of its time since then, in [0, 1], None before the second logged step.
        recent: the same over the last logged steps.
        recent_steps: steps that `recent` is over.
    """

    first_batch_s: float | None = None
    after: float | None = None
    recent: float | None = None
    recent_steps: int = 0


class MetricsTail:
    """The trainer's metrics.jsonl as it grows, read incrementally; keeps the last `window` lines."""

    def __init__(self, path: Path, window: int = 50):
        self._path = path
        self._offset = self._number = 0
        self._first: dict | None = None
        self._waited = self._worked = 0.0  # seconds since the first line
        self.recent: deque[dict] = deque(maxlen=window)
        self.feedback: dict = {}  # of the newest line that has it
        self.first_seen: float | None = None  # monotonic seconds when the first step's line was there

    def start_again(self) -> None:
        """Read a file that was cut, before it is written to again: `recent` is what it holds, nothing has been seen."""
        self._offset = self._number = 0
        self._first, self._waited, self._worked = None, 0.0, 0.0
        self.recent.clear()
        self.feedback = {}
        self.read()
        self.first_seen = None

    def read(self) -> None:
        """Read what was appended since the last call, up to the last complete line."""
        damaged = Damage()
        for line in read_jsonl_lines(self._path, self._offset, self._number):
            self._number, self._offset = line.number, line.end
            if line.record is None or "step" not in line.record or wrong_values(line.record, METRIC_KINDS):
                damaged.add(line.number)
                continue
            self.recent.append(line.record)
            self.feedback = line.record.get("feedback", self.feedback)
            if self._first is None:
                self._first = line.record
            else:
                self._waited += line.record.get("wait_s", 0.0)
                self._worked += line.record.get("step_s", 0.0)
            if self.first_seen is None:
                self.first_seen = time.monotonic()
        damaged.report(self._path)

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
    def waits(self) -> TrainerWaits:
        """How long the trainer waited, in all and over the window."""
        if self._first is None:
            return TrainerWaits()
        counted = [record for record in self.recent if record is not self._first]
        before = self._first if len(counted) < len(self.recent) else counted[0]
        return TrainerWaits(
            first_batch_s=self._first.get("wait_s", 0.0),
            after=_share(self._waited, self._worked),
            recent=_share(*(sum(record.get(name, 0.0) for record in counted) for name in ("wait_s", "step_s"))),
            recent_steps=self.recent[-1]["step"] - before["step"] + (before is not self._first),
        )


def _share(waited: float, worked: float) -> float | None:
    return waited / (waited + worked) if waited + worked else None
