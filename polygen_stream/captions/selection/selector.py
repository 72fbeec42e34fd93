"""Decides which captions a run uses, by the balancing and the de-duplication that its config asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import JournalEntry
from polygen_stream.captions.selection.balance import Balancer, DropReason
from polygen_stream.captions.selection.duplicates import DuplicateFilter
from polygen_stream.config import CaptionsConfig


class CaptionSelector:
    """Decides caption by caption, in the order of task ids. A decision depends on the captions before.

    Args:
        config: the captions section.
        concepts: the concepts of the caption source.
        seed: the run seed.

    Raises:
        UserError: balancing cannot match the concepts.
    """

    def __init__(self, config: CaptionsConfig, concepts: Sequence[str], seed: int) -> None:
        self._balancer = Balancer(concepts, config.balance, seed) if config.balance else None
        self._duplicates = DuplicateFilter() if config.deduplicate and not config.balance else None

    def select(self, task_id: int, written: Caption | Dropped) -> Caption | Dropped:
        """Return the outcome unchanged if its caption is used, else the dropped task with the reason.

        Must be called once per task, in the order of task ids.
        """
        reason = None if written.text is None else self._drop_reason(task_id, written.text)
        return Dropped((*written.rejected, f"caption: {reason}"), written.text) if reason else written

    def replay(self, entries: Iterable[JournalEntry]) -> None:
        """Restore the state after these tasks, of an earlier process."""
        if self._balancer is None and self._duplicates is None:
            return
        for entry in entries:
            if entry.outcome.text is not None:
                self._drop_reason(entry.task.task_id, entry.outcome.text)

    def _drop_reason(self, task_id: int, text: str) -> DropReason | None:
        if self._balancer is not None:
            return self._balancer.decide(task_id, text)
        duplicate = None if self._duplicates is None else self._duplicates.add(text)
        return None if duplicate is None else DropReason[duplicate.name]
