"""De-duplication of captions, online: the same text, or the same words in other clothes."""

from __future__ import annotations

from enum import StrEnum

from polygen_stream.base.seeding import key
from polygen_stream.captions.verification.words import content_stems


class DuplicateKind(StrEnum):
    EXACT = "the same text came before"
    NEAR = "the same words came before, in another order, inflection or punctuation"


class DuplicateFilter:
    """Remembers captions as 64-bit hashes, about 180 bytes a caption.

    Near means the same bag of stemmed words, articles and forms of "be" left out. Set similarity (MinHash) would be
    wrong here: "a red dog on a sofa" and "a blue dog on a sofa" are close in it and are just what training has to
    tell apart.
    """

    def __init__(self) -> None:
        self._texts: set[int] = set()
        self._bags: set[int] = set()

    def add(self, text: str) -> DuplicateKind | None:
        """None for a caption that is new; it is remembered either way."""
        exact, bag = key(text), key(" ".join(sorted(content_stems(text))))
        if exact in self._texts:
            return DuplicateKind.EXACT
        near = bag in self._bags
        self._texts.add(exact)
        self._bags.add(bag)
        return DuplicateKind.NEAR if near else None
