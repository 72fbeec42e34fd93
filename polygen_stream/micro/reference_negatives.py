"""Every hard negative that the grammar could write of a caption: the independent answer to what validators accept."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from polygen_stream.micro import world
from polygen_stream.micro.grammar import OPENING, Style, describe
from polygen_stream.micro.language import CaptionPair
from polygen_stream.micro.world import Scene, Thing


def reference_negatives(drawn: CaptionPair, axis: str) -> set[str]:
    """Hard negatives along the axis, in every wording that would also have written the caption itself."""
    styles = [style for style in _styles(drawn.style) if describe(drawn.scene, style) == drawn.text]
    edited = [scene for scene in _edits(drawn.scene, axis) if scene != drawn.scene]
    return {describe(scene, style) for scene in edited for style in styles} - {drawn.text}


def _styles(style: Style) -> list[Style]:
    """What a caption does not show of its wording, its negative may: which synonym, whether settings come first."""
    return [
        replace(style, opening=opening, synonym=synonym, fronted=fronted)
        for opening, synonym, fronted in product(range(len(OPENING)), range(6), (False, True))
    ]


def _edits(scene: Scene, axis: str) -> list[Scene]:
    things = range(len(scene.things))
    match axis:
        case "replace_object":
            present = {t.noun for t in scene.things}
            return [scene.with_thing(i, noun=n) for i in things for n in world.THINGS if n not in present]
        case "replace_colour":
            return [scene.with_thing(i, colour=c) for i in things for c in world.COLOURS]
        case "replace_size":
            return [scene.with_thing(0, size=s) for s in ("small", "big")]
        case "replace_material":
            return [scene.with_thing(i, material="plain") for i in things]
        case "add_attribute":
            return [scene.with_thing(i, material="striped") for i in things]
        case "replace_count":
            return [replace(scene, count=n) for n in (2, 3)]
        case "replace_relation":
            return [replace(scene, relation=r) for r in world.RELATIONS]
        case "replace_position":
            return [replace(scene, position=p) for p in world.POSITIONS[1:]]
        case "replace_background":
            return [replace(scene, background=b) for b in world.BACKGROUNDS]
        case "replace_lighting":
            return [replace(scene, lighting=v) for v in world.LIGHTINGS]
        case "replace_weather":
            return [replace(scene, weather=w) for w in world.WEATHERS[1:]]
        case "swap_object" | "swap_attribute":
            field = "noun" if axis == "swap_object" else "colour"
            first, second = (getattr(t, field) for t in scene.things)
            return [scene.with_thing(0, **{field: second}).with_thing(1, **{field: first})]
        case "add_object":
            thing = scene.things[0]
            return [
                replace(scene, things=(thing, Thing(noun, colour, material=material)), relation=relation)
                for noun, colour, material, relation in product(
                    world.THINGS, world.COLOURS, world.MATERIALS, world.RELATIONS
                )
                if noun != thing.noun
            ]
    raise AssertionError(axis)
