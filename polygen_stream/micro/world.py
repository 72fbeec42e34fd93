"""Scenes of the micro world: what a small image can show.

A `Scene` is a complete description of one image: the grammar writes captions of it, the painter paints it, the edits
change one axis of it. One scene in ten is *reserved* for evaluation, by a hash of its (thing, attribute, relation,
thing) combinations. No painted image that a generator is trained on shows a reserved scene, and no caption that a
generator, a language model or CLIP is trained on names a reserved combination. CLIP may see one all the same: where a
caption leaves colour or background open, a generator fills it in as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import TypeVar

import numpy as np

from polygen_stream.base.seeding import key

T = TypeVar("T")

THINGS = (
    "house", "tree", "fish", "car", "cup", "star", "key", "heart", "moon", "boat", "flower", "bird",
    "umbrella", "mushroom", "hat", "bell", "arrow", "apple", "cat", "lamp", "leaf", "crown", "ball", "candle",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
SIZES = ("small", "medium", "big")
MATERIALS = ("plain", "striped")
COUNTS = (1, 2, 3)
POSITIONS = ("centre", "left", "right", "top", "bottom")
RELATIONS = ("left of", "right of", "above", "below")
BACKGROUNDS = ("meadow", "beach", "snow", "sea", "wall", "desert")
LIGHTINGS = ("day", "night")
WEATHERS = ("clear", "rain", "snowfall")

INVERSE_RELATION = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RESERVED_SHARE = 0.1


@dataclass(frozen=True)
class Thing:
    """An object in a scene."""

    noun: str
    colour: str
    size: str = "medium"
    material: str = "plain"


@dataclass(frozen=True)
class Scene:
    """The content of an image.

    Attributes:
        things: one thing, or a pair of things.
        background: one of `BACKGROUNDS`.
        relation: of a pair, such that "things[0] relation things[1]", e.g. "left of"; None for one thing.
        count: number of copies of one thing.
        position: where one copy of one thing is; "centre" otherwise.
        lighting: one of `LIGHTINGS`.
        weather: one of `WEATHERS`.
    """

    things: tuple[Thing, ...]
    background: str
    relation: str | None = None
    count: int = 1
    position: str = "centre"
    lighting: str = "day"
    weather: str = "clear"

    def __post_init__(self) -> None:
        assert len(self.things) in (1, 2)
        assert (self.relation is not None) == (len(self.things) == 2)
        assert self.count == 1 or len(self.things) == 1

    @property
    def is_pair(self) -> bool:
        """Whether the scene has two things."""
        return len(self.things) == 2

    def with_thing(self, index: int, **changes: str) -> Scene:
        """Return the scene with fields of one thing replaced.

        Args:
            index: which thing, 0 or 1.
            **changes: new values of fields of `Thing`.
        """
        things = list(self.things)
        things[index] = replace(things[index], **changes)
        return replace(self, things=tuple(things))


class Split(Enum):
    """The two disjoint sets of scenes: those that training captions may name, and the reserved ones."""

    SEEN = "seen"
    UNSEEN = "unseen"


def canonical(scene: Scene) -> Scene:
    """Return the equivalent scene with the left or upper thing of a pair first."""
    if scene.relation not in ("right of", "below"):
        return scene
    return replace(scene, things=scene.things[::-1], relation=INVERSE_RELATION[scene.relation])


def combinations(scene: Scene) -> tuple[tuple[str, ...], ...]:
    """Return the (thing, attribute, relation, thing) combinations of a scene.

    A pair begins with its left or upper thing, so that "a above b" and "b below a" are the same combination. One thing
    is combined with its background.
    """
    if not scene.is_pair:
        thing = scene.things[0]
        return ((thing.noun, thing.colour, "on", scene.background),)
    scene = canonical(scene)
    first, second = scene.things
    assert scene.relation is not None
    return ((first.noun, first.colour, scene.relation, second.noun),)


@lru_cache(maxsize=65536)
def _is_reserved_combination(combination: tuple[str, ...]) -> bool:
    return key("micro-world reserved", *combination) / 2**64 < RESERVED_SHARE


def is_reserved(scene: Scene) -> bool:
    """Return whether any combination of the scene is reserved for evaluation."""
    return any(_is_reserved_combination(c) for c in combinations(scene))


def sample_scene(rng: np.random.Generator, split: Split | None = Split.SEEN, noun: str | None = None) -> Scene:
    """Draw a random scene.

    Args:
        rng: random generator.
        split: the split to draw from; None for both.
        noun: the first thing; None for a random one.
    """
    while True:
        scene = _propose(rng, noun)
        if split is None or is_reserved(scene) == (split is Split.UNSEEN):
            return scene


def sample_single(rng: np.random.Generator, split: Split, noun: str) -> Scene:
    """Draw a scene with one thing in daylight and clear weather, as zero-shot classification needs.

    Args:
        rng: random generator.
        split: the split to draw from.
        noun: the thing.
    """
    while True:
        thing = Thing(noun, _pick(rng, COLOURS), _pick(rng, ("medium", "big")))
        scene = Scene((thing,), _pick(rng, BACKGROUNDS))
        if is_reserved(scene) == (split is Split.UNSEEN):
            return scene


def _propose(rng: np.random.Generator, noun: str | None) -> Scene:
    noun = noun or _pick(rng, THINGS)
    background = _pick(rng, BACKGROUNDS)
    lighting = "night" if rng.random() < 0.15 else "day"
    weather = _pick(rng, ("rain", "snowfall")) if rng.random() < 0.2 else "clear"
    thing = Thing(noun, _pick(rng, COLOURS), material="striped" if rng.random() < 0.15 else "plain")
    scene = Scene((thing,), background, lighting=lighting, weather=weather)
    layout = rng.random()
    if layout < 0.40:  # two things
        other = Thing(
            _pick(rng, [n for n in THINGS if n != noun]),
            _pick(rng, [c for c in COLOURS if c != thing.colour]),
            material="striped" if rng.random() < 0.1 else "plain",
        )
        return replace(scene, things=(thing, other), relation=_pick(rng, RELATIONS))
    if layout < 0.55:  # several copies of one thing
        return replace(scene, count=int(rng.integers(2, 4)))
    if layout < 0.70:  # one small or medium thing at an edge
        thing = replace(thing, size=_pick(rng, ("small", "medium")))
        return replace(scene, things=(thing,), position=_pick(rng, POSITIONS[1:]))
    return replace(scene, things=(replace(thing, size=_pick(rng, SIZES)),))


def _pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]
