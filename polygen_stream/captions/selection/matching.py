"""Finds the entries of a concept bank that a caption names: MetaCLIP's substring matching, by Aho-Corasick."""

from __future__ import annotations

from collections.abc import Sequence

import ahocorasick_rs

from polygen_stream.base.errors import UserError

# As hammoudhasan/SynthCLIP:TextGen/substr_matching.py: punctuation marks become words, tabs and line breaks spaces.
_SPACED = str.maketrans({mark: f" {mark} " for mark in ",.;:?!`"} | dict.fromkeys("\t\r\n", " "))


def spaced(text: str) -> str:
    """Return the text with spaces around punctuation and at both ends, so that it contains " e " if it names e."""
    return f" {text.translate(_SPACED)} "


class SubstringMatcher:
    """Finds the entries of a bank in captions, case-sensitively, as " entry " in `spaced(caption)`.

    Args:
        entries: the bank.

    Raises:
        UserError: the bank is empty or has an empty entry, which would match every caption.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        if not entries or not all(entries):
            raise UserError(f"the concept bank has {'an empty entry' if entries else 'no entries'}: build it again")
        self.entries = tuple(entries)
        self._automaton = ahocorasick_rs.AhoCorasick(
            [f" {entry} " for entry in entries],
            implementation=ahocorasick_rs.Implementation.ContiguousNFA,
            store_patterns=False,
        )

    def match(self, text: str) -> list[int]:
        """Return the indices of the entries that a text names, ascending and without repetitions."""
        # Two adjacent entries share the space between them, so their matches overlap.
        found = self._automaton.find_matches_as_indexes(spaced(text), overlapping=True)
        return sorted({entry for entry, _, _ in found})
