"""Verification of a hard negative T- against its caption T+: one edit, and one that changes what a picture shows.

Our reading of the paper's "must change only the named semantic axis, keep syntax" (no validator of theirs is known):
exactly one contiguous edit or one swap, not a paraphrase, lengths alike, on the named axis where one is given.
"""

from __future__ import annotations

from enum import StrEnum

from polygen_stream.captions.verification import lexicon
from polygen_stream.captions.verification.axes import Axis
from polygen_stream.captions.verification.difference import CaptionDifference, EditForm, difference
from polygen_stream.captions.verification.synonyms import PLACEMENT, POSTURE, Meaning, compare_spans
from polygen_stream.captions.verification.words import (
    FUNCTION_WORDS,
    RELATIVE_WORDS,
    content_stems,
    split_words,
    stem_set,
    word_set,
)

LENGTH_RATIO = (0.8, 1.25)  # words of T- / words of T+; an addition has a bound of its own
FEW_WORDS = 3
MOST_ADDED = 8  # words
_AND = word_set("and or with as while when")
_NEXT_TO = stem_set("next to near beside by close adjacent alongside with side each other")
_BE = word_set("is are was were be being been am")
_ARTICLES = word_set("a an the")
# What no article stands before. "In" and its like are left out: "the in crowd" is rare, "a by-standing man" is not.
_NO_NOUN = _ARTICLES | _BE | word_set("and or of with at from to")


class Reject(StrEnum):
    """Why a hard negative was refused."""

    EMPTY = "one of the captions has no words"
    SAME = "nothing changed but grammar"
    MANY = "more than one edit"
    REMOVES = "words were only left out, so T+ still implies it"
    REORDERED = "the words were rearranged without a swap of two things or attributes"
    SYMMETRIC = "what was swapped stands in a relation that reads the same both ways"
    SYNONYM = "the edit says the same in other words"
    LENGTH = "the lengths differ too much"
    LONG_ADDITION = "too much was added"
    BROKEN = "it stammers, or an article has no noun"
    SYNTAX = "the sentence round the edit was built differently"
    FORM = "another kind of edit than the axis asks for"
    OFF_AXIS = "the edit is not on the axis that was asked for"


def verify(caption: str, negative: str, axis: Axis | None = None) -> Reject | None:
    """None where `negative` is a hard negative of `caption`, on `axis` if one is given; otherwise why it is not."""
    if not content_stems(caption) or not content_stems(negative):
        return Reject.EMPTY
    found = difference(caption, negative)
    reason = _is_one_edit(found, caption, negative)
    if reason is None and _breaks(negative) > _breaks(caption):
        reason = Reject.BROKEN
    if reason is not None or axis is None:
        return reason
    if not axis.allows(found.form):
        return Reject.FORM
    return None if axis.changed(found, caption, negative) else Reject.OFF_AXIS


def _breaks(text: str) -> int:
    """Places at which a caption is no English: a word twice in a row, an article before nothing that it could go with.

    A bound on fluency that needs no model; what is left are the words themselves and their order.
    """
    words = split_words(text)
    pairs = list(zip(words, [*words[1:], ""], strict=True))
    return sum(
        first == second or (first in _ARTICLES and (not second or second in _NO_NOUN)) for first, second in pairs
    )


def _is_one_edit(found: CaptionDifference, caption: str, negative: str) -> Reject | None:
    match found.form:
        case EditForm.SAME:
            return Reject.SAME
        case EditForm.MANY:
            return Reject.MANY
        case EditForm.REMOVE:
            return Reject.REMOVES
        case EditForm.SHUFFLE:
            return Reject.REORDERED
        case EditForm.ADD:
            if compare_spans((), found.added) is Meaning.SAME:
                return Reject.SYNONYM
            if len(found.added) > MOST_ADDED:
                return Reject.LONG_ADDITION
            # One more thing may need a plural verb, or an article of its own, but no new main clause.
            return Reject.SYNTAX if _articles(caption, negative) and _grows(caption, negative, _BE) else None
        case EditForm.REPLACE:
            meaning = compare_spans(found.removed, found.added)
            if meaning is not Meaning.OTHER:
                return Reject.SYNONYM if meaning is Meaning.SAME else Reject.MANY
            if not _lengths_alike(caption, negative):
                return Reject.LENGTH
            first, second = (_articles_around(found, text) for text in (caption, negative))
            return Reject.SYNTAX if first != second else None
        case EditForm.SWAP | EditForm.MOVE:
            if _articles(caption, negative) or _grows(caption, negative, _BE | RELATIVE_WORDS):
                return Reject.SYNTAX  # "gray sky" -> "sky which is gray"
            return _swap(found) if found.form is EditForm.SWAP else _move(found)


def _articles(caption: str, negative: str) -> bool:
    """Whether definite articles came or went: who rewords a caption writes "the dog" for "a dog"."""
    return split_words(caption).count("the") != split_words(negative).count("the")


def _articles_around(found: CaptionDifference, text: str) -> int:
    """How many definite articles stand before and after the edit; those next to it belong to it."""
    words = split_words(text)
    places = [place for place, word in enumerate(words) if word not in FUNCTION_WORDS]
    before, after = len(found.before), len(found.after)
    head = words[: places[before - 1]] if before else []
    tail = words[places[-after] :] if after else []
    return head.count("the") + tail.count("the")


def _lengths_alike(caption: str, negative: str) -> bool:
    first, second = len(split_words(caption)), len(split_words(negative))
    low, high = LENGTH_RATIO
    # Short captions have room for "left of" -> "on the right of" too.
    return low <= second / first <= high or abs(second - first) <= FEW_WORDS


def _grows(caption: str, negative: str, words: frozenset[str]) -> bool:
    """Whether the negative has more of these words."""
    first, second = (sum(word in words for word in split_words(text)) for text in (caption, negative))
    return second > first


def _swap(found: CaptionDifference) -> Reject | None:
    pivot = set(found.pivot)
    if any(side[0] in lexicon.PREPOSITIONS for side in (found.removed, found.added)):
        return Reject.REORDERED  # "on the court walks a group": a phrase moved, nothing was exchanged
    attributes = {*found.removed, *found.added} <= lexicon.ATTRIBUTES
    if pivot <= _AND and not (attributes and "with" in pivot):
        return Reject.SYMMETRIC
    if pivot & _NEXT_TO and pivot <= _NEXT_TO | POSTURE | PLACEMENT:
        return Reject.SYMMETRIC
    return None


def _move(found: CaptionDifference) -> Reject | None:
    """A single attribute or number that went from one noun to another is a swap with "none" ("a" for numbers)."""
    for moved, passed in ((found.removed, found.added), (found.added, found.removed)):
        at_the_end = moved == found.removed and not found.after
        if set(moved) <= lexicon.ATTRIBUTES and set(passed) & lexicon.CONNECTIVES and not at_the_end:
            return None
    return Reject.REORDERED
