"""Filters for the entries of a concept bank, with a count per reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from polygen_stream.captions.banks.wordnet import is_drawable
from polygen_stream.captions.verification.injection import is_instruction

MOST_CHARACTERS = 60
# Letters and digits of any script, and the punctuation of names. Double quotes could close those of the prompt;
# brackets, braces, pipes and backslashes belong to templates; line breaks could begin another turn.
_PLAIN = re.compile(r"[\w '’.,:;!?&+/%°-]+")
_WORDY = re.compile(r"[^\W_]")


class ExclusionReason(StrEnum):
    """Why an entry is left out of a bank."""

    LONG = f"longer than {MOST_CHARACTERS} characters"
    CHARACTERS = "characters that a name does not have, or no letter or digit"
    INSTRUCTION = "reads like an instruction to a language model"
    BLOCKED = "has a word of the blocklist"
    UNDRAWABLE = "no noun that a picture can show"


class ConceptFilter:
    """Decides which entries of a bank are kept.

    Args:
        blocked: words and phrases; an entry that contains one of them as whole words is left out, in any case.
        drawable: if given, only these nouns, their plurals and phrases that end in one of them are kept.
    """

    def __init__(self, blocked: Iterable[str] = (), drawable: frozenset[str] | None = None) -> None:
        words = sorted({re.escape(word) for word in blocked if word})
        self._blocked = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE) if words else None
        self._drawable = drawable

    def check(self, entry: str) -> ExclusionReason | None:
        """Return None if the entry is kept, else why it is left out."""
        if len(entry) > MOST_CHARACTERS:
            return ExclusionReason.LONG
        if not _PLAIN.fullmatch(entry) or not _WORDY.search(entry):
            return ExclusionReason.CHARACTERS
        if is_instruction(entry):
            return ExclusionReason.INSTRUCTION
        if self._blocked is not None and self._blocked.search(entry):
            return ExclusionReason.BLOCKED
        if self._drawable is not None and not is_drawable(entry, self._drawable):
            return ExclusionReason.UNDRAWABLE
        return None

    def keep(self, entries: Iterable[str]) -> tuple[list[str], Counter[ExclusionReason]]:
        """Return the entries that are kept, in their order, and how many are left out for each reason."""
        kept: list[str] = []
        refused: Counter[ExclusionReason] = Counter()
        for entry in entries:
            reason = self.check(entry)
            if reason is None:
                kept.append(entry)
            else:
                refused[reason] += 1
        return kept, refused
