"""Which captions a run uses: balancing and de-duplication while captions are written, as far as the config asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polygen_stream.captions.balance import Balancer, Drop
from polygen_stream.captions.duplicates import Duplicates
from polygen_stream.captions.journal import Entry
from polygen_stream.config import CaptionsConfig


class Selection:
    """Decides caption by caption; what it decides depends on the captions before, in the order of task ids.

    Raises:
        UserError: balancing cannot match the concepts.
    """

    def __init__(self, config: CaptionsConfig, concepts: Sequence[str], seed: int) -> None:
        self._balancer = Balancer(concepts, config.balance, seed) if config.balance else None
        self._duplicates = Duplicates() if config.deduplicate and not config.balance else None

    @property
    def selects(self) -> bool:
        """Whether it may refuse anything."""
        return self._balancer is not None or self._duplicates is not None

    def decide(self, task_id: int, text: str) -> Drop | None:
        """None for a caption that is used, else why it is not."""
        if self._balancer is not None:
            return self._balancer.decide(task_id, text)
        duplicate = None if self._duplicates is None else self._duplicates.add(text)
        return duplicate and Drop[duplicate.name]

    def remember(self, entries: Iterable[Entry]) -> None:
        """Brings it to where it was after these tasks."""
        for entry in entries if self.selects else ():
            if entry.result.text is not None:
                self.decide(entry.task.task_id, entry.result.text)
