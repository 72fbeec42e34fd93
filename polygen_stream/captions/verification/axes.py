"""The semantic axes along which a hard negative may differ, each with its prompt, its validator and its category.

The paper names background, colour and position "etc.", and leaves counting, spatial relations and causality as open
questions. The closed set here is our reading, made so that every SugarCrepe category has an axis. A ledger over
`AXIS_NAMES` draws concept x axis as a function of (seed, task id) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polygen_stream.base.errors import UserError
from polygen_stream.captions.verification import lexicon
from polygen_stream.captions.verification.difference import CaptionDifference, EditForm
from polygen_stream.captions.verification.words import content_stems, split_words, stem, word_set

Check = Callable[[CaptionDifference, frozenset[str]], bool]
Shown = Callable[[str], bool]


def _anything(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Axis:
    """One axis.

    `shown` asks for a caption in which the axis is there to be edited, `edit` asks for the edit; both end a clause of a
    prompt. `example` is a caption and its edit. `category` is SugarCrepe's. `check` gets the edit and the action words
    of both captions. `shown_in` says whether a caption has something that the axis could edit; true where only a reader
    could tell.
    """

    name: str
    category: str
    forms: frozenset[EditForm]
    shown: str
    edit: str
    example: tuple[str, str]
    check: Check
    shown_in: Shown = _anything

    def allows(self, form: EditForm) -> bool:
        return form in self.forms

    def changed(self, found: CaptionDifference, caption: str, negative: str) -> bool:
        """Whether an edit between two captions is on this axis."""
        return self.check(found, _actions(caption) | _actions(negative))


def get_axis(name: str) -> Axis:
    """The axis of this name.

    Raises:
        UserError: there is none.
    """
    try:
        return AXES[name]
    except KeyError:
        raise UserError(f"unknown axis {name!r}: choose from {', '.join(AXES)}") from None


# Words that may stand in a span without being what was edited.
_GLUE = word_set("of and in on at to with for from very other")


def _both(words: frozenset[str]) -> Check:
    """The edit trades words of a class for others of it and touches nothing else."""

    def check(found: CaptionDifference, _: frozenset[str]) -> bool:
        removed, added = set(found.removed), set(found.added)
        return bool(removed & words and added & words) and (removed | added) <= words | _GLUE

    return check


def _has(words: frozenset[str]) -> Shown:
    """The caption has one word of a class."""
    return lambda caption: bool(words & set(content_stems(caption)))


def _class(words: frozenset[str]) -> tuple[Check, Shown]:
    """An axis that is a class of words."""
    return _both(words), _has(words)


def _acts(caption: str) -> bool:
    return bool(_actions(caption))


def _count(found: CaptionDifference, actions: frozenset[str]) -> bool:
    numbers = lexicon.COUNT | {word for word in (*found.removed, *found.added) if word.isdecimal()}
    if found.form is EditForm.ADD:  # "a dog" -> "three dogs": the article is no word of its own
        return set(found.added) <= numbers
    return _both(numbers)(found, actions)


def _background(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """A place gave way to another one: a phrase behind a preposition, and no axis of its own."""
    span = {*found.removed, *found.added}
    near = {*found.before[-3:], *span}
    own = bool(span & actions) or span <= lexicon.ATTRIBUTES | lexicon.RELATION
    return bool(near & lexicon.PLACE_PREPOSITIONS) and not own


def _object(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """A thing gave way to another one: whatever it is called, it is no attribute, relation or action."""
    span = {*found.removed, *found.added} - _GLUE
    other = lexicon.ATTRIBUTES | lexicon.RELATION | lexicon.STATE | actions
    return bool(set(found.removed) - other and set(found.added) - other) and not span & (other - _GLUE)


def _added_attribute(found: CaptionDifference, actions: frozenset[str]) -> bool:
    """One or two words before the noun that they describe."""
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
    """The link was exchanged, cause and effect changed places round it, or only the cause behind it is another one."""
    links = lexicon.CAUSAL_LINKS
    if found.form is EditForm.SWAP:
        return bool(set(found.pivot) & links)
    exchanged = set(found.removed) & links and set(found.added)
    return bool(exchanged or set(found.before) & links)


def _is_attribute(words: tuple[str, ...], following: tuple[str, ...], actions: frozenset[str]) -> bool:
    """Whether swapped words are attributes: known ones, or one word with a noun behind it."""
    if set(words) <= lexicon.ATTRIBUTES:
        return True
    behind = following[:1]
    return len(words) == 1 and bool(behind) and not set(behind) & (lexicon.CONNECTIVES | actions)


def _attribute_swap(found: CaptionDifference, actions: frozenset[str]) -> bool:
    if found.form is EditForm.MOVE:
        return True  # verification lets no other moves than those of attributes pass
    return _is_attribute(found.removed, found.pivot, actions) and _is_attribute(found.added, found.after, actions)


def _object_swap(found: CaptionDifference, actions: frozenset[str]) -> bool:
    return not _attribute_swap(found, actions)


def _actions(text: str) -> frozenset[str]:
    """Stems of what may be a verb of a caption: known actions, and -ing words."""
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
            _has(lexicon.PLACE_PREPOSITIONS),
        ),
        Axis(
            "colour", "replace_att", _REPLACE, "names a colour", "one colour",
            ("a red car parked near a tree", "a blue car parked near a tree"), *_class(lexicon.COLOUR),
        ),
        Axis(
            "position", "replace_rel", _REPLACE,
            "says where it is relative to another object", "one spatial relation, such as above or left of",
            ("a cup to the left of a plate", "a cup to the right of a plate"), *_class(lexicon.RELATION),
        ),
        Axis(
            "size", "replace_att", _REPLACE, "names a size", "one size",
            ("a tiny boat crosses the lake", "a huge boat crosses the lake"), *_class(lexicon.SIZE),
        ),
        Axis(
            "material", "replace_att", _REPLACE, "names a material", "one material",
            ("a wooden chair next to a window", "a metal chair next to a window"), *_class(lexicon.MATERIAL),
        ),
        Axis(
            "lighting", "replace_att", _REPLACE, "names the light or the time of day", "the light or the time of day",
            ("an empty street at noon", "an empty street at midnight"), *_class(lexicon.LIGHTING),
        ),
        Axis(
            "weather", "replace_att", _REPLACE, "names the weather or the season", "the weather or the season",
            ("a yellow tent in the rain", "a yellow tent in the fog"), *_class(lexicon.WEATHER),
        ),
        Axis(
            "viewpoint", "replace_att", _REPLACE, "names the viewpoint of the camera", "the viewpoint of the camera",
            ("a stone bridge seen from above", "a stone bridge seen from below"), *_class(lexicon.VIEWPOINT),
        ),
        Axis(
            "action", "replace_rel", _REPLACE, "says what it is doing", "one action or pose",
            ("a girl throwing a ball", "a girl catching a ball"), _action, _acts,
        ),
        Axis(
            "state", "replace_att", _REPLACE, "names its state, such as open, wet or broken", "one state",
            ("an open umbrella on a chair", "a broken umbrella on a chair"), _state,
        ),
        Axis(
            "style", "replace_att", _REPLACE, "names the kind of picture, such as photo or sketch",
            "the kind of picture", ("a photo of a fox in the snow", "a sketch of a fox in the snow"),
            *_class(lexicon.STYLE),
        ),
        Axis(
            "count", "replace_att", frozenset({EditForm.REPLACE, EditForm.ADD}), "says how many there are",
            "one number of things", ("three birds on a wire", "seven birds on a wire"), _count,
        ),
        Axis(
            "cause", "replace_rel", frozenset({EditForm.REPLACE, EditForm.SWAP}),
            "says what causes what, with because of or due to", "the cause",
            ("a road closed because of a flood", "a road closed because of a fire"), _causal,
            _has(lexicon.CAUSAL_LINKS),
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
