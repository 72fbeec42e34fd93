"""What is kept out of a concept bank, with a count per reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from polygen_stream.captions.banks.wordnet import is_drawable
from polygen_stream.captions.verification.injection import is_instruction

MOST_CHARACTERS = 60
# Letters and digits of any script, and what names are written with. No quotes that could end the prompt's own, no
# brackets, braces, pipes or backslashes of templates, no line breaks.
_PLAIN = re.compile(r"[\w '’.,:;!?&+/%°-]+")
_WORDY = re.compile(r"[^\W_]")


class ExclusionReason(StrEnum):
    """Why an entry is left out."""

    LONG = f"longer than {MOST_CHARACTERS} characters"
    CHARACTERS = "characters that a name does not have, or no letter or digit"
    INSTRUCTION = "reads like an instruction to a language model"
    BLOCKED = "has a word of the blocklist"
    UNDRAWABLE = "no noun that a picture can show"


class ConceptFilter:
    """Checks entries of a bank.

    Args:
        blocked: words and phrases; an entry that has one of them as whole words is out.
        drawable: if given, only these nouns, their plurals and phrases that end in one are in.
    """

    def __init__(self, blocked: Iterable[str] = (), drawable: frozenset[str] | None = None) -> None:
        words = sorted({re.escape(word) for word in blocked if word})
        self._blocked = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE) if words else None
        self._drawable = drawable

    def check(self, entry: str) -> ExclusionReason | None:
        """None for an entry that may stay."""
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
        """The entries that may stay, in their order, and how many were refused for which reason."""
        kept, refused = [], Counter()
        for entry in entries:
            reason = self.check(entry)
            if reason is None:
                kept.append(entry)
            else:
                refused[reason] += 1
        return kept, refused
