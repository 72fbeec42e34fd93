"""Balanced sampling of captions while they are written: frequent concepts are thinned out, rare ones are all kept.

MetaCLIP's algorithm as SynthCLIP uses it (hammoudhasan/SynthCLIP:TextGen/balancing.py; facebookresearch/MetaCLIP:
metaclip/metaclip1/balancing.py): with c_e captions that name entry e, a caption is kept with probability
1 - prod over its entries of (1 - min(1, t / c_e)), and never when it names none. There c_e is counted beforehand; here
it is what was seen so far, this caption included (our reading of "online"): early captions are all kept, and the bias
vanishes as counts grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

from polygen_stream.base.errors import UserError
from polygen_stream.base.seeding import key
from polygen_stream.captions.selection.duplicates import DuplicateFilter, DuplicateKind
from polygen_stream.captions.selection.matching import SubstringMatcher


class DropReason(StrEnum):
    """Why a caption was not kept."""

    EXACT = DuplicateKind.EXACT.value
    NEAR = DuplicateKind.NEAR.value
    UNMATCHED = "it names no concept of the bank"
    FREQUENT = "its concepts are frequent enough"


def keep_probability(counts: Iterable[int], threshold: float) -> float:
    """1 - prod(1 - min(1, t / c)) over the counts of a caption's entries; 0 without entries."""
    missed = 1.0
    for count in counts:
        if count <= threshold:
            return 1.0
        missed *= 1.0 - threshold / count
    return 1.0 - missed


class Balancer:
    """Decides caption by caption. The same captions in the same order get the same decisions.

    So a run that goes on feeds the captions of its journal through `decide` again, and is where it was.

    Args:
        entries: the concept bank.
        threshold: t, captions per entry up to which everything is kept.
        seed: the run seed.

    Raises:
        UserError: t is not positive, or the bank has no or empty entries.
    """

    def __init__(self, entries: Sequence[str], threshold: float, seed: int) -> None:
        if not threshold > 0:
            raise UserError(f"balancing needs a positive number of captions per concept, not {threshold}")
        self._matcher = SubstringMatcher(entries)
        self._threshold = threshold
        self._seed = seed
        self._duplicates = DuplicateFilter()
        self.seen = [0] * len(entries)  # c_e over captions that are no duplicates
        self.kept = [0] * len(entries)  # the same over captions that were kept
        self.verdicts: Counter[DropReason | None] = Counter()

    def decide(self, task_id: int, text: str) -> DropReason | None:
        """None to keep the caption of a task, else why not. Counts it either way."""
        verdict = self._decide(task_id, text)
        self.verdicts[verdict] += 1
        return verdict

    def _decide(self, task_id: int, text: str) -> DropReason | None:
        duplicate = self._duplicates.add(text)
        if duplicate is not None:
            return DropReason[duplicate.name]
        entries = self._matcher.match(text)
        if not entries:
            return DropReason.UNMATCHED
        for entry in entries:
            self.seen[entry] += 1
        probability = keep_probability((self.seen[entry] for entry in entries), self._threshold)
        if probability < 1.0 and key(self._seed, "balance", task_id) >= probability * 2**64:
            return DropReason.FREQUENT
        for entry in entries:
            self.kept[entry] += 1
        return None
