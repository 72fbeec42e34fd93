"""What changed between a caption and its hard negative: one span, one swap, one addition, or more than that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from polygen_stream.captions.verification.words import content_stems


class EditForm(StrEnum):
    """How two captions differ; the first three are edits a hard negative may be (SugarCrepe's replace, swap, add)."""

    REPLACE = "replace"
    SWAP = "swap"
    ADD = "add"
    MOVE = "move"  # one piece changed its place and nothing else
    SHUFFLE = "shuffle"  # the same words in an order that no single swap or move explains
    REMOVE = "remove"
    SAME = "same"
    MANY = "many"


@dataclass(frozen=True)
class CaptionDifference:
    """One edit between two captions, as stems (`words.content_stems`).

    `before` and `after` surround it in both. REPLACE, ADD and REMOVE: `removed` gave way to `added`. SWAP and MOVE:
    `removed` + `pivot` + `added` became `added` + `pivot` + `removed`. Otherwise the rest is empty.
    """

    form: EditForm
    before: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    pivot: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def difference(caption: str, negative: str) -> CaptionDifference:
    """The edit that leads from a caption to its negative."""
    first, second = content_stems(caption), content_stems(negative)
    found = _compare(first, second)
    if found.form is EditForm.MANY and len(second) > len(first):
        # A longer list moves its "and": "a and b" -> "a, b and c".
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
    # A word on both sides means that the span is two edits with something unchanged between them.
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
    """Length of the common beginning of two lists of words."""
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length
