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
        """Return the seconds to wait before a process that died is restarted; None if it is not restarted any more.

        Args:
            name: Of the process.
            progress: Whether it got further than the time before.
        """
        deaths = 1 if progress else self._in_a_row.get(name, 0) + 1
        if deaths > self._most:
            return None
        self._in_a_row[name] = deaths
        return min(FIRST_PAUSE_S * 2 ** (deaths - 1), LONGEST_PAUSE_S)

    def in_a_row(self, name: str) -> int:
        """Return the restarts of `name` since it last made progress."""
        return self._in_a_row.get(name, 0)
