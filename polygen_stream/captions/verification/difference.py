"""Finds the edit between a caption and its hard negative: one span, one swap, one addition, or something else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from polygen_stream.captions.verification.words import content_stems


class EditForm(StrEnum):
    """How two captions differ. The first three are SugarCrepe's edits (replace, swap, add)."""

    REPLACE = "replace"
    SWAP = "swap"
    ADD = "add"
    MOVE = "move"  # one span moved to another position
    SHUFFLE = "shuffle"  # the same words in an order that no single swap or move produces
    REMOVE = "remove"
    SAME = "same"
    MANY = "many"


@dataclass(frozen=True)
class CaptionDifference:
    """The edit between two captions, in stems (`words.content_stems`).

    REPLACE, ADD and REMOVE turn `removed` into `added`. SWAP and MOVE turn `removed` + `pivot` + `added` into
    `added` + `pivot` + `removed`. For the other forms the spans are empty.

    Attributes:
        form: the form of the edit.
        before: the stems before the edit, equal in both captions.
        removed: see above.
        pivot: the stems between two swapped spans.
        added: see above.
        after: the stems after the edit, equal in both captions.
    """

    form: EditForm
    before: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    pivot: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def difference(caption: str, negative: str) -> CaptionDifference:
    """Return the edit that turns a caption into its negative."""
    first, second = content_stems(caption), content_stems(negative)
    found = _compare(first, second)
    if found.form is EditForm.MANY and len(second) > len(first):
        # A longer enumeration has its "and" elsewhere: "a and b" -> "a, b and c".
        listed = _compare([w for w in first if w != "and"], [w for w in second if w != "and"])
        if listed.form is EditForm.ADD:
            return listed
    return found


def _compare(first: list[str], second: list[str]) -> CaptionDifference:
    if first == second:
        return CaptionDifference(EditForm.SAME)
    start = common_prefix_length(first, second)
    end = common_prefix_length(first[start:][::-1], second[start:][::-1])
    before, after = tuple(first[:start]), tuple(first[len(first) - end :])
    removed, added = tuple(first[start : len(first) - end]), tuple(second[start : len(second) - end])
    if not added or not removed:
        return CaptionDifference(EditForm.ADD if added else EditForm.REMOVE, before, removed, (), added, after)
    if Counter(removed) == Counter(added):
        return _reordered(before, removed, added, after)
    # A word on both sides means two edits with unchanged words between them.
    if set(removed) & set(added):
        return CaptionDifference(EditForm.MANY)
    return CaptionDifference(EditForm.REPLACE, before, removed, (), added, after)


def _reordered(
    before: tuple[str, ...], old: tuple[str, ...], new: tuple[str, ...], after: tuple[str, ...]
) -> CaptionDifference:
    for i in range(1, len(old)):
        for j in range(i, len(old)):
            x, pivot, y = old[:i], old[i:j], old[j:]
            if y + pivot + x == new:
                return CaptionDifference(EditForm.SWAP if pivot else EditForm.MOVE, before, x, pivot, y, after)
    return CaptionDifference(EditForm.SHUFFLE)


def common_prefix_length(first: list[str], second: list[str]) -> int:
    """Return the number of equal words at the beginning of two lists."""
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length
