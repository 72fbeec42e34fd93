"""Ending a run whose captions all fail, with the reasons, before the trainer has waited in vain.

The outcome of a task depends on the task alone, so a captioner that is started again fails at the same tasks: the run
ends with exit code 2 instead.
"""

from __future__ import annotations

from collections import Counter

from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.selection.balance import DropReason

MAX_FAILURES = 512  # tasks in a row


class FailureStreak:
    """Counts tasks in a row without a caption. Those that balancing refused are no failures."""

    def __init__(self) -> None:
        self._length = 0
        self._reasons: Counter[str] = Counter()

    def record(self, outcome: Caption | Dropped) -> None:
        """Count the outcome of the next task.

        Raises:
            UserError: MAX_FAILURES tasks in a row failed.
        """
        if isinstance(outcome, Caption):
            self._length, self._reasons = 0, Counter()
        elif not outcome.rejected[-1].endswith(DropReason.FREQUENT):
            self._length += 1
            self._reasons.update(outcome.rejected)
        if self._length == MAX_FAILURES:
            why = "; ".join(f"{reason} ({count:,} times)" for reason, count in self._reasons.most_common(3))
            raise UserError(
                f"{MAX_FAILURES} tasks in a row got no caption: {why}; journal.jsonl has them all, and captions.bank, "
                "captions.writer and captions.editor say who wrote about what"
            )
