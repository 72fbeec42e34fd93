"""Late results: those of a step are read when the next one has been issued, so that a GPU never waits for the host."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.step import IssuedStep, StepResult


@dataclass(frozen=True)
class FinishedStep:
    """A step whose results have been read.

    Args:
        batch: what it was trained on.
        result: what came of it.
        ended: when the host was done with it, on the monotonic clock.
        step_s: seconds of work until then. On a GPU they include the wait for the step before, which is how long a step
            takes where the host is ahead.
    """

    batch: TrainBatch
    result: StepResult
    ended: float
    step_s: float


class LateResults:
    """The issued steps whose results have not been read.

    How many there are follows from the number of steps alone, so that all ranks learn at the same step that a loss is
    not finite.

    Args:
        lag: steps that may be issued before the results of one are read: 1 on a GPU; 0 on a CPU, which has computed a
            step when it has been issued.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._unread: deque[tuple[TrainBatch, IssuedStep]] = deque()
        self._times: dict[int, tuple[float, float]] = {}  # step -> when it ended, seconds of work

    def add(self, batch: TrainBatch, issued: IssuedStep, started: float) -> list[FinishedStep]:
        """Add a step that began at `started`, and read results until no more than `lag` are unread.

        Raises:
            PolygenError: the loss of a step is not finite.
            RankLost: another rank is gone.
        """
        self._unread.append((batch, issued))
        results = self._read(self._lag)
        ended = time.monotonic()
        self._times[batch.step] = (ended, ended - started)
        return self._finished(results)

    def rest(self) -> list[FinishedStep]:
        """Read the results of all steps, and raise as `add` does."""
        return self._finished(self._read(0))

    def _read(self, keep: int) -> list[tuple[TrainBatch, StepResult]]:
        results = []
        while len(self._unread) > keep:
            batch, issued = self._unread.popleft()
            with reporting_lost_ranks(f"the device was computing step {batch.step}"):
                results.append((batch, issued.read()))
        return results

    def _finished(self, results: list[tuple[TrainBatch, StepResult]]) -> list[FinishedStep]:
        return [FinishedStep(batch, result, *self._times.pop(batch.step)) for batch, result in results]
