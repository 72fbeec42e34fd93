"""Verifies a hard negative T- against its caption T+: exactly one edit, which changes what an image shows.

Our reading of the paper's "must change only the named semantic axis, keep syntax" (its validator is not published):
exactly one contiguous edit or one swap, not a paraphrase, similar lengths, and on the axis if one is given.
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

LENGTH_RATIO = (0.8, 1.25)  # words of T- / words of T+; additions are limited by MOST_ADDED instead
FEW_WORDS = 3  # a smaller difference in length is always accepted
MOST_ADDED = 8  # words
_AND = word_set("and or with as while when")
_NEXT_TO = stem_set("next to near beside by close adjacent alongside with side each other")
_BE = word_set("is are was were be being been am")
_ARTICLES = word_set("a an the")
# Words that do not follow an article. Most prepositions may: "a by-standing man".
_NO_NOUN = _ARTICLES | _BE | word_set("and or of with at from to")


class Reject(StrEnum):
    """Why a hard negative was rejected. The journal records these texts."""

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
    """Return None if `negative` is a hard negative of `caption`, else why it is not.

    Args:
        caption: T+.
        negative: T-.
        axis: the axis that the edit must be on; None for any.
    """
    if not content_stems(caption) or not content_stems(negative):
        return Reject.EMPTY
    found = difference(caption, negative)
    reason = _reject_form(found, caption, negative)
    if reason is None and _count_breaks(negative) > _count_breaks(caption):
        reason = Reject.BROKEN
    if reason is not None or axis is None:
        return reason
    if found.form not in axis.forms:
        return Reject.FORM
    return None if axis.is_on_axis(found, caption, negative) else Reject.OFF_AXIS


def _count_breaks(text: str) -> int:
    """Count places where a caption is not English: a repeated word, or an article without a noun.

    A check of fluency that needs no model. It does not judge the choice of words or their order otherwise.
    """
    words = split_words(text)
    pairs = list(zip(words, [*words[1:], ""], strict=True))
    return sum(
        first == second or (first in _ARTICLES and (not second or second in _NO_NOUN)) for first, second in pairs
    )


def _reject_form(found: CaptionDifference, caption: str, negative: str) -> Reject | None:
    """Return why the edit is not a replacement, an addition, a swap, or a move that amounts to a swap."""
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
            return _reject_addition(found, caption, negative)
        case EditForm.REPLACE:
            return _reject_replacement(found, caption, negative)
        case EditForm.SWAP | EditForm.MOVE:
            return _reject_reordering(found, caption, negative)


def _reject_addition(found: CaptionDifference, caption: str, negative: str) -> Reject | None:
    if compare_spans((), found.added) is Meaning.SAME:
        return Reject.SYNONYM
    if len(found.added) > MOST_ADDED:
        return Reject.LONG_ADDITION
    # Another thing may need a plural verb or an article of its own, but no additional main clause.
    return Reject.SYNTAX if _changes_articles(caption, negative) and _grows(caption, negative, _BE) else None


def _reject_replacement(found: CaptionDifference, caption: str, negative: str) -> Reject | None:
    meaning = compare_spans(found.removed, found.added)
    if meaning is not Meaning.OTHER:
        return Reject.SYNONYM if meaning is Meaning.SAME else Reject.MANY
    if not _lengths_alike(caption, negative):
        return Reject.LENGTH
    first, second = (_articles_around(found, text) for text in (caption, negative))
    return Reject.SYNTAX if first != second else None


def _reject_reordering(found: CaptionDifference, caption: str, negative: str) -> Reject | None:
    if _changes_articles(caption, negative) or _grows(caption, negative, _BE | RELATIVE_WORDS):
        return Reject.SYNTAX  # "gray sky" -> "sky which is gray"
    return _reject_swap(found) if found.form is EditForm.SWAP else _reject_move(found)


def _changes_articles(caption: str, negative: str) -> bool:
    """Return whether the number of definite articles differs: paraphrases often write "the dog" for "a dog"."""
    return split_words(caption).count("the") != split_words(negative).count("the")


def _articles_around(found: CaptionDifference, text: str) -> int:
    """Count the definite articles before and after the edit, without those next to it."""
    words = split_words(text)
    places = [place for place, word in enumerate(words) if word not in FUNCTION_WORDS]
    before, after = len(found.before), len(found.after)
    head = words[: places[before - 1]] if before else []
    tail = words[places[-after] :] if after else []
    return head.count("the") + tail.count("the")


def _lengths_alike(caption: str, negative: str) -> bool:
    first, second = len(split_words(caption)), len(split_words(negative))
    low, high = LENGTH_RATIO
    # Accepts "left of" -> "on the right of" in short captions.
    return low <= second / first <= high or abs(second - first) <= FEW_WORDS


def _grows(caption: str, negative: str, words: frozenset[str]) -> bool:
    """Return whether the negative has more of these words than the caption."""
    first, second = (sum(word in words for word in split_words(text)) for text in (caption, negative))
    return second > first


def _reject_swap(found: CaptionDifference) -> Reject | None:
    pivot = set(found.pivot)
    if any(side[0] in lexicon.PREPOSITIONS for side in (found.removed, found.added)):
        return Reject.REORDERED  # "on the court walks a group": a phrase moved, nothing was swapped
    attributes = {*found.removed, *found.added} <= lexicon.ATTRIBUTES
    if pivot <= _AND and not (attributes and "with" in pivot):
        return Reject.SYMMETRIC
    if pivot & _NEXT_TO and pivot <= _NEXT_TO | POSTURE | PLACEMENT:
        return Reject.SYMMETRIC
    return None


def _reject_move(found: CaptionDifference) -> Reject | None:
    """Accept only an attribute or a number that moves from one noun to another: a swap with no attribute, or "a"."""
    for moved, passed in ((found.removed, found.added), (found.added, found.removed)):
        at_the_end = moved == found.removed and not found.after
        if set(moved) <= lexicon.ATTRIBUTES and set(passed) & lexicon.CONNECTIVES and not at_the_end:
            return None
    return Reject.REORDERED
