"""Whether and when a process that died is started again."""

from __future__ import annotations

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


class Restarts:
    """Counts deaths in a row, by process, and doubles the pause with each.

    Args:
        most: restarts in a row, without progress in between.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_a_row: dict[str, int] = {}

    def pause(self, name: str, progress: bool) -> float | None:
        """Seconds to wait before `name`, which died, is started again; None: not any more.

        progress: whether it got further than the time before.
        """
        deaths = 1 if progress else self._in_a_row.get(name, 0) + 1
        if deaths > self._most:
            return None
        self._in_a_row[name] = deaths
        return min(FIRST_PAUSE_S * 2 ** (deaths - 1), LONGEST_PAUSE_S)

    def in_a_row(self, name: str) -> int:
        """Restarts of `name` since it last made progress."""
        return self._in_a_row.get(name, 0)
