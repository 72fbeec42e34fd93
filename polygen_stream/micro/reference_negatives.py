"""All hard negatives that the grammar can write of a caption: a reference for the checks in `verification`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import OPENING, Style, describe
from polygen_stream.micro.language import CaptionPair
from polygen_stream.micro.world import Scene, Thing


def reference_negatives(pair: CaptionPair, axis: str) -> set[str]:
    """Return the hard negatives of a caption along the axis, in every wording that also writes the caption itself."""
    styles = [style for style in _styles(pair.style) if describe(pair.scene, style) == pair.text]
    edited = [scene for scene in _EDITED[axis](pair.scene) if scene != pair.scene]
    return {describe(scene, style) for scene in edited for style in styles} - {pair.text}


def _styles(style: Style) -> list[Style]:
    """Return all wordings that may write the same caption but another negative: synonyms, openings, order."""
    return [
        replace(style, opening=opening, synonym=synonym, fronted=fronted)
        for opening, synonym, fronted in product(range(len(OPENING)), range(6), (False, True))
    ]


def _of_things(field: str, *values: str) -> Callable[[Scene], list[Scene]]:
    """Edits that give one thing each of the values."""
    return lambda scene: [scene.with_thing(i, **{field: v}) for i in range(len(scene.things)) for v in values]


def _of_scene(field: str, *values: object) -> Callable[[Scene], list[Scene]]:
    """Edits that give the scene each of the values."""
    return lambda scene: [replace(scene, **{field: v}) for v in values]


def _swapped(field: str) -> Callable[[Scene], list[Scene]]:
    def edited(scene: Scene) -> list[Scene]:
        first, second = (getattr(thing, field) for thing in scene.things)
        return [scene.with_thing(0, **{field: second}).with_thing(1, **{field: first})]

    return edited


def _replaced_object(scene: Scene) -> list[Scene]:
    present = {thing.noun for thing in scene.things}
    return _of_things("noun", *(noun for noun in world.THINGS if noun not in present))(scene)


def _added_object(scene: Scene) -> list[Scene]:
    thing = scene.things[0]
    return [
        replace(scene, things=(thing, Thing(noun, colour, material=material)), relation=relation)
        for noun, colour, material, relation in product(world.THINGS, world.COLOURS, world.MATERIALS, world.RELATIONS)
        if noun != thing.noun
    ]


# axis -> the scenes that an edit along it may lead to
_EDITED: dict[str, Callable[[Scene], list[Scene]]] = {
    "replace_object": _replaced_object,
    "replace_colour": _of_things("colour", *world.COLOURS),
    "replace_size": lambda scene: [scene.with_thing(0, size=size) for size in ("small", "big")],
    "replace_material": _of_things("material", "plain"),
    "replace_count": _of_scene("count", 2, 3),
    "replace_relation": _of_scene("relation", *world.RELATIONS),
    "replace_position": _of_scene("position", *world.POSITIONS[1:]),
    "replace_background": _of_scene("background", *world.BACKGROUNDS),
    "replace_lighting": _of_scene("lighting", *world.LIGHTINGS),
    "replace_weather": _of_scene("weather", *world.WEATHERS[1:]),
    "swap_object": _swapped("noun"),
    "swap_attribute": _swapped("colour"),
    "add_object": _added_object,
    "add_attribute": _of_things("material", "striped"),
}
assert _EDITED.keys() == edits.CATEGORY.keys()
