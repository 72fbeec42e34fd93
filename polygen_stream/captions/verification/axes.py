"""The semantic axes along which a hard negative may differ, each with its prompts, its check and its category.

The paper names background, colour and position "etc.", and leaves counting, spatial relations and causality as open
questions. This closed set is our reading; it has at least one axis for every SugarCrepe category.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polygen_stream.base.errors import UserError
from polygen_stream.captions.verification import lexicon
from polygen_stream.captions.verification.difference import CaptionDifference, EditForm
from polygen_stream.captions.verification.words import content_stems, split_words, stem, word_set

Check = Callable[[CaptionDifference, frozenset[str]], bool]
CaptionTest = Callable[[str], bool]


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: the axis.
        category: its SugarCrepe category.
        forms: the forms of edit that it allows.
        caption_clause: completes a prompt for T+, "a caption that ...".
        edit_clause: completes a prompt for T-, "change ...".
        example: a caption and its edit.
        check: returns whether an edit is on this axis, given the edit and the action words of both captions.
        can_edit: returns whether a caption has something that the axis can edit; always true for axes where word
            lists cannot tell.
    """

    name: str
    category: str
    forms: frozenset[EditForm]
    caption_clause: str
    edit_clause: str
    example: tuple[str, str]
    check: Check
    can_edit: CaptionTest = _always

    def is_on_axis(self, found: CaptionDifference, caption: str, negative: str) -> bool:
        """Return whether the edit between two captions is on this axis."""
        return self.check(found, _actions(caption) | _actions(negative))


def get_axis(name: str) -> Axis:
    """Return the axis with this name.

    Raises:
        UserError: unknown axis.
    """
    try:
        return AXES[name]
    except KeyError:
        raise UserError(f"unknown axis {name!r}: choose from {', '.join(AXES)}") from None


# Words that may be part of an edited span without being what the edit changes.
_GLUE = word_set("of and in on at to with for from very other")


def _replaces_within(words: frozenset[str]) -> Check:
    """The edit replaces words of a class by others of that class and changes nothing else."""

    def check(found: CaptionDifference, _: frozenset[str]) -> bool:
        removed, added = set(found.removed), set(found.added)
        return bool(removed & words and added & words) and (removed | added) <= words | _GLUE

    return check


def _contains(words: frozenset[str]) -> CaptionTest:
    """The caption contains a word of a class."""
    return lambda caption: bool(words & set(content_stems(caption)))


def _word_class(words: frozenset[str]) -> tuple[Check, CaptionTest]:
    """The check and the caption test of an axis that is a class of words."""
    return _replaces_within(words), _contains(words)


def _has_action(caption: str) -> bool:
    return bool(_actions(caption))


def _count(found: CaptionDifference, actions: frozenset[str]) -> bool:
    numbers = lexicon.COUNT | {word for word in (*found.removed, *found.added) if word.isdecimal()}
    if found.form is EditForm.ADD:  # "a dog" -> "three dogs": articles are no content words
        return set(found.added) <= numbers
    return _replaces_within(numbers)(found, actions)


