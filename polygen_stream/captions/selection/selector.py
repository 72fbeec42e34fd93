"""Which captions a run uses: balancing and de-duplication while captions are written, as far as the config asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import JournalEntry
from polygen_stream.captions.selection.balance import Balancer, DropReason
from polygen_stream.captions.selection.duplicates import DuplicateFilter
from polygen_stream.config import CaptionsConfig


class CaptionSelector:
    """Decides caption by caption; what it decides depends on the captions before, in the order of task ids.

    Raises:
        UserError: balancing cannot match the concepts.
    """

    def __init__(self, config: CaptionsConfig, concepts: Sequence[str], seed: int) -> None:
        self._balancer = Balancer(concepts, config.balance, seed) if config.balance else None
        self._duplicates = DuplicateFilter() if config.deduplicate and not config.balance else None

    def select(self, task_id: int, written: Caption | Dropped) -> Caption | Dropped:
        """What was written if it is used, else the task dropped for the reason; every task once, in order."""
        refused = None if written.text is None else self._refuses(task_id, written.text)
        return Dropped((*written.rejected, f"caption: {refused}"), written.text) if refused else written

    def replay(self, entries: Iterable[JournalEntry]) -> None:
        """Brings it to where it was after these tasks."""
        if self._balancer is None and self._duplicates is None:
            return
        for entry in entries:
            if entry.outcome.text is not None:
                self._refuses(entry.task.task_id, entry.outcome.text)

    def _refuses(self, task_id: int, text: str) -> DropReason | None:
        if self._balancer is not None:
            return self._balancer.decide(task_id, text)
        duplicate = None if self._duplicates is None else self._duplicates.add(text)
        return None if duplicate is None else DropReason[duplicate.name]
