"""Edits of a scene along one axis, by which a hard negative differs from its positive.

Every edit belongs to a SugarCrepe category (replace / swap / add x object / attribute / relation,
RAIVNLab/sugar-crepe) and is one of the semantic axes of a run. An edit never turns a seen scene into a reserved one or
the reverse, so that hard negatives stay in the split of their positives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from polygen_stream.micro import world
from polygen_stream.micro.world import Scene, Thing, is_reserved

T = TypeVar("T")

# edit -> SugarCrepe category. The edits are the axes that the ledger draws.
CATEGORY = {
    "replace_object": "replace_obj",
    "replace_colour": "replace_att",
    "replace_size": "replace_att",
    "replace_material": "replace_att",
    "replace_count": "replace_att",
    "replace_relation": "replace_rel",
    "replace_position": "replace_rel",
    "replace_background": "replace_obj",
    "replace_lighting": "replace_att",
    "replace_weather": "replace_att",
    "swap_object": "swap_obj",
    "swap_attribute": "swap_att",
    "add_object": "add_obj",
    "add_attribute": "add_att",
}
EDITS = tuple(CATEGORY)


class EditDoesNotApply(ValueError):
    """The scene has nothing that the edit can change."""


def apply_edit(scene: Scene, edit: str, rng: np.random.Generator) -> Scene:
    """Return the scene after one random edit, in the same split.

    Args:
        scene: the scene before the edit.
        edit: one of `EDITS`.
        rng: random generator.

    Raises:
        EditDoesNotApply: the scene lacks what the edit changes (a swap needs two things), or no edited scene that was
            tried is in the same split.
    """
    for _ in range(20):
        edited = _APPLY[edit](scene, rng)
        if edited != scene and is_reserved(edited) == is_reserved(scene):
            return edited
    raise EditDoesNotApply(f"{edit} finds no scene in the split of {scene}")


def applicable_scene(
    edit: str, split: world.Split, rng: np.random.Generator, noun: str | None = None
) -> tuple[Scene, Scene]:
    """Draw a random scene that the edit applies to.

    Args:
        edit: one of `EDITS`.
        split: the split to draw from.
        rng: random generator.
        noun: the first thing; None for a random one.

    Returns:
        The scene and the edited scene.
    """
    while True:
        scene = world.sample_scene(rng, split, noun)
        try:
            return scene, apply_edit(scene, edit, rng)
        except EditDoesNotApply:
            continue


def _other(rng: np.random.Generator, options: tuple[T, ...], *current: T) -> T:
    """Draw one of the options that is not current."""
    others = [o for o in options if o not in current]
    return others[int(rng.integers(len(others)))]


def _require(condition: bool, missing: str) -> None:
    if not condition:
        raise EditDoesNotApply(missing)


def _index(scene: Scene, rng: np.random.Generator) -> int:
    return int(rng.integers(len(scene.things)))


def _replace_object(scene: Scene, rng: np.random.Generator) -> Scene:
    return scene.with_thing(_index(scene, rng), noun=_other(rng, world.THINGS, *(t.noun for t in scene.things)))


def _replace_colour(scene: Scene, rng: np.random.Generator) -> Scene:
    return scene.with_thing(_index(scene, rng), colour=_other(rng, world.COLOURS, *(t.colour for t in scene.things)))


def _replace_size(scene: Scene, rng: np.random.Generator) -> Scene:
    _require(scene.things[0].size != "medium" and scene.position == "centre", "no named size")
    return scene.with_thing(0, size=_other(rng, ("small", "big"), scene.things[0].size))


def _replace_material(scene: Scene, rng: np.random.Generator) -> Scene:
    index = next((i for i, t in enumerate(scene.things) if t.material != "plain"), None)
    _require(index is not None, "no named material")
    return scene.with_thing(index or 0, material="plain")


def _replace_count(scene: Scene, rng: np.random.Generator) -> Scene:
    _require(scene.count > 1, "one thing only")
    return replace(scene, count=_other(rng, (2, 3), scene.count))


def _replace_relation(scene: Scene, rng: np.random.Generator) -> Scene:
    _require(scene.is_pair, "no relation")
    return replace(scene, relation=_other(rng, world.RELATIONS, scene.relation))


def _replace_position(scene: Scene, rng: np.random.Generator) -> Scene:
    _require(scene.position != "centre", "no named position")
    return replace(scene, position=_other(rng, world.POSITIONS, "centre", scene.position))


def _replace_background(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, background=_other(rng, world.BACKGROUNDS, scene.background))


def _replace_lighting(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, lighting=_other(rng, world.LIGHTINGS, scene.lighting))


def _replace_weather(scene: Scene, rng: np.random.Generator) -> Scene:
    _require(scene.weather != "clear", "no named weather")
    return replace(scene, weather=_other(rng, world.WEATHERS, scene.weather, "clear"))


def _swap_object(scene: Scene, rng: np.random.Generator) -> Scene:
    """Swap the nouns; colours stay in their places."""
    _require(scene.is_pair, "one thing only")
    first, second = scene.things
    return scene.with_thing(0, noun=second.noun).with_thing(1, noun=first.noun)


def _swap_attribute(scene: Scene, rng: np.random.Generator) -> Scene:
    """Swap the colours; nouns stay in their places."""
    _require(scene.is_pair, "one thing only")
    first, second = scene.things
    return scene.with_thing(0, colour=second.colour).with_thing(1, colour=first.colour)


def _add_object(scene: Scene, rng: np.random.Generator) -> Scene:
    _require(not scene.is_pair and scene.count == 1 and scene.position == "centre", "no room for another thing")
    _require(scene.things[0].size == "medium", "a named size would change too")
    thing = scene.things[0]
    other = Thing(_other(rng, world.THINGS, thing.noun), _other(rng, world.COLOURS, thing.colour))
    return replace(scene, things=(thing, other), relation=_other(rng, world.RELATIONS))


def _add_attribute(scene: Scene, rng: np.random.Generator) -> Scene:
    plain = [i for i, t in enumerate(scene.things) if t.material == "plain"]
    _require(bool(plain), "every thing has its attribute")
    return scene.with_thing(plain[int(rng.integers(len(plain)))], material="striped")


_APPLY: dict[str, Callable[[Scene, np.random.Generator], Scene]] = {
    "replace_object": _replace_object,
    "replace_colour": _replace_colour,
    "replace_size": _replace_size,
    "replace_material": _replace_material,
    "replace_count": _replace_count,
    "replace_relation": _replace_relation,
    "replace_position": _replace_position,
    "replace_background": _replace_background,
    "replace_lighting": _replace_lighting,
    "replace_weather": _replace_weather,
    "swap_object": _swap_object,
    "swap_attribute": _swap_attribute,
    "add_object": _add_object,
    "add_attribute": _add_attribute,
}
assert _APPLY.keys() == CATEGORY.keys()