def _background(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """The edit replaces a place: a phrase after a preposition that no other axis claims."""
    span = {*found.removed, *found.added}
    near = {*found.before[-3:], *span}
    other_axis = bool(span & actions) or span <= lexicon.ATTRIBUTES | lexicon.RELATION
    return bool(near & lexicon.PLACE_PREPOSITIONS) and not other_axis


def _object(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """The edit replaces a thing: both spans have words that are no attribute, relation, state or action."""
    span = {*found.removed, *found.added} - _GLUE
    other = lexicon.ATTRIBUTES | lexicon.RELATION | lexicon.STATE | actions
    return bool(set(found.removed) - other and set(found.added) - other) and not span & (other - _GLUE)


def _added_attribute(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """The edit adds attributes: known ones, or one or two words before a noun."""
    known = lexicon.ATTRIBUTES | lexicon.STATE
    alone = len(found.added) <= 2 and not set(found.added) & (lexicon.CONNECTIVES | actions)
    return set(found.added) <= known or (alone and bool(found.after) and found.after[0] not in lexicon.CONNECTIVES)


def _added_object(found: CaptionDifference, actions: frozenset[str]) -> bool:
    return not _added_attribute(found, actions)


def _action(found: CaptionDifference, actions: frozenset[str]) -> bool:
    return bool(set(found.removed) & actions and set(found.added) & actions)


def _state(found: CaptionDifference, actions: frozenset[str]) -> bool:
    span = {*found.removed, *found.added}
    other = lexicon.COLOUR | lexicon.SIZE | lexicon.COUNT | lexicon.RELATION
    return bool(set(found.removed) & lexicon.STATE or set(found.added) & lexicon.STATE) and not span & other


def _causal(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """The edit replaces the causal link, swaps cause and effect around it, or replaces the cause after it."""
    links = lexicon.CAUSAL_LINKS
    if found.form is EditForm.SWAP:
        return bool(set(found.pivot) & links)
    exchanged = set(found.removed) & links and set(found.added)
    return bool(exchanged or set(found.before) & links)


def _is_attribute(words: tuple[str, ...], following: tuple[str, ...], actions: frozenset[str]) -> bool:
    """Return whether swapped words are attributes: known ones, or a single word before a noun."""
    if set(words) <= lexicon.ATTRIBUTES:
        return True
    behind = following[:1]
    return len(words) == 1 and bool(behind) and not set(behind) & (lexicon.CONNECTIVES | actions)


def _attribute_swap(found: CaptionDifference, actions: frozenset[str]) -> bool:
    if found.form is EditForm.MOVE:
        return True  # `verify` rejects all moves but those of attributes
    return _is_attribute(found.removed, found.pivot, actions) and _is_attribute(found.added, found.after, actions)


def _object_swap(found: CaptionDifference, actions: frozenset[str]) -> bool:
    return not _attribute_swap(found, actions)


def _actions(text: str) -> frozenset[str]:
    """Return the stems of possible verbs: known actions, and words in -ing."""
    words = split_words(text)
    return frozenset(stem(w) for w in words if w.endswith("ing") and len(w) > 5) | (
        frozenset(map(stem, words)) & lexicon.ACTION
    )


_REPLACE = frozenset({EditForm.REPLACE})

AXES = {
    axis.name: axis
    for axis in (
        Axis(
            "background", "replace_obj", _REPLACE, "names the place it is in", "the place it is in",
            ("a brown dog runs on a beach", "a brown dog runs on a mountain"), _background,
            _contains(lexicon.PLACE_PREPOSITIONS),
        ),
        Axis(
            "colour", "replace_att", _REPLACE, "names a colour", "one colour",
            ("a red car parked near a tree", "a blue car parked near a tree"), *_word_class(lexicon.COLOUR),
        ),
        Axis(
            "position", "replace_rel", _REPLACE,
            "says where it is relative to another object", "one spatial relation, such as above or left of",
            ("a cup to the left of a plate", "a cup to the right of a plate"), *_word_class(lexicon.RELATION),
        ),
        Axis(
            "size", "replace_att", _REPLACE, "names a size", "one size",
            ("a tiny boat crosses the lake", "a huge boat crosses the lake"), *_word_class(lexicon.SIZE),
        ),
        Axis(
            "material", "replace_att", _REPLACE, "names a material", "one material",
            ("a wooden chair next to a window", "a metal chair next to a window"), *_word_class(lexicon.MATERIAL),
        ),
        Axis(
            "lighting", "replace_att", _REPLACE, "names the light or the time of day", "the light or the time of day",
            ("an empty street at noon", "an empty street at midnight"), *_word_class(lexicon.LIGHTING),
        ),
        Axis(
            "weather", "replace_att", _REPLACE, "names the weather or the season", "the weather or the season",
            ("a yellow tent in the rain", "a yellow tent in the fog"), *_word_class(lexicon.WEATHER),
        ),
        Axis(
            "viewpoint", "replace_att", _REPLACE, "names the viewpoint of the camera", "the viewpoint of the camera",
            ("a stone bridge seen from above", "a stone bridge seen from below"), *_word_class(lexicon.VIEWPOINT),
        ),
        Axis(
            "action", "replace_rel", _REPLACE, "says what it is doing", "one action or pose",
            ("a girl throwing a ball", "a girl catching a ball"), _action, _has_action,
        ),
        Axis(
            "state", "replace_att", _REPLACE, "names its state, such as open, wet or broken", "one state",
            ("an open umbrella on a chair", "a broken umbrella on a chair"), _state,
        ),
        Axis(
            "style", "replace_att", _REPLACE, "names the kind of picture, such as photo or sketch",
            "the kind of picture", ("a photo of a fox in the snow", "a sketch of a fox in the snow"),
            *_word_class(lexicon.STYLE),
        ),
        Axis(
            "count", "replace_att", frozenset({EditForm.REPLACE, EditForm.ADD}), "says how many there are",
            "one number of things", ("three birds on a wire", "seven birds on a wire"), _count,
        ),
        Axis(
            "cause", "replace_rel", frozenset({EditForm.REPLACE, EditForm.SWAP}),
            "says what causes what, with because of or due to", "the cause",
            ("a road closed because of a flood", "a road closed because of a fire"), _causal,
            _contains(lexicon.CAUSAL_LINKS),
        ),
        Axis(
            "object", "replace_obj", _REPLACE, "names another object next to it", "one object into a different one",
            ("a cat next to a lamp", "a cat next to a clock"), _object,
        ),
        Axis(
            "object_added", "add_obj", frozenset({EditForm.ADD}), "shows it with one other object",
            "the number of objects, by adding one more",
            ("a dog on a sofa", "a dog and a parrot on a sofa"), _added_object,
        ),
        Axis(
            "attribute_added", "add_att", frozenset({EditForm.ADD}), "leaves the colours and materials open",
            "how one thing looks, by giving it an attribute it does not have",
            ("a dog on a sofa", "a spotted dog on a sofa"), _added_attribute,
        ),
        Axis(
            "object_swap", "swap_obj", frozenset({EditForm.SWAP}), "shows two different things in an unequal relation",
            "which thing is which, by exchanging two things",
            ("a cat chases a mouse", "a mouse chases a cat"), _object_swap,
        ),
        Axis(
            "attribute_swap", "swap_att", frozenset({EditForm.SWAP, EditForm.MOVE}),
            "shows two things with a different attribute each",
            "which thing has which attribute, by exchanging two attributes",
            ("a red car behind a blue bus", "a blue car behind a red bus"), _attribute_swap,
        ),
    )
}  # fmt: skip
AXIS_NAMES = tuple(AXES)
