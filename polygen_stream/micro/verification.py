"""Checks captions and hard negatives of the micro world that language models write.

The checks are exact, because captions are parsed. A fault is a short fixed phrase, so that faults can be counted; the
journal records it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from polygen_stream.micro import edits
from polygen_stream.micro.parse import UNNAMED, NotACaption, parse, parse_phrases
from polygen_stream.micro.world import Scene, combinations, is_reserved

MAX_WORDS = 26  # in the longest caption that the grammar writes


def caption_fault(text: str, concept: str, axis: str) -> str | None:
    """Return why a text is not a caption of the concept that the axis can edit; None if it is one.

    Args:
        text: the text of a reply.
        concept: the thing that the caption must mention.
        axis: the edit that the caption must allow.
    """
    if len(text.split()) > MAX_WORDS:
        return "too long"
    try:
        scene = parse(text)
    except NotACaption:
        return "unparsable"
    if not any(thing.noun == concept for thing in scene.things):
        return "no concept"
    if not _NAMES_AXIS[axis](scene):
        return "axis not named"
    return "reserved" if _names_reserved(scene) else None


def negative_fault(text: str, negative: str, axis: str) -> str | None:
    """Return why a text is not a hard negative of a caption along the axis; None if it is one.

    A hard negative differs from the caption on that axis only, and all other words are the same.

    Args:
        text: T+.
        negative: the text of a reply.
        axis: the edit.
    """
    if negative == text:
        return "unchanged"
    if len(negative.split()) > MAX_WORDS:
        return "too long"
    try:
        scene, edited = parse(text), parse(negative)
    except NotACaption:
        return "unparsable"
    edits_found = [edit for edit, explains in _EXPLAINS.items() if explains(scene, edited)]
    if not edits_found:
        return "paraphrase" if scene == edited else "several changes"
    if axis not in edits_found:
        return "other axis"
    if not _changed_phrases(text, negative) <= _MAY_CHANGE[axis]:
        return "reworded"
    return "reserved" if _names_reserved(edited) else None


def _names_reserved(scene: Scene) -> bool:
    """Return whether the caption mentions all parts of a reserved combination; one without a colour mentions none."""
    return all(UNNAMED not in c for c in combinations(scene)) and is_reserved(scene)


def _changed_phrases(text: str, negative: str) -> set[str]:
    before, after = parse_phrases(text), parse_phrases(negative)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


# axis -> the phrases that an edit along it may change. A synonym in any other place is a second change.
_MAY_CHANGE: dict[str, set[str]] = {
    "replace_object": {"noun1", "noun2"},
    "replace_colour": {"colour1", "colour2"},
    "replace_size": {"size1"},
    "replace_material": {"material1", "material2"},
    "replace_count": {"number1"},
    "replace_relation": {"relation"},
    "replace_position": {"position"},
    "replace_background": {"background"},
    "replace_lighting": {"lighting", "fronted"},
    "replace_weather": {"weather"},
    "swap_object": {"noun1", "noun2"},
    "swap_attribute": {"colour1", "colour2"},
    "add_object": {"relation", "size2", "material2", "colour2", "noun2"},
    "add_attribute": {"material1", "material2"},
}
# axis -> whether a caption mentions what the axis needs
_NAMES_AXIS: dict[str, Callable[[Scene], bool]] = {
    "replace_object": lambda s: True,
    "replace_colour": lambda s: any(t.colour != UNNAMED for t in s.things),
    "replace_size": lambda s: not s.is_pair and s.things[0].size != "medium",
    "replace_material": lambda s: any(t.material != "plain" for t in s.things),
    "replace_count": lambda s: s.count > 1,
    "replace_relation": lambda s: s.is_pair,
    "replace_position": lambda s: s.position != "centre",
    "replace_background": lambda s: s.background != UNNAMED,
    "replace_lighting": lambda s: True,  # captions never mention daylight
    "replace_weather": lambda s: s.weather != "clear",
    "swap_object": lambda s: s.is_pair,
    "swap_attribute": lambda s: s.is_pair and all(t.colour != UNNAMED for t in s.things),
    "add_object": lambda s: not s.is_pair and s.count == 1 and s.position == "centre",
    "add_attribute": lambda s: any(t.material == "plain" for t in s.things),
}


def _differing(a: Scene, b: Scene) -> set[str]:
    """Return the fields in which two scenes differ.

    An edit is recognised by them. A scene made of the one with fields of the other might be none: two cats and a
    relation, for example.
    """
    return {field.name for field in fields(Scene) if getattr(a, field.name) != getattr(b, field.name)}


def _one_field(field: str, allowed: Callable[[object, object], bool]) -> Callable[[Scene, Scene], bool]:
    """The scenes differ in one field of `Scene` only, by an allowed change."""

    def explains(a: Scene, b: Scene) -> bool:
        return _differing(a, b) == {field} and allowed(getattr(a, field), getattr(b, field))

    return explains


def _one_thing(field: str, allowed: Callable[[str, str], bool]) -> Callable[[Scene, Scene], bool]:
    """One thing of the scenes differs in one field only, by an allowed change."""

    def explains(a: Scene, b: Scene) -> bool:
        if len(a.things) != len(b.things):
            return False
        changes = [
            (i, getattr(x, field), getattr(y, field))
            for i, (x, y) in enumerate(zip(a.things, b.things, strict=True))
            if x != y
        ]
        return (
            len(changes) == 1
            and allowed(*changes[0][1:])
            and a.with_thing(changes[0][0], **{field: changes[0][2]}) == b
            and not (field == "noun" and b.is_pair and b.things[0].noun == b.things[1].noun)
        )

    return explains


def _swapped(field: str) -> Callable[[Scene, Scene], bool]:
    """The two things of the scenes have swapped one field."""

    def explains(a: Scene, b: Scene) -> bool:
        if not (a.is_pair and b.is_pair):
            return False
        x, y = (getattr(t, field) for t in a.things)
        return x != y and a.with_thing(0, **{field: y}).with_thing(1, **{field: x}) == b

    return explains


def _added_thing(a: Scene, b: Scene) -> bool:
    return (
        b.is_pair
        and not a.is_pair
        and _differing(a, b) == {"things", "relation"}
        and a.things[0] == b.things[0]
        and b.things[1].noun != b.things[0].noun
    )


def _named(before: object, after: object) -> bool:
    return UNNAMED not in (before, after)


# axis -> whether an edit along it turns the first scene into the second
_EXPLAINS: dict[str, Callable[[Scene, Scene], bool]] = {
    "replace_object": _one_thing("noun", lambda x, y: x != y),
    "replace_colour": _one_thing("colour", lambda x, y: x != y and UNNAMED not in (x, y)),
    "replace_size": _one_thing("size", lambda x, y: x != y and "medium" not in (x, y)),
    "replace_material": _one_thing("material", lambda x, y: y == "plain" and x != y),
    "add_attribute": _one_thing("material", lambda x, y: x == "plain" and x != y),
    "replace_count": _one_field("count", lambda x, y: 1 not in (x, y)),
    "replace_relation": _one_field("relation", lambda x, y: None not in (x, y)),
    "replace_position": _one_field("position", lambda x, y: "centre" not in (x, y)),
    "replace_background": _one_field("background", _named),
    "replace_lighting": _one_field("lighting", lambda x, y: True),
    "replace_weather": _one_field("weather", lambda x, y: "clear" not in (x, y)),
    "swap_object": _swapped("noun"),
    "swap_attribute": _swapped("colour"),
    "add_object": _added_thing,
}
assert _NAMES_AXIS.keys() == _EXPLAINS.keys() == _MAY_CHANGE.keys() == edits.CATEGORY.keys()
