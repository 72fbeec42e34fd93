"""Counts how often captions name the entries of a bank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from polygen_stream.captions.selection.matching import SubstringMatcher


@dataclass(frozen=True)
class ConceptFrequencies:
    """Counts per entry.

    Attributes:
        entries: the bank.
        counts: per entry, the number of captions that name it.
        captions: number of captions.
        unmatched: number of captions that name no entry.
    """

    entries: Sequence[str]
    counts: Sequence[int]
    captions: int
    unmatched: int

    def to_json(self, top: int = 20) -> dict[str, Any]:
        """Return the totals, the most frequent entries, and the number of entries by how often they are named.

        Args:
            top: number of most frequent entries to list.
        """
        order = sorted(range(len(self.entries)), key=lambda entry: -self.counts[entry])
        named = [count for count in self.counts if count]
        return {
            "captions": self.captions,
            "unmatched": self.unmatched,
            "entries": len(self.entries),
            "named": len(named),
            "matches_per_caption": round(sum(named) / max(1, self.captions), 2),
            "entries_named_at_least": {str(10**k): sum(count >= 10**k for count in named) for k in range(7)},
            "top": [[self.entries[entry], self.counts[entry]] for entry in order[:top] if self.counts[entry]],
        }


def count_concepts(entries: Sequence[str], captions: Iterable[str]) -> ConceptFrequencies:
    """Count the entries that captions name, by the matching rule that balancing uses."""
    matcher = SubstringMatcher(entries)
    counts = [0] * len(entries)
    total = unmatched = 0
    for caption in captions:
        total += 1
        found = matcher.match(caption)
        unmatched += not found
        for entry in found:
            counts[entry] += 1
    return ConceptFrequencies(entries, counts, total, unmatched)
