"""Ends a run whose captions all fail, and says why, before the trainer has waited in vain."""

from __future__ import annotations

from collections import Counter

from polygen_stream.base.errors import PolygenError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.selection.balance import DropReason

MOST = 512  # tasks in a row


class Failures:
    """Counts tasks in a row without a caption. Those that balancing refused are no failures."""

    def __init__(self) -> None:
        self._in_a_row, self._reasons = 0, Counter()

    def note(self, result: Caption | Dropped) -> None:
        """Takes in the next task's result.

        Raises:
            PolygenError: there were too many failures in a row.
        """
        if isinstance(result, Caption):
            self._in_a_row, self._reasons = 0, Counter()
        elif not result.rejected[-1].endswith(DropReason.FREQUENT):
            self._in_a_row += 1
            self._reasons.update(result.rejected)
        if self._in_a_row == MOST:
            why = "; ".join(f"{reason} ({count:,} times)" for reason, count in self._reasons.most_common(3))
            raise PolygenError(
                f"{MOST} tasks in a row got no caption: {why}; journal.jsonl has them all, and captions.bank, "
                "captions.writer and captions.editor say who wrote about what"
            )
