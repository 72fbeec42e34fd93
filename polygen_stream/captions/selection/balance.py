"""Online balanced sampling of captions: captions of frequent concepts are subsampled, those of rare ones all kept.

MetaCLIP's algorithm as SynthCLIP uses it (hammoudhasan/SynthCLIP:TextGen/balancing.py; facebookresearch/MetaCLIP:
metaclip/metaclip1/balancing.py): with c_e captions that name entry e, a caption is kept with probability
1 - prod over its entries of (1 - min(1, t / c_e)); a caption that names no entry is dropped. MetaCLIP counts c_e before
sampling. Here c_e is the count so far, including the current caption (our reading of "online"): the first t captions of
an entry are all kept, and this bias vanishes as counts grow.
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
    """Why a caption was dropped."""

    EXACT = DuplicateKind.EXACT.value
    NEAR = DuplicateKind.NEAR.value
    UNMATCHED = "it names no concept of the bank"
    FREQUENT = "its concepts are frequent enough"


def keep_probability(counts: Iterable[int], threshold: float) -> float:
    """Return 1 - prod(1 - min(1, t / c)) over the entries of a caption; 0 without entries.

    Args:
        counts: c of each entry that the caption names.
        threshold: t.
    """
    missed = 1.0
    for count in counts:
        if count <= threshold:
            return 1.0
        missed *= 1.0 - threshold / count
    return 1.0 - missed


class Balancer:
    """Decides caption by caption whether it is kept, balanced and without duplicates.

    The same captions in the same order get the same decisions. A resumed run therefore restores the state by passing
    the captions of its journal to `decide` again.

    Attributes:
        seen: per entry, the number of captions that named it, duplicates excluded (c_e).
        kept: per entry, the number of kept captions that named it.
        verdicts: number of captions by verdict; None counts the kept ones.

    Args:
        entries: the concept bank.
        threshold: t; all captions of an entry are kept until it has more than t.
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
        self.seen = [0] * len(entries)
        self.kept = [0] * len(entries)
        self.verdicts: Counter[DropReason | None] = Counter()

    def decide(self, task_id: int, text: str) -> DropReason | None:
        """Return None if the caption of a task is kept, else why it is dropped. Count it in both cases."""
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
