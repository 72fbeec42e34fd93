"""Online de-duplication of captions: equal texts, and equal words in another order or inflection."""

from __future__ import annotations

from enum import StrEnum

from polygen_stream.base.seeding import key
from polygen_stream.captions.verification.words import content_stems


class DuplicateKind(StrEnum):
    """What a duplicate has in common with an earlier caption."""

    EXACT = "the same text came before"
    NEAR = "the same words came before, in another order, inflection or punctuation"


class DuplicateFilter:
    """Remembers captions as 64-bit hashes, at about 180 bytes per caption.

    Near duplicates have the same bag of `content_stems`. Set similarity (MinHash) is not suitable: it regards
    "a red dog on a sofa" and "a blue dog on a sofa" as similar, and training has to tell these apart.
    """

    def __init__(self) -> None:
        self._texts: set[int] = set()
        self._bags: set[int] = set()

    def add(self, text: str) -> DuplicateKind | None:
        """Return None if the caption is new, else what kind of duplicate it is. Remember it in both cases."""
        exact, bag = key(text), key(" ".join(sorted(content_stems(text))))
        if exact in self._texts:
            return DuplicateKind.EXACT
        near = bag in self._bags
        self._texts.add(exact)
        self._bags.add(bag)
        return DuplicateKind.NEAR if near else None
