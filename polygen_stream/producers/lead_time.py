"""The lead time of production: how far ahead of the draws it has to look."""

from __future__ import annotations

from collections import deque

from polygen_stream.ring import RingStats

RATE_WINDOW_S = 15.0


class LeadTime:
    """Measures the lead time of production in training steps: ring depth / production rate.

    Depth counts every group in the ring, open or complete. The open ones alone determine when a group is drawable, and
    a new one is drawn within a round over the ring. That is too late for a mix: a batch takes all its hard negatives at
    once, and takes the same groups again, so it is not the newest groups that must have the mix of a step but the whole
    ring. The ring has the mix of what was produced over the last depth / rate. While it fills, that is all of the past,
    and looking as far ahead as the past is long makes its mix exactly that of a linear schedule; once groups leave it,
    oldest first, the mix is that of half a lead time later.

    Completions and steps are counted over the last RATE_WINDOW_S seconds, so that the lead time follows the pace of
    producers and trainer. A trainer that is restarted goes back to its checkpoint: the count begins anew.
    """

    def __init__(self) -> None:
        self._history: deque[tuple[float, int, int]] = deque()

    def steps(self, now: float, stats: RingStats) -> float:
        """Return the lead time in training steps; 0 while no group is completed.

        Args:
            now: seconds of any clock that only goes forward.
            stats: of the ring at that time.
        """
        if self._history and stats.step < self._history[-1][2]:
            self._history.clear()
        self._history.append((now, stats.groups_completed, stats.step))
        while now - self._history[0][0] > RATE_WINDOW_S:
            self._history.popleft()
        _, completed, step = self._history[0]
        depth = sum(counts["open"] + counts["complete"] for counts in stats.groups.values())
        if stats.groups_completed == completed:
            return 0.0
        return depth * (stats.step - step) / (stats.groups_completed - completed)
