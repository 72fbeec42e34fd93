"""A ring control that records how long each transition waited for the mutex and held it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from polygen_stream.ring.control import Control
from polygen_stream.ring.undo_journal import Operation, UndoJournal


@dataclass
class MutexTimes:
    """Seconds of each recorded transition."""

    waited_s: list[float] = field(default_factory=list)
    held_s: list[float] = field(default_factory=list)


class TimedControl(Control):
    """A Control that records times; pass it to Ring(...)."""

    def __init__(self, *arguments: Any) -> None:
        self._times: dict[Operation, MutexTimes] = defaultdict(MutexTimes)
        super().__init__(*arguments)

    @contextmanager
    def transition(self, operation: Operation) -> Iterator[UndoJournal]:
        """Run a transition under the mutex, as Control does, and record its times."""
        asked = time.perf_counter()
        granted = asked
        try:
            with super().transition(operation) as journal:
                granted = time.perf_counter()
                yield journal
        finally:
            times = self._times[operation]
            times.waited_s.append(granted - asked)
            times.held_s.append(time.perf_counter() - granted)

    def take(self, operation: Operation) -> MutexTimes:
        """Return what was recorded of `operation` since the last call."""
        return self._times.pop(operation, MutexTimes())
